"""What a request costs a model, user part and candidates apart."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import tensorflow as tf

from ctr_tf.analysis.operations import Flops, counted
from ctr_tf.analysis.sizes import DAY, NOW, Sizes
from ctr_tf.models.config import ModelConfig
from ctr_tf.models.model import CTRModel
from ctr_tf.schema import REQUEST_TIME, Categorical, InputSpec, Schema, Text, Vector

SIZES = Sizes()


@dataclass(frozen=True)
class Cost:
    """What a call costs a model, from preprocessed features to scores.

    Args:
        sizes: of the call.
        user: the user tower of all B users.
        items: the item tower of all their candidates.
        candidate: what one candidate more costs, at N.
        single: both towers of one user and one candidate, SRP4CTR's efficiency-FLOPs.
        row: what one user more with one candidate costs: `single` without what is of weights alone.
        parameters: trainable values, those of embedding and cached tables left out.
        tables: how many embedding tables there are of each width.

    Example:
        >>> user, items, candidate, single, row = map(Flops, (50, 31, 10, 61, 60))
        >>> cost = Cost(Sizes(candidates=3), user, items, candidate, single, row, 0, {})
        >>> cost.folded.total, cost.row_wise.total, cost.once.total
        (81, 181, 1)
    """

    sizes: Sizes
    user: Flops
    items: Flops
    candidate: Flops
    single: Flops
    row: Flops
    parameters: int
    tables: dict[int, int]

    @property
    def once(self) -> Flops:
        """What the item tower does once a call: of user and context, and of weights alone."""
        return self.items - self.sizes.users * self.sizes.candidates * self.candidate

    @property
    def folded(self) -> Flops:
        """The whole call; of one user, SRP4CTR's inference-FLOPs (Han et al. 2024, 3.1.5)."""
        return self.user + self.items

    @property
    def row_wise(self) -> Flops:
        """One call with the user side tiled: every candidate is a row of its own."""
        return self.single + (self.sizes.users * self.sizes.candidates - 1) * self.row


def model_cost(model: CTRModel, sizes: Sizes = SIZES) -> Cost:
    """Counts the towers op by op on a synthetic call (see `counted`).

    Hashing, look-up in vocabularies and normalisation come before the towers and are not counted.

    Args:
        model: its weights and the rows of its tables change nothing; see `bare_model`.
        sizes: of the call.

    Raises:
        ValueError: the model runs an op of which no cost is known.

    Example:
        >>> from ctr_tf.models.interaction.flat_dnn import FlatDNNConfig
        >>> schema = Schema(features={"item_id": {"kind": "categorical"}},
        ...                 tasks={"click": {"column": "click"}})
        >>> config = FlatDNNConfig(units=[5], embedding={"width": 4})
        >>> model_cost(bare_model(schema, config)).candidate.products == 2 * (4 * 5 + 5 * 1)
        True
    """
    towers = cache(lambda own: tower_flops(model, own))
    user, items = towers(sizes)
    one_user = replace(sizes, users=1)
    more = replace(one_user, candidates=sizes.candidates + 1)
    one, two = (sum(towers(replace(sizes, users=b, candidates=1)), Flops()) for b in (1, 2))
    tables, vectors = model.embedder.tables, model.embedder.vectors.values()
    rows = {id(weight) for weight in [*(tables.weights if tables else []), *vectors]}
    return Cost(
        sizes,
        user,
        items,
        towers(more)[1] - towers(one_user)[1],
        one,
        two - one,
        sum(math.prod(w.shape) for w in model.trainable_weights if id(w) not in rows),
        dict(Counter(spec.width for spec in tables.specs.values()) if tables else {}),
    )


def bare_model(schema: Schema, config: ModelConfig) -> CTRModel:
    """A model for `model_cost`, without data: every table has two rows, padding and a value.

    Args:
        schema: features, sequences, tasks.
        config: the architecture's configuration.
    """
    encoders = schema.encoders.items()
    rows = {name: 2 for name, own in encoders if isinstance(own, (Categorical, Text))}
    vectors = {
        name: np.zeros((2, own.width), "float32")
        for name, own in encoders
        if isinstance(own, Vector)
    }
    return CTRModel(schema, config, rows, vectors)


def tower_flops(model: CTRModel, sizes: Sizes) -> tuple[Flops, Flops]:
    """What the user tower costs in a call, and what the item tower costs, scores included."""
    specs = [*model.user_inputs, *model.context_inputs, *model.item_inputs]
    features = {spec.name: _filled(model.schema, spec, sizes) for spec in specs}
    state, user = counted(lambda: model.user_tower(features))
    _, items = counted(lambda: model.scores(model.item_tower(state, features, features)))
    return user, items


def _filled(schema: Schema, spec: InputSpec, sizes: Sizes) -> tf.Tensor:
    """An input all of whose positions are valid."""
    shape = tuple(sizes.axes(schema, spec).values())
    if spec.name == REQUEST_TIME:
        return tf.fill(shape, tf.constant(NOW, tf.int64))
    if spec.dtype != "bool" and spec.feature is None:
        place = np.arange(shape[1])
        times = DAY * (place // sizes.session) + place % sizes.session
        return tf.constant(np.broadcast_to(times, shape), tf.int64)
    # Indices of values, which 0 is none of.
    return tf.ones(shape, {"bool": tf.bool, "float32": tf.float32}.get(spec.dtype, tf.int32))
