"""FuxiCTR's models on the rows of `golden`; runs in that library's environment.

The models are the leaderboard's: those of the package, and those put together of its layers, which
run over the fields of every side, without behaviours, and whole, with behaviours.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import fuxictr
import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import FeatureEmbeddingDict
from fuxictr.pytorch.models import BaseModel
from model_zoo.LongCTR import FinalMLP
from torch import nn

from benchmarks.leaderboard.fuxictr_models import NETWORKS, PACKAGED, Assembled, Fields, Network
from benchmarks.parity import golden
from benchmarks.parity.golden import COMPARED, FIELDS, REQUESTS, WIDTH

VERSIONS = f"fuxictr {fuxictr.__version__}, torch {torch.__version__.partition('+')[0]}"
# Fields and their sources: of every side; as the packaged models take them, which compare the
# fields of an item; as on the leaderboard, where one of these is of behaviours alone.
SIDES = {"gender": "user", "city": "user", "hour": "context"}
SIDES |= {name: "item" for name in ("item", "category", "brand")}
COMPARING = {name: "user" for name in FIELDS if name not in COMPARED}
COMPARING |= {name: "item" for name in COMPARED}
BOARD = {"gender": "user", "city": "user", "item": "item", "category": "item"}


def feature_map(
    sources: Mapping[str, str], numeric: bool = False, of_behaviours: str | None = None
) -> FeatureMap:
    """The library's description of fields.

    Args:
        sources: of each field.
        numeric: whether the number is one.
        of_behaviours: the field that the candidate does not have.
    """
    found = FeatureMap("parity", "")
    found.labels, found.default_emb_dim = ["label"], WIDTH
    for name, source in sources.items():
        found.features[name] = {
            "source": source,
            "type": "categorical",
            "vocab_size": FIELDS[name],
            "padding_idx": 0,
            "behaviour": name == of_behaviours,
        }
    if numeric:
        found.features["price"] = {"source": "item", "type": "numeric"}
    found.num_fields = found.get_num_fields()
    return found


class Embedded(nn.Module):
    """A network of the leaderboard over the fields of every side, without behaviours.

    Args:
        network: the class.
        numeric: whether the number is a field.
        arguments: of the network.
    """

    def __init__(self, network: type[Network], numeric: bool, arguments: dict):
        super().__init__()
        self.feature_map = feature_map(SIDES, numeric)
        self.embedding = FeatureEmbeddingDict(self.feature_map, WIDTH)
        fields = Fields(self.feature_map, self.feature_map.num_fields, WIDTH)
        self.network = network(fields, **arguments)

    def forward(self, values):
        x = torch.stack(list(self.embedding(values).values()), dim=1)
        return self.network(values, x)


def whole(model: type[BaseModel], features: FeatureMap, **given) -> BaseModel:
    """A model of the library, whose output is a logit."""
    with tempfile.TemporaryDirectory() as folder:
        return model(
            features,
            task="regression",
            gpu=-1,
            optimizer="adam",
            loss="binary_crossentropy",
            metrics=["AUC"],
            learning_rate=1e-3,
            model_root=folder,
            verbose=0,
            embedding_dim=WIDTH,
            **given,
        )


def packaged(model: type[BaseModel], **given) -> BaseModel:
    """One of the package, over all fields and the behaviours."""
    return whole(model, feature_map(COMPARING), **given)


def with_behaviours(network: type[Network], arguments: dict) -> Assembled:
    """A network of the leaderboard in its model, over fields as the leaderboard has."""
    features = feature_map(BOARD, of_behaviours="category")
    return whole(Assembled, features, network=network, arguments=arguments)


DEEP = {"hidden_units": [6, 5], "hidden_activations": "tanh"}
INTERACTING = {
    "attention_layers": 2,
    "num_heads": 2,
    "head_dim": 3,
    "use_residual": True,
    "use_scale": False,
}
EXCITED = {"reduction_ratio": 3, "excitation_activation": "ReLU", **DEEP}
STREAMS = {
    "mlp1_hidden_units": [6, 4],
    "mlp2_hidden_units": [5, 6],
    "fs_hidden_units": [4],
    "num_heads": 2,
}
# File: network and its arguments.
ASSEMBLED: dict[str, tuple[str, dict]] = {
    "autoint": ("autoint", {"hidden_units": [], **INTERACTING}),
    "autoint_plus": ("autoint", {**DEEP, **INTERACTING, "use_scale": True}),
    "dcn": ("dcn", {"num_layers": 2, **DEEP}),
    "deepfm": ("deepfm", DEEP),
    "fibinet_all": ("fibinet", {"bilinear_type": "field_all", **EXCITED}),
    "fibinet_each": ("fibinet", {"bilinear_type": "field_each", **EXCITED}),
    "fibinet_interaction": (
        "fibinet",
        {**EXCITED, "bilinear_type": "field_interaction", "excitation_activation": "Sigmoid"},
    ),
    "finalmlp_gates": ("finalmlp", {"fs1_context": "user", "fs2_context": "item", **STREAMS}),
    # No field has that source: the gate reads a vector.
    "finalmlp_learned": ("finalmlp", {"fs1_context": "user", "fs2_context": "none", **STREAMS}),
    "flat_dnn": ("flat_dnn", DEEP),
    "fm": ("fm", {}),
    "fmfm": ("fmfm", {}),
    "fwfm": ("fwfm", {}),
    "pnn_inner": ("pnn", DEEP),
    "wide_deep": ("wide_deep", DEEP),
    "xdeepfm": ("xdeepfm", {"cin_hidden_units": [4, 3], **DEEP}),
}
# Ours multiply a number by a vector there, and take it as it is elsewhere.
NUMERIC = ("autoint", "deepfm", "fibinet", "fm", "fwfm", "pnn", "xdeepfm")

DICE = {
    "dnn_hidden_units": [6, 5],
    "dnn_activations": "Dice",
    "attention_hidden_units": [5, 3],
    "attention_hidden_activations": "Dice",
}
PARALLEL = {"parallel_dnn_hidden_units": [6, 5], "num_cross_layers": 2}
EVOLVING = {"dnn_hidden_units": [6, 5], "batch_norm": False}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "dcn_v2": partial(packaged, PACKAGED["dcn_v2"], **PARALLEL),
    "dcn_v2_experts": partial(
        packaged,
        PACKAGED["dcn_v2"],
        use_low_rank_mixture=True,
        low_rank=2,
        num_experts=3,
        **PARALLEL,
    ),
    "dcn_v2_stacked": partial(
        packaged,
        PACKAGED["dcn_v2"],
        model_structure="stacked",
        stacked_dnn_hidden_units=[6, 5],
        batch_norm=True,
        num_cross_layers=2,
    ),
    **{
        f"dien_{kind.lower()}": partial(packaged, PACKAGED["dien"], gru_type=kind, **EVOLVING)
        for kind in ("GRU", "AGRU", "AUGRU")
    },
    "dien_augru_biases": partial(packaged, PACKAGED["dien"], gru_type="AUGRU", **EVOLVING),
    "din": partial(packaged, PACKAGED["din"], **DICE),
    "din_softmax": partial(packaged, PACKAGED["din"], din_use_softmax=True, **DICE),
    # The package's own, beside the leaderboard's of its modules.
    "finalmlp": partial(packaged, FinalMLP, **STREAMS),
    **{
        title: partial(Embedded, NETWORKS[name], name in NUMERIC, arguments)
        for title, (name, arguments) in ASSEMBLED.items()
    },
    **{
        f"{title}_behaviours": partial(with_behaviours, NETWORKS[name], arguments)
        for title, (name, arguments) in ASSEMBLED.items()
    },
}


def weights_of(title: str, model: nn.Module) -> dict[str, np.ndarray]:
    """Draws and sets them: name to value."""
    found = {}
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        value = golden.draw(title, name, tensor.shape)
        if "_ctx_emb." in name:
            # A gate has tables of its own.
            value = found[f"embedding.{name.partition('_ctx_emb.embedding_layer.')[2]}"].copy()
        elif "embedding_layers" in name and "price" not in name:
            # Padding, which the library keeps so.
            value[0] = 0
        if "biases" not in title and name.endswith(("bias_hh_l0", "h2h.bias")):
            value[-len(value) // 3 :] = 0
        found[name] = value
    model.load_state_dict({name: torch.from_numpy(x) for name, x in found.items()}, strict=False)
    return found


def read(model: Embedded | BaseModel) -> object:
    """The batch as that model reads it: rows of fields, or (fields, behaviours and item, mask)."""
    of = {name: torch.from_numpy(value) for name, value in golden.rows(golden.batch()).items()}
    specs = model.feature_map.features
    if isinstance(model, Embedded):
        return {name: of[name] for name in specs}
    items = {}
    for name in COMPARED:
        candidate = torch.zeros_like(of[name]) if specs[name]["behaviour"] else of[name]
        items[name] = torch.cat([of[f"history_{name}"], candidate[:, None]], dim=1).reshape(-1)
    fields = {name: of[name] for name in specs if name not in COMPARED}
    return fields, items, of["history_item"] > 0


def main() -> None:
    """Writes a file for each model into the folder that is given."""
    folder = Path(sys.argv[1])
    for title, made in MODELS.items():
        model = made().eval()
        weights = weights_of(title, model)
        with torch.no_grad():
            logit = model(read(model))
        logit = logit["y_pred"] if isinstance(logit, dict) else logit
        outputs = {"logit/click": logit.numpy().reshape(REQUESTS, -1)}
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        path = folder / f"{title}.npz"
        golden.save(path, golden.batch(), weights, outputs, trained, VERSIONS)


if __name__ == "__main__":
    main()
