"""Groups of variables, each with an optimiser and a bound on its gradients' norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import keras
import tensorflow as tf

from ctr_tf.models.model import CTRModel
from ctr_tf.optimizers.sparse import SparseOptimizer
from ctr_tf.types import Tensor


@dataclass(frozen=True)
class Group:
    """Variables that one optimiser updates.

    Args:
        name: shown in logs.
        variables: the trainable variables.
        optimizer: a Keras optimiser of these variables alone.
        clip_norm: bound on the global norm of their gradients.
    """

    name: str
    variables: list[keras.Variable]
    optimizer: keras.optimizers.Optimizer
    clip_norm: float | None = None


def variable_groups(model: CTRModel) -> dict[str, list[keras.Variable]]:
    """The trainable variables by group: the dense part, and the embedding tables if there are any.

    Example:
        >>> from ctr_tf import registry
        >>> from ctr_tf.schema import Schema
        >>> schema = Schema(features={"item_id": {"kind": "categorical"}},
        ...                 tasks={"click": {"column": "click"}})
        >>> model = CTRModel(schema, registry.get("dcn_v2").config(name="dcn_v2"), {"item_id": 9})
        >>> [tuple(v.shape) for v in variable_groups(model)["tables"]]
        [(9, 16)]
    """
    tables = model.embedder.tables.trainable_variables if model.embedder.tables else []
    ids = {id(variable) for variable in tables}
    dense = [v for v in model.trainable_variables if id(v) not in ids]
    groups = {"dense": dense, "tables": tables}
    return {name: variables for name, variables in groups.items() if variables}


class GroupedOptimizer:
    """Several Keras optimisers under the interface of one, so that loss scaling wraps them all.

    Gradients come summed over replicas: `apply` clips each group by its global norm and updates
    it, and its optimisers do not sum again.

    Args:
        groups: disjoint groups.
    """

    loss_scale_factor = None

    def __init__(self, groups: Sequence[Group]):
        self.groups = list(groups)
        self.optimizers = [group.optimizer for group in groups]
        for optimizer in self.optimizers:
            # Keras sums gradients over replicas here, after its clipping. Norms are to be taken
            # of the sums, so these are made before, once.
            optimizer._all_reduce_sum_gradients = list
        rates = list(self.learning_rates().values())
        self._ratios = [rate / rates[0] for rate in rates]

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the optimisers' slots; call it under the strategy's scope."""
        for group in self.groups:
            group.optimizer.build(group.variables)

    def apply(
        self, gradients: Sequence[Tensor], trainable_variables: Sequence[keras.Variable]
    ) -> None:
        """Updates the variables, within a replica.

        Args:
            gradients: summed over replicas, one a variable; of tables `tf.IndexedSlices` whose
                rows are distinct.
            trainable_variables: every variable of the groups, in any order.
        """
        of = {id(v): gradient for v, gradient in zip(trainable_variables, gradients, strict=True)}
        for group in self.groups:
            own = [of[id(variable)] for variable in group.variables]
            if group.clip_norm is not None:
                own, _ = tf.clip_by_global_norm(own, group.clip_norm)
            if not isinstance(group.optimizer, SparseOptimizer):
                own = [tf.convert_to_tensor(gradient) for gradient in own]
            group.optimizer.apply(own, group.variables)

    @property
    def variables(self) -> list[keras.Variable]:
        """All state of the optimisers."""
        return [v for optimizer in self.optimizers for v in optimizer.variables]

    def table_slots(self, tables: Sequence[keras.Variable]) -> dict[str, list[keras.Variable]]:
        """The optimiser's state that lies as the tables do: by slot, a variable a table variable.

        Args:
            tables: the variables of the tables, in order.
        """
        for group in self.groups:
            if tables and group.variables[0] is tables[0]:
                # After the counter and the rate: for each variable, its slots.
                own = [v for v in group.optimizer.variables if len(v.shape)]
                count = len(own) // len(tables)
                return {f"slot_{i}": own[i::count] for i in range(count)}
        return {}

    @property
    def iterations(self) -> keras.Variable:
        """Updates done."""
        return self.optimizers[0].iterations

    @property
    def learning_rate(self) -> Tensor:
        """The rate of the first group's next update.

        Set, as callbacks do, it moves the rates of all groups: each keeps its ratio to the first.
        """
        return self.optimizers[0].learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        for optimizer, ratio in zip(self.optimizers, self._ratios):
            optimizer.learning_rate = value * ratio

    def learning_rates(self) -> dict[str, float]:
        """The rate of each group's next update."""
        return {
            group.name: float(keras.ops.convert_to_numpy(group.optimizer.learning_rate))
            for group in self.groups
        }
