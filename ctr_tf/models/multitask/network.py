"""What a multi-task network's file defines: a configuration, and what stands before the towers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from ctr_tf import layers
from ctr_tf.config_base import Config
from ctr_tf.types import Tensor


class BinaryConfig(Config):
    """A logit for each task straight from the body's representation, the default."""

    kind: Literal["binary"] = "binary"

    def check(self, tasks: Sequence[str]) -> None:
        """Any tasks will do."""


class TaskNetworkConfig(Config):
    """What the configurations of multi-task networks share.

    Args:
        tower_units: hidden widths of each task's tower.
        activation: of every hidden layer.
        dropout: rate after each hidden layer.
    """

    tower_units: list[PositiveInt] = [64]
    activation: layers.names.Activation = "relu"
    dropout: NonNegativeFloat = Field(0.0, lt=1)

    def check(self, tasks: Sequence[str]) -> None:
        """Checks that the network is defined over these tasks; needs no Keras.

        Raises:
            SettingError: it is not.
        """


class TaskNetwork:
    """The base of multi-task networks: from a body's representation to the logit of each task.

    A tower is an MLP and a linear unit, its logit (Ma et al. 2018, KDD, equation 1); the towers of
    all tasks are of one shape and computed as one. A network makes its further layers in
    `__init__`, as attributes that are Keras layers or lists of them, and says what the towers read.

    Args:
        config: see `TaskNetworkConfig`.
        tasks: their names.

    Raises:
        SettingError: see the configuration's `check`.
    """

    def __init__(self, config: TaskNetworkConfig, tasks: Sequence[str]):
        config.check(tasks)
        self.config = config
        self.tasks = tuple(tasks)
        self.towers = self.networks(config.tower_units, len(self.tasks), "towers")
        self.logits = layers.ParallelDense(1, len(self.tasks), name="logits")

    def networks(self, units: Sequence[int], count: int, name: str) -> "layers.ParallelMLP":
        """As many MLPs of these widths, with the configuration's activation and dropout."""
        return layers.ParallelMLP(
            units, count, self.config.activation, self.config.dropout, name=name
        )

    def __call__(self, x: Tensor, weights: Tensor | None, training: bool) -> Tensor:
        """Logits (M, K) from x (M, H); weights (M,) count positions for batch statistics."""
        read = self.representations(x, weights, training)
        return self.logits(self.towers(read, weights, training=training))[..., 0]

    def representations(self, x: Tensor, weights: Tensor | None, training: bool) -> Tensor:
        """What the towers read, (M, K, U), or (M, 1, U) where they read the same."""
        return x[:, None]

    @property
    def further(self) -> tuple[str, ...]:
        """Names of outputs besides the tasks'."""
        return ()

    def outputs(self, logits: dict[str, Tensor]) -> dict[str, Tensor]:
        """The named outputs, logits too, from the towers' logits, (B, N) each."""
        return logits

    def labels(self, labels: dict[str, Tensor]) -> dict[str, Tensor]:
        """What each task's output is held against, from the labels of the log."""
        return labels
