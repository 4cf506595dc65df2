"""Our configurations as what FuxiCTR's models are made and trained with; PyTorch is not needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ctr_tf.config import Experiment
from ctr_tf.models.config import ModelConfig
from ctr_tf.optimizers.config import OptimizerConfig, TableOptimizerConfig
from ctr_tf.training.config import TrainConfig

Argument = str | Callable[[ModelConfig], str]

DEEP: dict[str, Argument] = {
    "units": "hidden_units",
    "activation": "hidden_activations",
    "batch_norm": "batch_norm",
    "dropout": "dropout_rates",
}
# Of DIN, DIEN and DCN-v2 of the wheel.
PACKAGED: dict[str, Argument] = {"activation": "dnn_activations", "dropout": "net_dropout"}

MODELS: dict[str, dict[str, Argument]] = {
    "autoint": DEEP
    | {
        "interacting_layers": "attention_layers",
        "attention_heads": "num_heads",
        "attention_width": "head_dim",
        "residual": "use_residual",
        "scaled": "use_scale",
    },
    "dcn": DEEP | {"cross_layers": "num_layers"},
    "dcn_v2": PACKAGED
    | {
        "structure": "model_structure",
        "cross_layers": "num_cross_layers",
        "units": lambda model: f"{model.structure}_dnn_hidden_units",
        "batch_norm": "batch_norm",
    },
    "deepfm": DEEP,
    "dien": PACKAGED | {"units": "dnn_hidden_units", "recurrence": "gru_type"},
    "din": PACKAGED
    | {
        "units": "dnn_hidden_units",
        "attention_units": "attention_hidden_units",
        "attention_activation": "attention_hidden_activations",
        "softmax": "din_use_softmax",
    },
    "fibinet": DEEP
    | {
        "bilinear": "bilinear_type",
        "reduction": "reduction_ratio",
        "importance": "excitation_activation",
    },
    "finalmlp": {key: DEEP[key] for key in ("activation", "batch_norm", "dropout")}
    | {
        "first_units": "mlp1_hidden_units",
        "second_units": "mlp2_hidden_units",
        "first_gate": "fs1_context",
        "second_gate": "fs2_context",
        "gate_units": "fs_hidden_units",
        "fusion_heads": "num_heads",
    },
    "flat_dnn": DEEP,
    "fm": {},
    "fmfm": {},
    "fwfm": {},
    "pnn": DEEP,
    "wide_deep": DEEP,
    "xdeepfm": DEEP | {"cin_units": "cin_hidden_units"},
}
"""Of each model, our keys and the peer's arguments."""

ACTIVATIONS = {name: name for name in ("relu", "prelu", "dice", "sigmoid", "tanh")}
GATES = {"user": "user", "candidate": "item"}
VALUES: dict[str, dict[str, str]] = {
    "hidden_activations": ACTIVATIONS,
    "dnn_activations": ACTIVATIONS,
    "attention_hidden_activations": ACTIVATIONS,
    "bilinear_type": {kind: f"field_{kind}" for kind in ("all", "each", "interaction")},
    "excitation_activation": {"relu": "ReLU", "sigmoid": "Sigmoid"},
    "fs1_context": GATES,
    "fs2_context": GATES,
    "gru_type": {kind: kind.upper() for kind in ("gru", "agru", "augru")},
}
"""Of the peer's arguments, our values and the peer's, where not all are equal in name."""

FIXED: dict[str, dict[str, list]] = {
    # It has no auxiliary loss.
    "dien": {"auxiliary": [0.0]},
    # It has biases; the published equation, which is our default, has none.
    "xdeepfm": {"cin_bias": [True, False]},
}
"""Of keys without an argument, the values that the peer's model stands beside; our default
elsewhere."""

CONSTANT: dict[str, dict[str, Any]] = {
    # Its default is not ours.
    "dien": {"batch_norm": False},
}
"""Of each model, the peer's arguments of which our configuration has no key."""


def peer_arguments(experiment: Experiment) -> dict[str, Any]:
    """The constructor arguments of the peer's model that say what our configuration says.

    Raises:
        ValueError: the configuration has what that model has no equal of.
    """
    model = experiment.model
    if model.name not in MODELS:
        raise ValueError(
            f"model.name: the peer runs {', '.join(sorted(MODELS))}; there is no {model.name!r}"
        )
    embedding = model.embedding
    _check("model.embedding.l2", embedding.l2, [0.0])
    _check("model.embedding.dtype", embedding.dtype, ["float32"])
    _check("model.embedding.tables", embedding.tables, [{}])
    table, fixed = MODELS[model.name], FIXED.get(model.name, {})
    arguments = {"embedding_dim": embedding.width, **CONSTANT.get(model.name, {})}
    for key, field in type(model).model_fields.items():
        value = getattr(model, key)
        if key in table:
            argument = table[key] if isinstance(table[key], str) else table[key](model)
            values = VALUES.get(argument)
            if values is not None:
                _check(f"model.{key}", value, list(values))
                value = values[value]
            arguments[argument] = value
        elif key not in ("name", "embedding"):
            default = field.get_default(call_default_factory=True)
            _check(f"model.{key}", value, fixed.get(key, [default]))
    return arguments


def peer_training(train: TrainConfig) -> dict[str, Any]:
    """What of a run's training the peer is told besides; `fuxictr_run.py` says what it means.

    Raises:
        ValueError: the configuration has what the peer has no equal of.

    Example:
        >>> train = TrainConfig(seed=1, validate_every=205, early_stopping={"patience": 3})
        >>> found = peer_training(train)
        >>> found["seed"], found["validate_every"], found["patience"]
        (1, 205, 3)
    """
    _check("train.dense", train.dense, [OptimizerConfig()])
    _check("train.tables", train.tables, [None, TableOptimizerConfig(rows="all")])
    _check("train.accumulate_steps", train.accumulate_steps, [1])
    _check("train.precision", train.precision, ["float32"])
    _check("train.task_weights", train.task_weights, [{}])
    stopping = train.early_stopping
    if stopping:
        _check("train.early_stopping.metric", stopping.metric, ["auc"])
        _check("train.early_stopping.min_delta", stopping.min_delta, [0.0])
    return {
        "seed": train.seed,
        "epochs": train.epochs,
        "max_steps": train.max_steps,
        "learning_rate": train.learning_rate,
        "validate_every": train.validate_every,
        "patience": stopping.patience if stopping else None,
    }


def _check(key: str, value: Any, known: list) -> None:
    if value not in known:
        raise ValueError(
            f"{key}: the peer has no equal of {value!r}; use {' or '.join(map(repr, known))}"
        )
