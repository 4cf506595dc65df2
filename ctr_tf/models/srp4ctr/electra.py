"""ELECTRA on histories: an encoder that learns which items a generator has replaced."""

from __future__ import annotations

import keras
from keras import ops

from ctr_tf.layers.packing import chosen, placed
from ctr_tf.layers.sequence.transformer import Encoder
from ctr_tf.losses.cross_entropy import binary_cross_entropy
from ctr_tf.losses.softmax import sampled_softmax_loss, softmax_loss
from ctr_tf.models.srp4ctr.config import MASKED_ITEMS, ElectraConfig
from ctr_tf.models.srp4ctr.history_model import HistoryModel, packed_masks
from ctr_tf.models.srp4ctr.transfer import SRP4CTRConfig
from ctr_tf.schema import Schema
from ctr_tf.types import Tensor


class Electra(HistoryModel):
    """ELECTRA (Clark et al. 2020, arXiv:2003.10555, section 2), whose tokens are item ids.

    A generator, narrower than the encoder and with its embeddings, tells masked items; samples of
    its softmax take their places. The encoder, as discriminator, tells at each behaviour whether
    the item is the one that was there, D = s(h w + b), a sample that happens to be right among
    them. Above `sample_above` items the softmax is over a sample of them and the label. The loss is
    L_MLM + lambda L_Disc, each a mean over its behaviours as in the released code; no gradient
    passes through the samples. Item attributes besides the id are hidden from the generator with
    it; to the discriminator they, and what else a behaviour has, are as they were. The generator
    ranks next items, and what is taken over is the encoder.

    Args:
        schema, config, objective, rows: see `HistoryModel`.

    Attributes:
        item: the attribute that is replaced, the first of the item.

    Shapes:
        returns the generator's output, (B, L, `generator_width`).

    Raises:
        SettingError: see `pretrained_attributes` and `ElectraConfig.generator`.
    """

    def __init__(
        self,
        schema: Schema,
        config: SRP4CTRConfig,
        objective: ElectraConfig,
        rows: dict[str, int],
        **kwargs,
    ):
        super().__init__(schema, config, objective, rows, **kwargs)
        self.item = self.items[0]
        own = objective.generator(config.encoder)
        with keras.name_scope(self.name):
            self.generator = Encoder(own, name="generator")
            self.generator.build((None, self.width))
            self.generator_head = self.cloze_head(
                self.item, states=own.width, name="generator_head"
            )
            self.discriminator_head = keras.layers.Dense(1, name="discriminator_head")
            self.discriminator_head.build((None, self.width))
            self.samples = keras.random.SeedGenerator(name="samples")
        self(self.example_features())

    def call(self, features: dict[str, Tensor], training: bool = False) -> Tensor:
        packing = self.packing(features)
        x = self.masked(self.summed(features), packed_masks(features, packing))
        return packing.unpack(self.generator(x, packing=packing, training=training))

    def losses_of(
        self, features: dict[str, Tensor], labels: dict[str, Tensor], training: bool = True
    ) -> dict[str, Tensor]:
        """Cross-entropies of masked items, and lambda times those of the discriminator."""
        masked = features[MASKED_ITEMS] & features[f"{self.sequence}_mask"]
        h = chosen(self(features, training=training), masked)
        # One that is none has no weight.
        label = ops.clip(chosen(labels["generator"], masked) - 1, 0, self.values[self.item] - 1)
        loss, replaced = self._generated(h, label)
        name = f"{self.sequence}_{self.item}"
        items = features[name]
        corrupted = ops.where(masked, placed(replaced + 1, masked), items)
        logits = self.discriminated({**features, name: corrupted}, training)
        real = ops.cast(corrupted == items, logits.dtype)
        return {
            "generator": placed(loss, masked),
            "discriminator": self.config.discriminator_weight * binary_cross_entropy(real, logits),
        }

    def _generated(self, h: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The generator's loss at P masked positions, and what takes their items' places: (P,)."""
        if not self.generator_head.samples:
            scores = self.item_scores(h)
            return softmax_loss(scores, labels), self.drawn(scores)
        own, log_q, sampled, values = self.sampled_scores(self.generator_head, self.item, h, labels)
        # By importance: a value stands for 1 / Q of its like, the label, always there, for itself.
        place = self.drawn(ops.concatenate([own[:, None], sampled], axis=1))
        replaced = ops.where(place == 0, labels, ops.take(values, ops.maximum(place - 1, 0)))
        return sampled_softmax_loss(own - log_q, sampled), replaced

    def item_scores(self, h: Tensor) -> Tensor:
        return self.generator_head(h, self.table(self.item))

    def drawn(self, scores: Tensor) -> Tensor:
        """A value of each row's softmax, (P,) of (P, V)."""
        return keras.random.categorical(scores, 1, seed=self.samples)[:, 0]

    def discriminated(self, features: dict[str, Tensor], training: bool = False) -> Tensor:
        """Logits of D, that an item is real: (B, L), 0 where there is none."""
        packing = self.packing(features)
        x = sum(self.summed(features).values())
        h = self.encoder(x, packing=packing, training=training)
        return packing.unpack(ops.cast(self.discriminator_head(h)[:, 0], "float32"))
