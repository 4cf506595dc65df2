"""The shared-bottom network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, PositiveInt

from ctr_tf.models.multitask.network import TaskNetwork, TaskNetworkConfig
from ctr_tf.types import Tensor


class SharedBottomConfig(TaskNetworkConfig):
    """Configuration of the shared bottom.

    Args:
        units: widths of the bottom.
    """

    kind: Literal["shared_bottom"] = "shared_bottom"
    units: list[PositiveInt] = Field([128], min_length=1)


class SharedBottom(TaskNetwork):
    """One network whose output the towers of all tasks read.

    Ma et al. 2018, KDD (MMoE), equation 1, after Caruana 1997: y_k = h^k(f(x)), with x the body's
    representation.

    Args:
        config: see `SharedBottomConfig`.
        tasks: their names.

    Example:
        >>> SharedBottom(SharedBottomConfig(units=[8, 4]), ["click", "buy"]).bottom.units
        (8, 4)
    """

    def __init__(self, config: SharedBottomConfig, tasks: Sequence[str]):
        super().__init__(config, tasks)
        self.bottom = self.networks(config.units, 1, "bottom")

    def representations(self, x: Tensor, weights: Tensor | None, training: bool) -> Tensor:
        return self.bottom(x[:, None], weights, training=training)
