"""Progressive layered extraction; one level of it is customised gate control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, PositiveInt

from ctr_tf import layers
from ctr_tf.models.multitask.network import TaskNetwork, TaskNetworkConfig
from ctr_tf.types import Tensor


class PLEConfig(TaskNetworkConfig):
    """Configuration of PLE.

    Args:
        levels: extraction levels; 1 is CGC.
        task_experts: experts that each task has for itself, in each level.
        shared_experts: experts of all tasks, in each level.
        expert_units: widths of each expert.
        gate_units: hidden widths of each gate; the paper's gates have none.
    """

    kind: Literal["ple"] = "ple"
    levels: PositiveInt = 2
    task_experts: PositiveInt = 2
    shared_experts: PositiveInt = 2
    expert_units: list[PositiveInt] = Field([128], min_length=1)
    gate_units: list[PositiveInt] = []


class PLE(TaskNetwork):
    """Progressive layered extraction: experts of one task alone beside shared ones, in levels.

    Tang et al. 2020, RecSys, sections 4.1 and 4.2. In each level the gate of task
    k mixes the experts of task k and the shared ones; the shared gate mixes all experts, for the
    next level. Experts and gates of a level read the mixtures of the level below: those of task k
    that of task k, the shared ones the shared mixture. The first level reads the body's
    representation. One level is customised gate control (CGC).

    Args:
        config: see `PLEConfig`.
        tasks: their names.

    Example:
        >>> ple = PLE(PLEConfig(levels=3), ["click", "buy"])
        >>> len(ple.task_experts), len(ple.shared_gates)
        (3, 2)
    """

    def __init__(self, config: PLEConfig, tasks: Sequence[str]):
        super().__init__(config, tasks)
        count, own, shared = len(self.tasks), config.task_experts, config.shared_experts
        levels = range(config.levels)

        def gates(number, experts, name):
            return layers.Mixture(number, experts, config.gate_units, config.activation, name=name)

        self.task_experts = [
            self.networks(config.expert_units, count * own, f"task_experts_{level}")
            for level in levels
        ]
        self.shared_experts = [
            self.networks(config.expert_units, shared, f"shared_experts_{level}")
            for level in levels
        ]
        self.gates = [gates(count, own + shared, f"gates_{level}") for level in levels]
        # The last level's shared mixture would have no reader.
        self.shared_gates = [
            gates(1, count * own + shared, f"shared_gate_{level}") for level in levels[:-1]
        ]

    def representations(self, x: Tensor, weights: Tensor | None, training: bool) -> Tensor:
        from keras import ops

        counted = {"weights": weights, "training": training}
        tasks = shared = x[:, None]
        for level in range(self.config.levels):
            own = self.task_experts[level](tasks, **counted)
            common = self.shared_experts[level](shared, **counted)
            by_task = ops.reshape(
                own, (-1, len(self.tasks), self.config.task_experts, own.shape[-1])
            )
            tasks = self.gates[level](tasks, common, by_task, **counted)
            if level < len(self.shared_gates):
                every = ops.concatenate([own, common], axis=1)
                shared = self.shared_gates[level](shared, every, **counted)
        return tasks
