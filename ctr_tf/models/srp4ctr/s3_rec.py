"""S3-Rec: an encoder of items that learns by the mutual information of what belongs together."""

from __future__ import annotations

import keras
from keras import ops

from ctr_tf.layers.packing import Packing
from ctr_tf.layers.sampling import rank_among
from ctr_tf.losses.softmax import multi_label_loss
from ctr_tf.models.srp4ctr.attributes import told_attributes
from ctr_tf.models.srp4ctr.config import MASKED_ITEMS, S3RecConfig
from ctr_tf.models.srp4ctr.history_model import HistoryModel, packed_masks
from ctr_tf.models.srp4ctr.transfer import SRP4CTRConfig
from ctr_tf.schema import Schema
from ctr_tf.types import Tensor


class S3Rec(HistoryModel):
    """S3-Rec's four tasks (Zhou et al. 2020, arXiv:2008.07873, section 4), as its code has them.

    With (x W + b) e^T, a projection each task, x the encoder's output and s the logistic function:

    - `aap` and `map`, attributes of the item at positions that are not masked, and at masked ones:
      the binary cross-entropies of all values, summed;
    - `mip`, the masked item: -log s(s(own) - s(negative)), the negative drawn evenly from the items
      that the window has not;
    - `sp`, a segment of 1 to half of the window's behaviours: the same, x being the output at the
      last position of the window without the segment, e that of the segment alone, the negative
      that of as many behaviours from any place of the batch's histories in a row. All keep their
      places in a window of masks; a window of one behaviour has no such loss.

    The loss is the weighted sum of all of them, over the number of behaviours, so that the tasks
    stand in the proportion of the released code, which adds them up. The paper has InfoNCE instead
    of these losses, and for `aap` the item's embedding as x. Windows are those of `histories`; the
    code has all prefixes of a history.

    Attributes are those of the candidate that behaviours have, besides the first; the encoder need
    not read them. Each is scored against all its values at every behaviour, which takes their
    product of memory. Next items are ranked by `mip`.

    Args:
        schema, config, objective, rows: see `HistoryModel`.

    Attributes:
        item: what is masked, the first attribute of the item.
        told: the other ones.

    Raises:
        SettingError: see `told_attributes`.
    """

    def __init__(
        self,
        schema: Schema,
        config: SRP4CTRConfig,
        objective: S3RecConfig,
        rows: dict[str, int],
        **kwargs,
    ):
        told = told_attributes(schema, config)
        super().__init__(schema, config, objective, rows, told=told, **kwargs)
        self.item, self.told = self.items[0], told
        with keras.name_scope(self.name):
            self.projections = {
                task: keras.layers.Dense(self.width, name=task) for task in self.tasks
            }
            for projection in self.projections.values():
                projection.build((None, self.width))
            self.seed = keras.random.SeedGenerator(name="negatives")
        self(self.example_features())

    def losses_of(
        self, features: dict[str, Tensor], labels: dict[str, Tensor], training: bool = True
    ) -> dict[str, Tensor]:
        """The weighted losses of each position, (B, L) each; `sp` at a window's last one."""
        packing, sums = self.packing(features), self.summed(features)
        masks = packed_masks(features, packing)
        h = self.encoder(self.masked(sums, masks), packing=packing, training=training)
        masked = masks[MASKED_ITEMS]
        attributes = self._attribute_losses(features, h, masked, packing)
        items = self._item_losses(features, h, packing)
        losses = {
            "aap": ops.where(masked, 0.0, attributes),
            "mip": ops.where(masked, items, 0.0),
            "map": ops.where(masked, attributes, 0.0),
            "sp": self._segment_losses(sums, packing, training),
        }
        return {
            task: self.config.weights[task] * packing.unpack(loss) for task, loss in losses.items()
        }

    def item_scores(self, h: Tensor) -> Tensor:
        scores = ops.matmul(self.projections["mip"](h), ops.transpose(self.table(self.item)))
        return ops.cast(scores, "float32")

    def _attribute_losses(
        self, features: dict[str, Tensor], h: Tensor, masked: Tensor, packing: Packing
    ) -> Tensor:
        """Of AAP or, masked, of MAP at each position, (P,)."""
        x = ops.where(masked[:, None], self.projections["map"](h), self.projections["aap"](h))
        total = 0.0
        for name in self.told:
            values = packing.pack(features[f"{self.sequence}_{name}"])
            values = values if len(values.shape) > 1 else values[:, None]
            known = (values > 0) & (values <= self.values[name])
            scores = ops.cast(ops.matmul(x, ops.transpose(self.table(name))), "float32")
            loss = multi_label_loss(scores, ops.where(known, values - 1, -1))
            # Of an item without a known value nothing is said.
            total = total + ops.where(ops.any(known, axis=1), loss, 0.0)
        return total

    def _item_losses(self, features: dict[str, Tensor], h: Tensor, packing: Packing) -> Tensor:
        """Of MIP at each position, masked or not, (P,); 0 where the item is unknown."""
        items, count = features[f"{self.sequence}_{self.item}"], self.values[self.item]
        known = features[f"{self.sequence}_mask"] & (items > 0) & (items <= count)
        negatives, there = self.negatives(ops.where(known, items, 0))
        encoder = self.schema.encoder(self.item, self.sequence)
        own, other = self.embedder.tables.lookup(
            [(encoder, packing.pack(items)), (encoder, packing.pack(negatives))]
        )
        loss = pairwise_loss(self.projections["mip"](h), own, other)
        return ops.where(packing.pack(known & there), loss, 0.0)

    def negatives(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """For each position an item that its window has not, each as likely.

        Of the V - n items that are left the r-th is r plus those of the window before it.

        Args:
            items: (B, L) indices from 1 to V; 0 for none.

        Returns:
            (B, L) indices from 1, and whether there is any, (B, 1).
        """
        count = self.values[self.item]
        taken = ops.sort(ops.where(items > 0, items - 1, count), axis=1)
        again = ops.pad(taken[:, 1:] == taken[:, :-1], [(0, 0), (1, 0)])
        taken = ops.sort(ops.where(again, count, taken), axis=1)
        left = count - ops.sum(ops.cast(taken < count, "int32"), axis=1, keepdims=True)
        drawn = self._below(ops.broadcast_to(left, ops.shape(items)))
        places = ops.arange(ops.shape(items)[1], dtype=taken.dtype)
        before = ops.where(taken < count, taken - places, count)
        found = drawn + rank_among(before, drawn)
        return ops.minimum(found, count - 1) + 1, left > 0

    def _segment_losses(self, sums: dict[str, Tensor], packing: Packing, training: bool) -> Tensor:
        """Of SP at the last position of each window, (P,); 0 elsewhere."""
        inside, source = self.segments(packing)
        others = {kind: ops.take(total, source, axis=0) for kind, total in sums.items()}
        context, own, other = (
            self._last(self.encoder(x, packing=packing, training=training), packing)
            for x in (
                self.masked(sums, dict.fromkeys(sums, inside)),
                self.masked(sums, dict.fromkeys(sums, ~inside)),
                self.masked(others, dict.fromkeys(sums, ~inside)),
            )
        )
        loss = pairwise_loss(self.projections["sp"](context), own, other)
        loss = ops.where(packing.lengths > 1, loss, 0.0)
        return ops.where(packing.ages() == 0, packing.spread(loss), 0.0)

    def segments(self, packing: Packing) -> tuple[Tensor, Tensor]:
        """A segment of each window, and another one that stands for it.

        Returns:
            Whether a position is in its window's segment, (P,), and the position among the batch's
            behaviours that stands there in the other one, (P,); 0 outside of it.
        """
        lengths = packing.lengths
        size = 1 + self._below(lengths // 2)
        start = self._below(lengths - size + 1)
        other = self._below(ops.sum(lengths) - size + 1)
        offset = packing.spread(lengths - start) - 1 - packing.ages()
        inside = (offset >= 0) & (offset < packing.spread(size))
        return inside, ops.where(inside, packing.spread(other) + offset, 0)

    def _last(self, h: Tensor, packing: Packing) -> Tensor:
        """The rows of the last positions, (B, W)."""
        return packing.sum(ops.where((packing.ages() == 0)[:, None], h, 0.0))

    def _below(self, bound: Tensor) -> Tensor:
        """Whole numbers from 0 to below each bound; 0 for one of 0."""
        share = keras.random.uniform(ops.shape(bound), seed=self.seed)
        drawn = ops.cast(share * ops.cast(bound, "float32"), "int32")
        return ops.clip(drawn, 0, ops.maximum(bound - 1, 0))


def pairwise_loss(x: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """-log s(s(x own) - s(x other)), s the logistic function: (P, W) each to (P,).

    Example:
        >>> zeros = ops.zeros((1, 2))
        >>> round(float(pairwise_loss(zeros, zeros, zeros)[0]), 4)
        0.6931
    """
    f, g = (ops.sigmoid(ops.cast(ops.sum(x * e, axis=1), "float32")) for e in (own, other))
    return ops.softplus(g - f)
