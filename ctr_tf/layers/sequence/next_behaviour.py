"""The auxiliary loss of telling the next behaviour from one of another user."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from ctr_tf.layers.dense import MLP
from ctr_tf.layers.packing import Packing
from ctr_tf.types import Tensor


class NextBehaviourLoss(keras.layers.Layer):
    """Cross-entropy of the behaviour after each state against a sampled one.

    Zhou et al. 2019, arXiv:1809.03672, equation 6: -sum_t [log s(h_t, e_{t+1}) +
    log(1 - s(h_t, n_{t+1}))], s the logistic function of the inner product, or with `units` of an
    MLP over the concatenation, as the authors' code has it. A negative is a behaviour drawn evenly
    from those of the batch's other requests: they are embedded already, and come as often as in the
    log, so that popularity alone tells nothing. In a batch of one request with behaviours there is
    none, and no loss. Draws follow from Keras's seed.

    Args:
        width: D, of behaviours.
        states: H, of states; D for the inner product.
        units: hidden widths of the MLP; none for the inner product.

    Shapes:
        states (P, H) and behaviours (P, D), packed by `packing`; returns (B,), summed over steps.

    Example:
        >>> packing = Packing.of(ops.array([[True, False], [True, True]]))
        >>> loss = NextBehaviourLoss(4, 4)(ops.ones((3, 4)), ops.zeros((3, 4)), packing=packing)
        >>> [round(value, 4) for value in loss.numpy().tolist()]
        [0.0, 1.3863]
    """

    def __init__(self, width: int, states: int, units: Sequence[int] = (), **kwargs):
        super().__init__(**kwargs)
        self.mlp = self.score = None
        with keras.name_scope(self.name):
            self.seed = keras.random.SeedGenerator(name="negatives")
            if units:
                self.mlp = MLP(units, "sigmoid", name="mlp")
                self.score = keras.layers.Dense(1, name="score")
                # Its weights now: without training it is not called.
                self.score(self.mlp(ops.zeros((1, states + width))))
        self.built = True

    def call(self, states: Tensor, behaviours: Tensor, packing: Packing) -> Tensor:
        # Packed positions of a sequence lie next to each other, its latest at age 0.
        follows = ops.cast(packing.ages() > 0, "float32") * packing.weights
        drawn, others = self._drawn(packing)
        following = ops.roll(behaviours, -1, axis=0)
        negatives = ops.take(behaviours, drawn, axis=0)
        loss = ops.softplus(-self._scores(states, following))
        loss = loss + ops.softplus(self._scores(states, negatives))
        counts = (follows * ops.cast(others, "float32")) > 0
        return packing.sum(ops.where(counts, loss, 0.0))

    def add_mean(self, losses: Tensor, mask: Tensor) -> None:
        """Adds to the model's losses the mean of those of requests, weighted by their candidates.

        Args:
            losses: (B,).
            mask: of the candidates, (B, N).
        """
        weights = ops.sum(ops.cast(mask, losses.dtype), axis=1)
        self.add_loss(ops.sum(losses * weights) / ops.maximum(ops.sum(weights), 1.0))

    def _drawn(self, packing: Packing) -> tuple[Tensor, Tensor]:
        """A packed position of another sequence for each, (P,), and whether there is any."""
        ends = ops.cumsum(packing.lengths)
        total = ends[-1]
        own = ops.take(packing.lengths, packing.owner, axis=0)
        share = keras.random.uniform(ops.shape(own), seed=self.seed)
        offset = ops.floor(share * ops.cast(total - own, "float32"))
        offset = ops.minimum(ops.cast(offset, "int32"), ops.maximum(total - own - 1, 0))
        # The positions of the other sequences are those after its own end, round the batch.
        rank = (ops.take(ends, packing.owner, axis=0) + offset) % ops.maximum(total, 1)
        if packing.padded:
            # Where the valid positions lie, in order, behind them the others.
            size = ops.shape(own)[0]
            behind = size * ops.cast(packing.weights == 0, "int32")
            order = ops.argsort(ops.arange(size, dtype="int32") + behind)
            rank = ops.take(order, rank, axis=0)
        return ops.cast(rank, "int32"), total > own

    def _scores(self, states: Tensor, behaviours: Tensor) -> Tensor:
        if self.mlp is None:
            score = ops.sum(states * behaviours, axis=-1)
        else:
            score = self.score(self.mlp(ops.concatenate([states, behaviours], axis=-1)))[..., 0]
        return ops.cast(score, "float32")
