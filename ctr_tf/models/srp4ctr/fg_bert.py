"""Fine-grained BERT: an encoder of behaviours that learns what is masked of them."""

from __future__ import annotations

import keras
from keras import ops

from ctr_tf.layers.layer_norm import LayerNorm
from ctr_tf.layers.packing import Packing
from ctr_tf.layers.sampling import log_uniform_sample
from ctr_tf.layers.sequence.transformer import Encoder
from ctr_tf.models.embedder import Embedder
from ctr_tf.models.srp4ctr.cloze import (
    ClozeHead,
    chosen,
    multi_label_loss,
    placed,
    sampled_softmax_loss,
    softmax_loss,
)
from ctr_tf.models.srp4ctr.config import FGBertConfig
from ctr_tf.models.srp4ctr.transfer import SRP4CTR, SRP4CTRConfig
from ctr_tf.schema import Schema
from ctr_tf.types import Tensor

MASKED = ("masked_items", "masked_behaviours")
"""Features (B, L): behaviours whose item attributes, or whose other ones, are masked."""


class FGBert(keras.Model):
    """Fine-grained BERT (Han et al. 2024, section 2.1).

    A behaviour is x_i + s_i + p_i: the sum of its item attributes' embeddings or, masked, a vector
    of its own; the sum of its other attributes' or another one; its position. A bidirectional
    transformer tells the masked attributes, each by `ClozeHead`: equation 1 is, in negative
    logarithms, a sum of cross-entropies over masked behaviours and attributes. An attribute of
    several values has a cross-entropy each value. Weights of the attributes are
    `train.task_weights`.

    With item attributes alone, one of them, it is BERT4Rec.

    Args:
        schema: of the log.
        config: of the model whose encoder is pre-trained.
        objective: masks and samples.
        rows: rows of each encoder's embedding table.

    Attributes:
        tasks: the attributes.
        items: those of the item; the first is what the next item is told by.
        behaviours: the others.

    Shapes:
        features of `MaskedHistories`; returns (B, L, W).

    Raises:
        ValueError: no item attribute.
    """

    def __init__(
        self,
        schema: Schema,
        config: SRP4CTRConfig,
        objective: FGBertConfig,
        rows: dict[str, int],
        **kwargs,
    ):
        super().__init__(**{"name": objective.name, **kwargs})
        self.config = objective
        self.sequence = config.sequence or next(iter(schema.sequences))
        known = schema.sequences[self.sequence].attributes
        self.tasks = [name for name in known if name in (config.attributes or known)]
        candidate = schema.side("candidate")
        self.items = [name for name in self.tasks if name in candidate]
        self.behaviours = [name for name in self.tasks if name not in candidate]
        if not self.items:
            raise ValueError(
                f"pre-training masks items: {self.sequence} has no attribute of the candidate's, "
                f"it has {self.tasks}"
            )
        self.schema = _of_behaviours(schema, self.sequence, self.tasks)
        self.values = {name: self._values(name, rows) for name in self.tasks}
        width = config.encoder.width
        # Whether the model freezes what it takes over is nothing to pre-training.
        trained = config.model_copy(update={"freeze": False})
        with keras.name_scope(self.name):
            self.embedder = Embedder(
                self.schema, rows, SRP4CTR.embedding(trained, self.schema), {}, {}, False,
                name="embedder",
            )  # fmt: skip
            self.encoder = Encoder(config.encoder, project=False, name="encoder")
            self.encoder.build((None, width))
            self.input_norm = LayerNorm(name="input_norm") if config.input_norm else None
            self.heads = {
                name: ClozeHead(width, self.values[name], name=f"{name}_head")
                for name in self.tasks
            }
        kinds = MASKED if self.behaviours else MASKED[:1]
        self.masks = {
            kind: self.add_weight(
                name=kind,
                shape=(width,),
                initializer=keras.initializers.RandomNormal(stddev=0.02),
            )
            for kind in kinds
        }
        self(self.example_features())

    def build(self, input_shape=None):
        self.built = True

    def _values(self, name: str, rows: dict[str, int]) -> int:
        """Values of an attribute that have a row of their own, from row 1 on."""
        spec = self.schema.attribute(self.sequence, name)
        others = 0 if spec.encoding == "hashed" else spec.oov
        return rows[self.schema.encoder(name, self.sequence)] - 1 - others

    def call(self, features: dict[str, Tensor], training: bool = False) -> Tensor:
        packing = Packing.of(features[f"{self.sequence}_mask"])
        (user,) = self.embedder.embed(self.embedder.user(features, None))
        values = user.sequences[self.sequence].values
        x = 0.0
        for kind, names in zip(MASKED, (self.items, self.behaviours)):
            if names:
                total = sum(packing.pack(values[name]) for name in names)
                masked = packing.pack(features[kind])[:, None]
                x = x + ops.where(masked, ops.cast(self.masks[kind], total.dtype), total)
        x = self.encoder.embed(x, packing)
        x = self.input_norm(x) if self.input_norm else x
        encoded, _ = self.encoder.encode(x, packing, training=training)
        return packing.unpack(encoded)

    def losses_of(
        self, features: dict[str, Tensor], labels: dict[str, Tensor], training: bool = True
    ) -> dict[str, Tensor]:
        """The cross-entropy of each masked attribute, (B, L) each; 0 elsewhere."""
        encoded = self(features, training=training)
        found = {}
        for kind, names in zip(MASKED, (self.items, self.behaviours)):
            masked = features[kind] & features[f"{self.sequence}_mask"]
            h = chosen(encoded, masked)
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
        if count <= self.config.sample_above:
            return softmax_loss(head(h, self.table(name)), labels)
        return self._sampled_loss(name, h, labels)

    def _sampled_loss(self, name: str, h: Tensor, labels: Tensor) -> Tensor:
        """Over values drawn by rank of frequency, which the vocabulary's order is."""
        head, encoder = self.heads[name], self.schema.encoder(name, self.sequence)
        samples, values = self.config.samples, self.values[name]
        drawn, of_labels, of_drawn = log_uniform_sample(labels, samples, values)
        own, others = self.embedder.tables.lookup([(encoder, labels + 1), (encoder, drawn + 1)])
        projected = head.projection(h)
        bias = ops.convert_to_tensor(head.bias)
        score = ops.cast(ops.sum(projected * own, axis=1), "float32") + ops.take(bias, labels)
        scores = ops.cast(ops.matmul(projected, ops.transpose(others)), "float32")
        scores = scores + ops.take(bias, drawn)
        return sampled_softmax_loss(
            score - ops.log(of_labels),
            scores - ops.log(of_drawn),
            labels[:, None] == drawn[None, :],
        )

    def table(self, name: str) -> Tensor:
        """The embeddings of an attribute's values, (V, W)."""
        encoder = self.schema.encoder(name, self.sequence)
        rows = self.embedder.tables.read(encoder, 1, self.values[name])
        return ops.cast(rows, self.embedder.compute_dtype)

    def next_item(self, features: dict[str, Tensor]) -> Tensor:
        """Scores of all values of the first item attribute behind the last behaviour, (B, V).

        One behaviour more is asked for, masked in both ways: nothing is known of it.
        """
        name = f"{self.sequence}_mask"
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
        made |= {name: places <= lengths} | {kind: asked for kind in MASKED}
        h = chosen(self(made), asked)
        return self.heads[self.items[0]](h, self.table(self.items[0]))

    def example_features(self) -> dict[str, Tensor]:
        """A batch of one history of one padded behaviour; it builds the weights."""
        made = {
            spec.name: ops.zeros((1,) * len(spec.axes), "bool" if spec.dtype == "bool" else "int32")
            for spec in self.schema.inputs
            if spec.sequence == self.sequence
        }
        return made | {kind: ops.zeros((1, 1), "bool") for kind in MASKED}


def _of_behaviours(schema: Schema, sequence: str, attributes: list[str]) -> Schema:
    """What of a schema the named attributes of a sequence need."""
    spec = schema.sequences[sequence]
    kept = {name: spec.attributes[name] for name in attributes}
    encoders = {schema.encoder(name, sequence) for name in kept}
    features = {
        name: feature
        for name, feature in schema.features.items()
        if schema.encoder(name) in encoders
    }
    own = spec.model_copy(update={"attributes": kept})
    return Schema(
        keys=schema.keys, features=features, sequences={sequence: own}, tasks=schema.tasks
    )
