"""Multi-gate mixture of experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, PositiveInt

from ctr_tf import layers
from ctr_tf.models.multitask.network import TaskNetwork, TaskNetworkConfig
from ctr_tf.types import Tensor


class MMoEConfig(TaskNetworkConfig):
    """Configuration of MMoE.

    Args:
        experts: number of experts, which all tasks share.
        expert_units: widths of each expert.
        gate_units: hidden widths of each gate; the paper's gates have none.
    """

    kind: Literal["mmoe"] = "mmoe"
    experts: int = Field(4, ge=2)
    expert_units: list[PositiveInt] = Field([128], min_length=1)
    gate_units: list[PositiveInt] = []


class MMoE(TaskNetwork):
    """Multi-gate mixture of experts: each task mixes the same experts by a gate of its own.

    Ma et al. 2018, KDD, section 4.2: y_k = h^k(f^k(x)) with
    f^k(x) = sum_i softmax(W_gk x)_i f_i(x), x the body's representation.

    Args:
        config: see `MMoEConfig`.
        tasks: their names.

    Example:
        >>> MMoE(MMoEConfig(experts=3), ["click", "buy"]).experts.networks
        3
    """

    def __init__(self, config: MMoEConfig, tasks: Sequence[str]):
        super().__init__(config, tasks)
        self.experts = self.networks(config.expert_units, config.experts, "experts")
        self.gates = layers.Mixture(
            len(self.tasks), config.experts, config.gate_units, config.activation, name="gates"
        )

    def representations(self, x: Tensor, weights: Tensor | None, training: bool) -> Tensor:
        x = x[:, None]
        experts = self.experts(x, weights, training=training)
        return self.gates(x, experts, weights=weights, training=training)
