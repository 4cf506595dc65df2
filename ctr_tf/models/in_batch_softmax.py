"""Training as retrieval models have it: each positive against the items of its batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveInt

from ctr_tf import layers
from ctr_tf.config_base import Config, SettingError
from ctr_tf.schema import CANDIDATES_MASK, Categorical, Schema
from ctr_tf.types import Tensor

if TYPE_CHECKING:
    from ctr_tf.models.model import CTRModel


class InBatchSoftmaxConfig(Config):
    """Each positive against all positives of its batch, with log-Q correction.

    For a factorised architecture, whose logits of all items are one product. What such a model
    exports as probabilities is the logistic function of its logits, whose order alone counts.

    Args:
        log_q: whether scores are corrected for how often an item is in a batch.
        cutoff: k of HR@k and NDCG@k in validation, see `RetrievalValidator`.
        frequency_rate: see `ItemFrequency`.
    """

    kind: Literal["in_batch_softmax"] = "in_batch_softmax"
    log_q: bool = True
    cutoff: PositiveInt = 100
    frequency_rate: float = Field(0.01, gt=0, le=1)

    def check(self, tasks: Sequence[str]) -> None:
        """Any tasks will do."""


def item_feature(schema: Schema) -> str:
    """The candidate feature that says which item it is, `keys.item`.

    Raises:
        SettingError: there is none, or its values are several or numbers.

    Example:
        >>> item_feature(Schema(keys={"item": "item_id"},
        ...                     features={"item_id": {"kind": "categorical"}},
        ...                     tasks={"click": {"column": "click"}}))
        'item_id'
    """
    for name, feature in schema.side("candidate").items():
        if isinstance(feature, Categorical) and not feature.multi:
            if (feature.column or name) == schema.keys.item:
                return name
    raise SettingError(
        ("model", "heads", "kind"),
        "in_batch_softmax tells items apart by the candidate feature of keys.item; there is none",
    )


class InBatchSoftmax:
    """The softmax cross-entropy of each positive among the positives of its batch.

    Yi et al. 2019, RecSys, section 3.2; see `ctr_tf.losses.softmax.in_batch_softmax`. The items of
    a batch are those with a positive label of any task, also where an impression weighs nothing;
    each is encoded once. Several replicas, and accumulated batches, each take the items of their
    part. A candidate without a positive label has no loss, so that the mean loss of an impression
    is that of a positive times their share.

    Args:
        config: see `InBatchSoftmaxConfig`.
        schema: of the log.
        rows: rows of each encoder's table.

    Raises:
        SettingError: see `item_feature`.
    """

    def __init__(self, config: InBatchSoftmaxConfig, schema: Schema, rows: dict[str, int]):
        self.item = item_feature(schema)
        self.frequency = None
        if config.log_q:
            count = rows[schema.encoder(self.item)]
            self.frequency = layers.ItemFrequency(count, config.frequency_rate, name="frequency")

    def __call__(
        self,
        model: "CTRModel",
        features: dict[str, Tensor],
        labels: dict[str, Tensor],
        training: bool,
    ) -> dict[str, Tensor]:
        """The loss of each candidate, (B, N) per task; 0 without a positive label."""
        from keras import ops

        from ctr_tf.losses.softmax import in_batch_softmax

        mask = features[CANDIDATES_MASK]
        positives = {task: mask & (labels[task] > 0) for task in model.tasks}
        pooled = ops.any(ops.stack(list(positives.values())), axis=0)
        own = {
            spec.name: layers.chosen(features[spec.name], pooled)[None]
            for spec in model.item_inputs
        }
        vectors = model.item_encoder(own, training=training)[0]
        weight = ops.sum(ops.cast(mask, "float32"), axis=1)
        users = {spec.name: features[spec.name] for spec in model.user_inputs}
        state = model.user_tower(users, weight, training=training)
        query = model.query_tower(state, features, training=training)
        items = own[self.item][0]
        log_q = None
        if self.frequency is not None and training:
            log_q = ops.log(self.frequency(items))
        place = ops.cumsum(ops.cast(ops.reshape(pooled, (-1,)), "int32")) - 1
        place = ops.reshape(place, ops.shape(pooled))
        request = ops.broadcast_to(ops.arange(ops.shape(mask)[0])[:, None], ops.shape(mask))
        found = {}
        for task, positive in positives.items():
            asked = ops.take(query, layers.chosen(request, positive), axis=0)
            scores = ops.matmul(asked, ops.transpose(vectors))
            loss = in_batch_softmax(scores, items, layers.chosen(place, positive), log_q)
            found[task] = layers.placed(loss, positive)
        return found


def batch_loss(config: Config, schema: Schema, rows: dict[str, int]) -> InBatchSoftmax | None:
    """The loss of that configuration of heads; None where each candidate has one of its own."""
    if isinstance(config, InBatchSoftmaxConfig):
        return InBatchSoftmax(config, schema, rows)
    return None
