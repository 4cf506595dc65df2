"""Three kinds of log as schemas, batches of them, and small models over them.

A batch is what a model reads: indices, normalised numbers and masks, as NumPy arrays.
"""

from dataclasses import dataclass, field

import keras
import numpy as np

from ctr_tf import registry
from ctr_tf.config_base import SettingError
from ctr_tf.models.model import CTRModel
from ctr_tf.models.widths import check_model
from ctr_tf.schema import CANDIDATES_MASK, Schema, Text
from tests.weights import randomise

RATING = {"dtype": "int", "encoding": "identity", "size": 5}
TASKS = {"click": {"column": "click"}, "buy": {"column": "buy"}}

FULL = Schema(
    keys={"user": "user", "time": "time", "item": "item_id"},
    features={
        "age": {"kind": "numeric", "side": "user"},
        "city": {"kind": "categorical", "side": "user"},
        "interests": {"kind": "categorical", "side": "user", "multi": True, "combiner": "sqrtn"},
        "hour": {"kind": "categorical", "side": "context"},
        "page": {"kind": "categorical", "side": "context"},
        "item_id": {"kind": "categorical"},
        "genres": {"kind": "categorical", "multi": True},
        "price": {"kind": "numeric"},
        "poster": {"kind": "vector", "table": "posters.npz", "width": 3},
        "title": {"kind": "text", "combiner": "sum"},
    },
    sequences={
        "history": {
            "attributes": {"item_id": {}, "rating": {"encoder": RATING}, "genres": {}},
            "timestamps": True,
        }
    },
    tasks=TASKS,
)
CRITEO = Schema(
    features={
        **{f"i{n}": {"kind": "numeric"} for n in range(3)},
        **{f"c{n}": {"kind": "categorical"} for n in range(4)},
    },
    tasks={"click": {"column": "label"}},
)
CENSUS = Schema(
    features={
        "age": {"kind": "numeric", "side": "user"},
        "education": {"kind": "categorical", "side": "user"},
        "industry": {"kind": "categorical", "side": "user"},
    },
    tasks={"income": {"column": "income"}, "married": {"column": "married"}},
)


@dataclass(frozen=True)
class Case:
    """A kind of log.

    Args:
        schema: of the log.
        rows: of each encoder's table.
        candidates: the most candidates of a request.
        vectors: cached tables.
    """

    schema: Schema
    rows: dict[str, int]
    candidates: int
    vectors: dict[str, np.ndarray] = field(default_factory=dict)


CASES = {
    "full": Case(
        FULL,
        {
            "city": 4,
            "interests": 6,
            "hour": 5,
            "page": 3,
            "item_id": 9,
            "genres": 7,
            "title": 8,
            "history_rating": 6,
        },
        candidates=4,
        vectors={"poster": np.linspace(-1, 1, 15, dtype="float32").reshape(5, 3)},
    ),
    "criteo": Case(CRITEO, {f"c{n}": 6 for n in range(4)}, candidates=1),
    "census": Case(CENSUS, {"education": 5, "industry": 6}, candidates=1),
}

SMALL = {
    "embedding": {"width": 4},
    "units": [6, 5],
    "attention_units": [5, 3],
    "encoder": {
        "width": 6,
        "heads": 2,
        "feed_forward": 7,
        "positions": 4,
        "activation": "relu",
        "dropout": 0.0,
        "use_bias": False,
    },
    "batch_norm": True,
    "cin_units": [4, 3],
    "attention_width": 3,
    "first_units": [6, 4],
    "second_units": [5, 6],
    "fusion_heads": 2,
    "gate_units": [4],
    "attention_heads": 2,
    "feed_forward": 7,
    "positions": 9,
    "position_width": 4,
    "length": 6,
    "gap": 100,
    "sessions": 3,
    "session_length": 3,
    "lstm": 3,
    "feed_width": 3,
    "micro_units": [3, 2],
    "folded_units": [5, 3],
    "part_width": 6,
}
# Options that change how a model computes: name to registered name and settings.
VARIANTS = {
    "bst_mean": ("bst", {"pool": "mean", "blocks": 2, "position_width": 0}),
    "bst_target": ("bst", {"pool": "target"}),
    "can_folded": ("can", {"folded": True, "pool": "inputs"}),
    "can_pairs": ("can", {"pair_independent": True, "order_independent": True, "base": "mlp"}),
    "dcn_v2_experts": ("dcn_v2", {"rank": 2, "experts": 3}),
    "dien_aigru": ("dien", {"recurrence": "aigru"}),
    "dien_agru": ("dien", {"recurrence": "agru", "auxiliary": 0.0}),
    "dien_gru": ("dien", {"recurrence": "gru"}),
    "din_folded": ("din", {"folded": True}),
    "finalmlp_context": ("finalmlp", {"first_gate": "context", "second_gate": "learned"}),
    "fwfm_field_vectors": ("fwfm", {"linear": "field_vectors"}),
    "pnn_both": ("pnn", {"product": "both"}),
    "pnn_kernel": ("pnn", {"product": "kernel"}),
    "srp4ctr_mean": (
        "srp4ctr",
        {"queries": 0, "encoder": {**SMALL["encoder"], "input_norm": True}},
    ),
    "srp4ctr_own": ("srp4ctr", {"freeze": True, "own_tables": True}),
    "srp4ctr_patch": ("srp4ctr", {"queries": 0, "uni_attention": "none", "patch": 3}),
    "srp4ctr_tied": ("srp4ctr", {"uni_attention": "tied", "query_features": ["city"]}),
}

# A multi-task network of each kind, over tasks of FULL.
HEADS = {
    "shared_bottom": {"units": [6, 5], "tower_units": [4]},
    "mmoe": {"experts": 3, "expert_units": [6, 5], "tower_units": [4]},
    "ple": {
        "levels": 2,
        "task_experts": 2,
        "shared_experts": 1,
        "expert_units": [5],
        "tower_units": [4],
        # All units of a narrow ReLU can be inactive, and its task's logits then one number.
        "activation": "tanh",
    },
    "esmm": {"tower_units": [6, 5]},
}
HEADS = {kind: {"kind": kind, **given} for kind, given in HEADS.items()}


def is_defined(name, schema):
    """Whether that architecture is defined over logs of that schema."""
    try:
        check_model(schema, registry.get(name).config(name=name))
    except SettingError:
        return False
    return True


def small_config(name, **given):
    """The configuration of that architecture, with small layers where it has such fields."""
    name, settings = VARIANTS.get(name, (name, {}))
    given = {**settings, **given}
    config = registry.get(name).config
    small = {key: value for key, value in SMALL.items() if key in config.model_fields}
    return config(**{"name": name, **small, **given})


def build(name, case, rng, **given):
    """A small model over that kind of log, every weight random."""
    keras.utils.set_random_seed(3)
    case = CASES[case]
    model = CTRModel(case.schema, small_config(name, **given), case.rows, case.vectors)
    return randomise(model, rng)


def make(pair, rng):
    """`build` of an architecture, a kind of log and, where there is a third, a kind of heads."""
    name, case, *kinds = pair
    return build(name, case, rng, **({"heads": HEADS[kinds[0]]} if kinds else {}))


def batch(case, rng, requests=5, behaviours=5, values=3, filled=False):
    """A padded batch; without `filled` its second request has no behaviour.

    Args:
        case: name of the kind of log.
        rng: generator.
        requests, behaviours, values: sizes B, L and M.
        filled: whether every position of every axis is taken.
    """
    case = CASES[case]
    sizes = {"B": requests, "N": case.candidates, "L": behaviours, "M": values}

    def valid(axis, lowest):
        lengths = rng.integers(lowest, sizes[axis] + 1, requests)
        lengths[0] = sizes[axis]
        if axis == "L":
            lengths[1] = 0
        if filled:
            lengths[:] = sizes[axis]
        return np.arange(sizes[axis]) < lengths[:, None]

    masks = {"N": valid("N", 1), "L": valid("L", 1)}
    features = {}
    for spec in case.schema.inputs:
        axes = feature_axes(case.schema, spec)
        shape = tuple(sizes[axis] for axis in axes)
        if spec.dtype == "bool":
            features[spec.name] = masks[axes[1]]
        elif spec.dtype == "float32":
            features[spec.name] = rng.normal(size=shape).astype("float32")
        elif spec.feature is None:
            features[spec.name] = rng.integers(1, 1000, shape).astype("int32")
        else:
            encoder = case.schema.encoder(spec.feature, spec.sequence)
            count = case.rows.get(encoder) or len(case.vectors[encoder])
            index = rng.integers(1, count, shape)
            if axes[-1] == "M":
                # Some values of each list, none in some lists, are missing.
                lengths = rng.integers(1 if filled else 0, sizes["M"] + 1, shape[:-1])
                index = np.where(np.arange(sizes["M"]) < lengths[..., None], index, 0)
            features[spec.name] = index.astype("int32")
        for axis, mask in masks.items():
            if axis in axes and spec.dtype != "bool":
                keep = mask.reshape(mask.shape + (1,) * (len(axes) - 2))
                features[spec.name] = np.where(keep, features[spec.name], 0)
                features[spec.name] = features[spec.name].astype(
                    "float32" if spec.dtype == "float32" else "int32"
                )
    return features


def feature_axes(schema, spec):
    """The axes of an input once preprocessed: text has become words."""
    text = spec.sequence is None and isinstance(schema.features.get(spec.feature), Text)
    return spec.axes + ("M",) * text


def tile(case, features):
    """Row-wise: each candidate as a request of its own, with its user side; and their positions."""
    positions = np.argwhere(features[CANDIDATES_MASK])
    b, n = positions.T
    return {
        spec.name: (
            features[spec.name][b, n][:, None] if "N" in spec.axes else features[spec.name][b]
        )
        for spec in CASES[case].schema.inputs
    }, positions


def labels_of(case, features, rng):
    """Random labels (B, N) of each task."""
    shape = features[CANDIDATES_MASK].shape
    return {task: rng.integers(0, 2, shape).astype("float32") for task in CASES[case].schema.tasks}
