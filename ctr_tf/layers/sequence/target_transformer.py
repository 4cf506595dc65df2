"""A transformer over behaviours and candidate that computes once what candidates share."""

from __future__ import annotations

from typing import Literal

import keras
from keras import ops

from ctr_tf.layers.attention.multi_head import (
    attend_with_mass,
    by_head,
    joined,
    with_one_more,
)
from ctr_tf.layers.names import FeedForwardActivation
from ctr_tf.layers.packing import Packing
from ctr_tf.layers.sequence.transformer import EncoderBlock
from ctr_tf.types import State, Tensor


class TargetTransformer(keras.layers.Layer):
    """Transformer blocks over a user's behaviours with the candidate behind them.

    Chen et al. 2019, arXiv:1905.06874, equations 2 to 8, on rows of an item and its position. The
    position is p(t - t_i) = floor(log_2(1 + (t - t_i) / unit)) of the time since the behaviour, or
    without times how many rows follow, the candidate's 0. Every row attends to the candidate, so
    all rows differ from candidate to candidate; but in the first block their projections do not,
    nor does what behaviours attend to of each other, which takes in the candidate as one more key:
    softmax over keys and candidate = (1 - s) softmax over keys + s candidate, with
    s = sigmoid(score - log sum exp(scores)). Where the candidate's row of one block is all that is
    asked for, a candidate costs one attention over the behaviours.

    Args:
        width: D, of a behaviour.
        heads: of attention, a divisor of W.
        blocks: how many.
        feed_forward: hidden width; 4 W by default.
        activation_name: of the feed-forward part.
        dropout: rate of what each part adds.
        positions: rows of their table; what lies behind shares the last one.
        position_width: of a position beside the item, W = D + it; 0 adds a position of width D to
            the item, W = D.
        unit: seconds.
        pool: `flatten`, all rows end to end, the latest behaviour first and the candidate last;
            `mean` of all rows; `target`, the candidate's.
        length: of `flatten`, the latest behaviours that have a place.

    Shapes:
        behaviours (P, D), packed by mask (B, L), and times (B, L) to `of_user`; its parts, target
        (B, N, A), A up to D, now (B,) and candidates' mask (B, N) to `call`: (B, N, V), V =
        `output_width`.

    Raises:
        ValueError: `heads` does not divide W.

    Example:
        >>> layer = TargetTransformer(4, heads=2, pool="target")
        >>> mask = ops.array([[True, False, False], [True, True, True]])
        >>> parts = layer.of_user(ops.ones((4, 4)), mask)
        >>> layer(parts, ops.ones((2, 5, 4)), ops.ones((2, 5), "bool")).shape
        TensorShape([2, 5, 20])
    """

    parts = ("rows", "projected", "mask", "times", "among", "mass")
    """The names of what `of_user` returns, some of them."""

    def __init__(
        self,
        width: int,
        heads: int,
        blocks: int = 1,
        feed_forward: int | None = None,
        activation_name: FeedForwardActivation = "leaky_relu",
        dropout: float = 0.0,
        positions: int = 32,
        position_width: int = 16,
        unit: int = 1,
        pool: Literal["flatten", "mean", "target"] = "flatten",
        length: int = 20,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.behaviour_width = width
        self.width = width + position_width
        self.heads = heads
        self.pool = pool
        self.length = length
        self.output_width = self.width * (length + 1 if pool == "flatten" else 1)
        # Whether behaviours' rows are asked for.
        self.whole = blocks > 1 or pool != "target"
        self._beside = position_width > 0
        # Past the latest time of int32, differences are all alike.
        self._edges = [min(unit * (2**k - 1), 2**31 - 1) for k in range(1, positions)]
        self.positions = self.add_weight(
            name="positions",
            shape=(positions, position_width or width),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )
        with keras.name_scope(self.name):
            self.blocks = [
                EncoderBlock(
                    self.width,
                    heads,
                    feed_forward,
                    activation_name,
                    dropout=dropout,
                    attention_dropout=0.0 if i == 0 else None,
                    name=f"block_{i}",
                )
                for i in range(blocks)
            ]
            for block in self.blocks:
                block.build((None, self.width))
        self.built = True

    def of_user(self, behaviours: Tensor, mask: Tensor, times: Tensor | None = None) -> State:
        """What the user alone says: dense, first axis B; with times, positions are of a request."""
        packing = Packing.of(mask)
        projected = self.blocks[0].attention.project(behaviours)
        if times is None:
            last = len(self._edges)
            index = ops.minimum(packing.ages() + 1, last)
            behaviours, projected = self._placed(behaviours, projected, index)
        rows, projected = packing.unpack(behaviours), packing.unpack(projected)
        parts = {"rows": rows, "projected": projected, "mask": mask}
        if times is not None:
            parts["times"] = ops.cast(times, "int64")
        elif self.whole:
            parts["among"], parts["mass"] = self._among(projected, mask)
        return parts

    def call(
        self,
        parts: State,
        target: Tensor,
        candidates: Tensor,
        now: Tensor | None = None,
        training: bool = False,
    ) -> Tensor:
        mask, block = parts["mask"], self.blocks[0]
        packing = Packing.of(mask)
        rows, projected = packing.pack(parts["rows"]), parts["projected"]
        if "times" in parts:
            index = packing.pack(self._buckets(parts["times"], now))
            rows, placed = self._placed(rows, packing.pack(projected), index)
            projected = packing.unpack(placed)
        queries, keys, values = by_head(projected, 3, self.heads)
        target = self._target(target)
        own = by_head(block.attention.project(target), 3, self.heads)
        attended, mass = attend_with_mass(own[0], keys, values, mask)
        attended = with_one_more(attended, mass, ops.sum(own[0] * own[1], axis=-1), own[2])
        attended = block.attention.output_projection(joined(attended))
        encoded = block.after_attention(target, attended, training)
        if not self.whole:
            return encoded
        among, mass = parts.get("among"), parts.get("mass")
        if among is None:
            among, mass = self._among(projected, mask)
        scores = ops.matmul(queries, ops.swapaxes(own[1], -1, -2))
        attended = with_one_more(
            self._heads_of(packing.pack(among))[:, None],
            packing.pack(mass)[:, None],
            packing.pack(ops.transpose(scores, (0, 2, 3, 1))),
            packing.spread(ops.transpose(own[2], (0, 2, 1, 3))),
        )
        attended = ops.reshape(attended, (*ops.shape(attended)[:2], self.width))
        attended = block.attention.output_projection(attended)
        behaviours = block.after_attention(rows[:, None], attended, training)
        if len(self.blocks) > 1:
            behaviours, encoded = self._further(
                behaviours, encoded, packing, mask, candidates, training
            )
        return self._pooled(behaviours, encoded, packing)

    def _placed(self, rows: Tensor, projected: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Rows with their positions, and their projections."""
        table = ops.cast(ops.convert_to_tensor(self.positions), rows.dtype)
        first = self.behaviour_width if self._beside else 0
        projected = projected + ops.take(
            self.blocks[0].attention.project(table, first), index, axis=0
        )
        position = ops.take(table, index, axis=0)
        if self._beside:
            return ops.concatenate([rows, position], axis=-1), projected
        return rows + position, projected

    def _buckets(self, times: Tensor, now: Tensor) -> Tensor:
        """The position of each behaviour of that time: (B, L)."""
        since = ops.cast(now, "int64")[:, None] - times
        reached = since[..., None] >= ops.array(self._edges, dtype="int64")
        return ops.sum(ops.cast(reached, "int32"), axis=-1)

    def _target(self, target: Tensor) -> Tensor:
        """The candidate's row, (B, N, W); zeros for what it has no counterpart of."""
        missing = self.behaviour_width - target.shape[-1]
        target = ops.pad(target, [[0, 0], [0, 0], [0, missing]])
        position = ops.cast(self.positions[0], target.dtype)
        if not self._beside:
            return target + position
        shape = (*ops.shape(target)[:2], position.shape[0])
        return ops.concatenate([target, ops.broadcast_to(position, shape)], axis=-1)

    def _among(self, projected: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What behaviours attend to of each other, (B, L, W), and its mass, (B, L, H)."""
        attended, mass = attend_with_mass(*by_head(projected, 3, self.heads), mask)
        return joined(attended), ops.transpose(mass, (0, 2, 1))

    def _heads_of(self, x: Tensor) -> Tensor:
        return ops.reshape(x, (-1, self.heads, self.width // self.heads))

    def _further(
        self,
        behaviours: Tensor,
        target: Tensor,
        packing: Packing,
        mask: Tensor,
        candidates: Tensor,
        training: bool,
    ) -> tuple[Tensor, Tensor]:
        """Later blocks, where each candidate has rows of its own: (P, N, W) and (B, N, W)."""
        batch, count = ops.shape(candidates)[0], ops.shape(candidates)[1]
        rows = ops.transpose(packing.unpack(behaviours), (0, 2, 1, 3))
        rows = ops.concatenate([rows, target[:, :, None]], axis=2)
        own = candidates[:, :, None]
        valid = ops.concatenate([mask[:, None, :] & own, own], axis=2)
        size = ops.shape(valid)[2]
        pairs = Packing.of(ops.reshape(valid, (-1, size)))
        x = pairs.pack(ops.reshape(rows, (-1, size, self.width)))
        for block in self.blocks[1:]:
            x = block(x, packing=pairs, training=training)
        rows = ops.reshape(pairs.unpack(x), (batch, count, size, self.width))
        return packing.pack(ops.transpose(rows[:, :, :-1], (0, 2, 1, 3))), rows[:, :, -1]

    def _pooled(self, behaviours: Tensor, target: Tensor, packing: Packing) -> Tensor:
        if self.pool == "target":
            return target
        if self.pool == "mean":
            count = ops.cast(packing.lengths + 1, target.dtype)[:, None, None]
            return (packing.sum(behaviours) + target) / count
        batch, count = ops.shape(target)[0], ops.shape(target)[1]
        # Row 0 of each sequence stands for a behaviour that there is not.
        rows = ops.pad(packing.unpack(behaviours), [[0, 0], [1, 0], [0, 0], [0, 0]])
        size = ops.shape(rows)[1]
        index = ops.maximum(packing.lengths[:, None] - ops.arange(self.length, dtype="int32"), 0)
        index = index + (ops.arange(batch, dtype="int32") * size)[:, None]
        rows = ops.reshape(rows, (-1, count, self.width))
        rows = ops.take(rows, ops.reshape(index, (-1,)), axis=0)
        rows = ops.reshape(rows, (batch, self.length, count, self.width))
        width = self.length * self.width
        rows = ops.reshape(ops.transpose(rows, (0, 2, 1, 3)), (batch, count, width))
        return ops.concatenate([rows, target], axis=-1)
