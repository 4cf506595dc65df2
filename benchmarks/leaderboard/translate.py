"""Our configurations as the constructor arguments of the other library's models."""

from __future__ import annotations

from ctr_tf.config import Experiment
from ctr_tf.optimizers.config import OptimizerConfig, TableOptimizerConfig


def peer_arguments(experiment: Experiment) -> dict:
    """The constructor arguments of FuxiCTR's model that say what our configuration says.

    Raises:
        ValueError: the configuration has what that model has no equal of.
    """
    model, train = experiment.model, experiment.train
    own = {
        "model.embedding.l2": model.embedding.l2 == 0,
        "model.embedding.tables": not model.embedding.tables,
        "model.rank": getattr(model, "rank", None) is None,
        "train.dense": train.dense == OptimizerConfig(),
        "train.tables": train.tables in (None, TableOptimizerConfig(rows="all")),
        "train.accumulate_steps": train.accumulate_steps == 1,
        "train.early_stopping": train.early_stopping is None,
        "train.validate_every": train.validate_every is None,
    }
    for key, same in own.items():
        if not same:
            raise ValueError(f"{key}: must be the default, which both sides have")
    arguments = {
        "embedding_dim": model.embedding.width,
        "dnn_activations": model.activation,
        "net_dropout": model.dropout,
    }
    if model.name == "din":
        return arguments | {
            "dnn_hidden_units": model.units,
            "attention_hidden_units": model.attention_units,
            "attention_hidden_activations": model.attention_activation,
            "din_use_softmax": model.softmax,
        }
    return arguments | {
        "model_structure": model.structure,
        f"{'parallel' if model.structure == 'parallel' else 'stacked'}_dnn_hidden_units": (
            model.units
        ),
        "num_cross_layers": model.cross_layers,
        "batch_norm": model.batch_norm,
    }
