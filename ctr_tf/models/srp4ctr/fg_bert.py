"""Fine-grained BERT: an encoder of behaviours that learns what is masked of them."""

from __future__ import annotations

import keras
from keras import ops

from ctr_tf.layers.packing import chosen, placed
from ctr_tf.losses.softmax import multi_label_loss, sampled_softmax_loss, softmax_loss
from ctr_tf.models.srp4ctr.config import MASKED, FGBertConfig
from ctr_tf.models.srp4ctr.history_model import HistoryModel
from ctr_tf.models.srp4ctr.transfer import SRP4CTRConfig
from ctr_tf.schema import Schema
from ctr_tf.types import Tensor


class FGBert(HistoryModel):
    """Fine-grained BERT (Han et al. 2024, section 2.1).

    A bidirectional transformer over behaviours (see `HistoryModel`) tells the masked attributes,
    each by `ClozeHead`: equation 1 is, in negative logarithms, a sum of cross-entropies over masked
    behaviours and attributes. An attribute of several values has a cross-entropy each value.
    Weights of the attributes, which are the tasks, are `train.task_weights`.

    With item attributes alone, one of them, it is BERT4Rec.

    Args:
        schema, config, objective, rows: see `HistoryModel`.
    """

    def __init__(
        self,
        schema: Schema,
        config: SRP4CTRConfig,
        objective: FGBertConfig,
        rows: dict[str, int],
        **kwargs,
    ):
        super().__init__(schema, config, objective, rows, **kwargs)
        with keras.name_scope(self.name):
            self.heads = {name: self.cloze_head(name, name=f"{name}_head") for name in self.tasks}
        self(self.example_features())

    def losses_of(
        self, features: dict[str, Tensor], labels: dict[str, Tensor], training: bool = True
    ) -> dict[str, Tensor]:
        """The cross-entropy of each masked attribute, (B, L) each; 0 elsewhere."""
        output = self(features, training=training)
        found = {}
        for kind, names in zip(MASKED, (self.items, self.behaviours)):
            masked = features[kind] & features[f"{self.sequence}_mask"]
            h = chosen(output, masked)
            for name in names:
                loss = self._loss(name, h, chosen(labels[name], masked) - 1)
                found[name] = placed(loss, masked)
        return found

    def _loss(self, name: str, h: Tensor, labels: Tensor) -> Tensor:
        """Of P masked positions (P, W), whose values are (P,) or (P, M) from 0; (P,)."""
        head, count = self.heads[name], self.values[name]
        if len(labels.shape) > 1:
            labels = ops.where(labels < count, labels, -1)
            return multi_label_loss(head(h, self.table(name)), labels)
        # One that is none has no weight.
        labels = ops.clip(labels, 0, count - 1)
        if not head.samples:
            return softmax_loss(head(h, self.table(name)), labels)
        own, log_q, sampled, _ = self.sampled_scores(head, name, h, labels)
        return sampled_softmax_loss(own - log_q, sampled)

    def item_scores(self, h: Tensor) -> Tensor:
        return self.heads[self.items[0]](h, self.table(self.items[0]))
