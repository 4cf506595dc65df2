"""What all pre-training has: embedded behaviours with masks, the encoder, the next item."""

from __future__ import annotations

from collections.abc import Collection

import keras
from keras import ops

from ctr_tf.layers.packing import Packing, chosen
from ctr_tf.layers.sequence.transformer import Encoder
from ctr_tf.losses.softmax import NONE
from ctr_tf.models.embedder import Embedder
from ctr_tf.models.srp4ctr.attributes import attribute_values, pretrained_attributes
from ctr_tf.models.srp4ctr.cloze import ClozeHead
from ctr_tf.models.srp4ctr.config import MASKED, AnyObjective, Tasks
from ctr_tf.models.srp4ctr.transfer import SRP4CTR, SRP4CTRConfig
from ctr_tf.schema import Schema
from ctr_tf.types import Tensor


class HistoryModel(keras.Model):
    """Behaviours, some of them masked, and the encoder that a model takes over.

    A behaviour is x_i + s_i + p_i: the sum of its item attributes' embeddings or, masked, a vector
    of its own; the sum of its other attributes' or another one; its position (Han et al. 2024,
    section 2.1). An objective adds its heads, `losses_of` and `item_scores`, and ends its
    constructor with `self(self.example_features())`.

    Args:
        schema: of the log.
        config: of the model whose encoder is pre-trained.
        objective: what is learned.
        rows: rows of each encoder's embedding table.
        told: further attributes, which have tables but are no input of the encoder.

    Attributes:
        attributes: what the encoder reads.
        items: those of the item; the first is what the next item is told by.
        behaviours: the others.
        masked_tasks: of the objective, see `Tasks`.
        tasks: their names.
        values: of each attribute, how many indices from 1 are values.

    Shapes:
        features of `MaskedHistories`; returns (B, L, W).

    Raises:
        SettingError: see `pretrained_attributes`.
    """

    def __init__(
        self,
        schema: Schema,
        config: SRP4CTRConfig,
        objective: AnyObjective,
        rows: dict[str, int],
        told: Collection[str] = (),
        **kwargs,
    ):
        super().__init__(**{"name": objective.name, **kwargs})
        self.config = objective
        found = pretrained_attributes(schema, config)
        self.sequence, self.attributes = found.sequence, found.read
        self.items, self.behaviours = found.items, found.behaviours
        self.masked_tasks: Tasks = objective.tasks(found)
        self.tasks = list(self.masked_tasks)
        known = schema.sequences[self.sequence].attributes
        embedded = [name for name in known if name in (*self.attributes, *told)]
        self.schema = _of_behaviours(schema, self.sequence, embedded)
        self.values = attribute_values(schema, self.sequence, embedded, rows)
        self.width = config.encoder.width
        # Whether the model freezes what it takes over is nothing to pre-training.
        trained = config.model_copy(update={"freeze": False, "attributes": []})
        with keras.name_scope(self.name):
            self.embedder = Embedder(
                self.schema, rows, SRP4CTR.embedding(trained, self.schema), {}, {}, False,
                name="embedder",
            )  # fmt: skip
            self.encoder = Encoder(config.encoder, project=False, name="encoder")
            self.encoder.build((None, self.width))
        kinds = MASKED if self.behaviours else MASKED[:1]
        self.masks = {
            kind: self.add_weight(
                name=kind,
                shape=(self.width,),
                initializer=keras.initializers.RandomNormal(stddev=0.02),
            )
            for kind in kinds
        }

    def build(self, input_shape=None):
        self.built = True

    def call(self, features: dict[str, Tensor], training: bool = False) -> Tensor:
        packing = self.packing(features)
        x = self.masked(self.summed(features), packed_masks(features, packing))
        return packing.unpack(self.encoder(x, packing=packing, training=training))

    def packing(self, features: dict[str, Tensor]) -> Packing:
        """Of the behaviours."""
        return Packing.of(features[f"{self.sequence}_mask"])

    def summed(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """The sums of item attributes' embeddings and of others', by their mask: (P, W) each."""
        packing = self.packing(features)
        (user,) = self.embedder.embed(self.embedder.user(features, None))
        values = user.sequences[self.sequence].values
        return {
            kind: sum(packing.pack(values[name]) for name in names)
            for kind, names in zip(MASKED, (self.items, self.behaviours))
            if names
        }

    def masked(self, sums: dict[str, Tensor], masks: dict[str, Tensor]) -> Tensor:
        """What the encoder reads of `summed`, with `packed_masks`: (P, W)."""
        return sum(
            ops.where(masks[kind][:, None], ops.cast(self.masks[kind], total.dtype), total)
            for kind, total in sums.items()
        )

    def table(self, name: str) -> Tensor:
        """The embeddings of an attribute's values, (V, W)."""
        encoder = self.schema.encoder(name, self.sequence)
        rows = self.embedder.tables.read(encoder, 1, self.values[name])
        return ops.cast(rows, self.embedder.compute_dtype)

    def cloze_head(self, attribute: str, **options) -> ClozeHead:
        """A head of an attribute, whose softmax is over a sample of many values.

        A sample is drawn by rank of frequency where that is the order of the values.

        Args:
            attribute: its name.
            options: further ones of the head.
        """
        values, spec = self.values[attribute], self.schema.attribute(self.sequence, attribute)
        samples = 0 if spec.multi or values <= self.config.sample_above else self.config.samples
        ranked = spec.encoding == "vocabulary"
        return ClozeHead(self.width, values, samples=samples, ranked=ranked, **options)

    def sampled_scores(
        self, head: ClozeHead, name: str, h: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Scores of labels, and of a sample of an attribute's values less log Q.

        Args:
            head: of the attribute.
            name: of the attribute.
            h: (P, states).
            labels: values from 0, (P,).

        Returns:
            s of the labels and their log Q, (P,); s - log Q of the sample, `NONE` where it is the
            row's label, (P, S); the sampled values, (S,).
        """
        encoder = self.schema.encoder(name, self.sequence)
        drawn, of_labels, of_drawn = head.sample(labels)
        own, others = self.embedder.tables.lookup([(encoder, labels + 1), (encoder, drawn + 1)])
        projected, bias = head.projection(h), ops.convert_to_tensor(head.bias)
        score = ops.cast(ops.sum(projected * own, axis=1), "float32") + ops.take(bias, labels)
        scores = ops.cast(ops.matmul(projected, ops.transpose(others)), "float32")
        scores = scores + ops.take(bias, drawn) - ops.log(of_drawn)
        scores = ops.where(labels[:, None] == drawn[None, :], NONE, scores)
        return score, ops.log(of_labels), scores, drawn

    def next_item(self, features: dict[str, Tensor]) -> Tensor:
        """Scores of all values of the first item attribute behind the last behaviour, (B, V).

        One behaviour more is asked for, masked in both ways: nothing is known of it. Of a history
        that is full the oldest one is left out: training has no position before it.
        """
        name, limit = f"{self.sequence}_mask", self.schema.sequences[self.sequence].max_length
        lengths = ops.sum(ops.cast(features[name], "int32"), axis=1)[:, None]
        places = ops.arange(ops.shape(features[name])[1] + 1, dtype="int32")
        made = {
            spec.name: ops.pad(
                features[spec.name], [(0, 0), (0, 1), *[(0, 0)] * (len(spec.axes) - 2)]
            )
            for spec in self.schema.inputs
            if spec.sequence == self.sequence and spec.name != name
        }
        asked = places == lengths
        kept = (places <= lengths) & (places > lengths - limit)
        made |= {name: kept} | {kind: asked for kind in MASKED}
        return self.item_scores(chosen(self(made), asked))

    def item_scores(self, h: Tensor) -> Tensor:
        """Scores of all values of the first item attribute for what `call` returns: (P, V)."""
        raise TypeError(f"{type(self).__name__} defines no item_scores")

    def losses_of(
        self, features: dict[str, Tensor], labels: dict[str, Tensor], training: bool = True
    ) -> dict[str, Tensor]:
        """The loss of each task and position, (B, L) each; 0 where there is none."""
        raise TypeError(f"{type(self).__name__} defines no losses_of")

    def example_features(self) -> dict[str, Tensor]:
        """A batch of one history of one padded behaviour; it builds the weights."""
        made = {
            spec.name: ops.zeros((1,) * len(spec.axes), "bool" if spec.dtype == "bool" else "int32")
            for spec in self.schema.inputs
            if spec.sequence == self.sequence
        }
        return made | {kind: ops.zeros((1, 1), "bool") for kind in MASKED}


def packed_masks(features: dict[str, Tensor], packing: Packing) -> dict[str, Tensor]:
    """The masks of a batch, (P,) each."""
    return {kind: packing.pack(features[kind]) for kind in MASKED}


def _of_behaviours(schema: Schema, sequence: str, attributes: list[str]) -> Schema:
    """What of a schema the named attributes of a sequence need.

    Features that define their tables, or share them, are no input: of whatever side they are,
    they count as the candidate's, which is not embedded.
    """
    spec = schema.sequences[sequence]
    kept = {name: spec.attributes[name] for name in attributes}
    encoders = {schema.encoder(name, sequence) for name in kept}
    features = {
        name: feature.model_copy(update={"side": "candidate"})
        for name, feature in schema.features.items()
        if schema.encoder(name) in encoders
    }
    own = spec.model_copy(update={"attributes": kept})
    return Schema(
        keys=schema.keys, features=features, sequences={sequence: own}, tasks=schema.tasks
    )
