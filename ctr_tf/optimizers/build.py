"""From configuration to the optimiser of a model."""

from __future__ import annotations

import keras

from ctr_tf.models.model import CTRModel
from ctr_tf.optimizers.config import OptimizerConfig, TableOptimizerConfig
from ctr_tf.optimizers.groups import Group, GroupedOptimizer, variable_groups
from ctr_tf.optimizers.lazy_adam import LazyAdam
from ctr_tf.optimizers.schedule import WarmupPolynomial
from ctr_tf.optimizers.sparse_adagrad import RowWiseAdagrad, SparseAdagrad
from ctr_tf.optimizers.sparse_ftrl import SparseFtrl
from ctr_tf.optimizers.sparse_sgd import SparseSGD

_CLASSES = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "adagrad": keras.optimizers.Adagrad,
    "ftrl": keras.optimizers.Ftrl,
    "sgd": keras.optimizers.SGD,
}
_OF_TOUCHED_ROWS = {
    "adam": LazyAdam,
    "adamw": LazyAdam,
    "adagrad": SparseAdagrad,
    "row_wise_adagrad": RowWiseAdagrad,
    "ftrl": SparseFtrl,
    "sgd": SparseSGD,
}

Optimizer = GroupedOptimizer | keras.optimizers.LossScaleOptimizer


def keras_optimizer(config: OptimizerConfig, name: str) -> keras.optimizers.Optimizer:
    """The Keras optimiser of a resolved configuration, with its schedule.

    That of touched rows takes gradients whose rows are distinct.

    Args:
        config: see `OptimizerConfig.resolved`.
        name: what callbacks call it.

    Example:
        >>> optimizer = keras_optimizer(OptimizerConfig(name="sgd").resolved(0.5, 10), "dense")
        >>> optimizer.name, float(optimizer.learning_rate)
        ('dense', 0.5)
    """
    rate: float | WarmupPolynomial = config.learning_rate
    if config.warmup_steps or config.decay == "polynomial":
        rate = WarmupPolynomial(
            config.learning_rate,
            config.warmup_steps,
            config.decay_steps,
            config.end_learning_rate,
            config.power,
        )
    own = {"epsilon": config.epsilon} if config.epsilon else {}
    if isinstance(config, TableOptimizerConfig) and config.rows == "touched":
        own |= {"decay": config.weight_decay} if config.name == "adamw" else {}
        # The training step sums repeated rows.
        return _OF_TOUCHED_ROWS[config.name](learning_rate=rate, distinct=True, name=name, **own)
    own |= {"weight_decay": config.weight_decay} if config.name == "adamw" else {}
    return _CLASSES[config.name](learning_rate=rate, name=name, **own)


def build_optimizer(
    model: CTRModel, configs: dict[str, OptimizerConfig], scale_loss: bool = False
) -> Optimizer:
    """The optimiser of a model, its state created.

    Args:
        model: whose trainable variables are updated.
        configs: resolved configuration of each group of `variable_groups`.
        scale_loss: dynamic loss scaling, as float16 needs it.
    """
    groups = [
        Group(name, variables, keras_optimizer(configs[name], name), configs[name].clip_norm)
        for name, variables in variable_groups(model).items()
    ]
    grouped = GroupedOptimizer(groups)
    optimizer = keras.optimizers.LossScaleOptimizer(grouped) if scale_loss else grouped
    optimizer.build(model.trainable_variables)
    return optimizer


def grouped(optimizer: Optimizer) -> GroupedOptimizer:
    """The grouped optimiser, within the loss scaling if there is any."""
    return getattr(optimizer, "inner_optimizer", optimizer)
