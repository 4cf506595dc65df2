"""The Keras model around every architecture: embedder, body, heads."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import keras
import numpy as np
from keras import ops

from ctr_tf import registry
from ctr_tf.models.architecture import layers_of
from ctr_tf.models.config import ModelConfig
from ctr_tf.models.embedder import Embedder
from ctr_tf.models.heads import BinaryHeads, Outputs
from ctr_tf.models.in_batch_softmax import batch_loss
from ctr_tf.models.item_encoding import ItemEncoding
from ctr_tf.models.multitask import task_network
from ctr_tf.models.parts import candidate_parts
from ctr_tf.models.widths import embedded_widths
from ctr_tf.schema import CANDIDATES_MASK, InputSpec, Schema, Text
from ctr_tf.types import CandidateSide, ContextSide, State, Tensor, UserSide


@keras.saving.register_keras_serializable("ctr_tf")
class CTRModel(keras.Model):
    """Scores each candidate of each request: `call` is `item_tower(user_tower(.))`.

    It reads preprocessed features (indices, normalised numbers, masks): what
    `ctr_tf.data.preprocess.Preprocessor` makes of raw ones.

    Args:
        schema: features, sequences, tasks.
        config: the architecture's configuration.
        rows: rows of each encoder's embedding table.
        vectors: cached tables of vector features.

    Shapes:
        features as `Schema.inputs` names them; outputs (B, N) logits per task.

    Example:
        >>> schema = Schema(features={"item_id": {"kind": "categorical"}},
        ...                 tasks={"click": {"column": "click"}})
        >>> model = CTRModel(schema, registry.get("dcn_v2").config(name="dcn_v2"), {"item_id": 9})
        >>> features = {"item_id": ops.array([[1, 2, 3]]),
        ...             "candidates_mask": ops.ones((1, 3), bool)}
        >>> model(features)["click"].shape
        TensorShape([1, 3])
    """

    def __init__(
        self,
        schema: Schema,
        config: ModelConfig,
        rows: dict[str, int],
        vectors: dict[str, np.ndarray] | None = None,
        **kwargs,
    ):
        super().__init__(**{"name": config.name, **kwargs})
        entry = registry.get(config.name)
        self.schema = schema
        self.config = config
        self.rows = dict(rows)
        embedding = entry.body.embedding(config, schema)
        widths = embedded_widths(schema, embedding, entry.body.one_width, config.user_context)
        entry.body.check(config, widths)  # Its views are made of what fits.
        # Weights made before the first call get the path that those made in it have.
        with keras.name_scope(self.name):
            self.embedder = Embedder(
                schema,
                rows,
                embedding,
                vectors or {},
                entry.body.views_of(config, widths),
                entry.body.one_width,
                config.user_context,
                name="embedder",
            )
            self.body = entry.body(config, self.embedder.widths)
            self.batch_loss = batch_loss(config.heads, schema, rows)
        # A body is a plain object, so that its file imports without Keras: its layers are
        # tracked here.
        self.body_layers = layers_of(self.body)
        network = task_network(config.heads, list(schema.tasks))
        self.heads = BinaryHeads(schema.tasks, network, entry.body.logit_alone, name="heads")
        self.batch_loss_layers = layers_of(self.batch_loss) if self.batch_loss else []
        self(self.example_features())

    def build(self, input_shape=None):
        self.built = True

    def call(self, features: dict[str, Tensor], training: bool = False) -> Outputs:
        mask = features[CANDIDATES_MASK]
        weight = ops.sum(ops.cast(mask, "float32"), axis=1)
        user, context, candidates = self.embedder.embed(
            self.embedder.user(features, weight),
            self.embedder.context(features),
            self.embedder.candidates(features, mask),
        )
        state = self._state_of(user, training)
        return self._outputs_of(state, context, self._multiplied(candidates, training), training)

    def user_tower(
        self,
        user_features: dict[str, Tensor],
        weight: Tensor | None = None,
        training: bool = False,
    ) -> State:
        """All that depends on the user alone (and on the declared context).

        Args:
            user_features: features of the user side; a model that reads none of it takes
                `request_mask` (B,) to know B.
            weight: (B,), valid impressions of each request, for batch statistics; 1 by default.
            training: whether batch statistics and dropout are of training.

        Returns:
            The state: a flat dict of dense tensors, first axis B.
        """
        if weight is None:
            weight = ops.ones((ops.shape(user_features[self.user_inputs[0].name])[0],))
        (user,) = self.embedder.embed(self.embedder.user(user_features, weight))
        return self._state_of(user, training)

    def item_tower(
        self,
        state: State,
        context: dict[str, Tensor],
        item_features: dict[str, Tensor],
        training: bool = False,
    ) -> Outputs:
        """Named outputs (logits), (B, N) each, from the user tower's state."""
        of_context, candidates = self.embedder.embed(
            self.embedder.context(context),
            self.embedder.candidates(item_features, item_features[CANDIDATES_MASK]),
        )
        candidates = self._multiplied(candidates, training)
        return self._outputs_of(state, of_context, candidates, training)

    def query_tower(
        self, state: State, context: dict[str, Tensor], training: bool = False
    ) -> Tensor:
        """What a factorised model multiplies the vectors of `item_encoder` with, (B, E)."""
        (of_context,) = self.embedder.embed(self.embedder.context(context))
        return self.body.query(state, of_context, training)

    @cached_property
    def item_encoding(self) -> ItemEncoding:
        """What of a candidate the item tower reads, besides the state and the context."""
        features = self.example_features()
        user, context, candidates = self.embedder.embed(
            self.embedder.user(features, ops.ones((1,))),
            self.embedder.context(features),
            self.embedder.candidates(features, features[CANDIDATES_MASK]),
        )
        state = self._state_of(user, training=False)
        return ItemEncoding(
            self._multiplied(candidates, training=False),
            lambda own: self._outputs_of(state, context, own, training=False),
        )

    def item_encoder(self, item_features: dict[str, Tensor], training: bool = False) -> Tensor:
        """All that depends on each candidate alone, (B, N, E): the vectors of `item_encoding`."""
        mask = item_features[CANDIDATES_MASK]
        (candidates,) = self.embedder.embed(self.embedder.candidates(item_features, mask))
        return self.item_encoding.pack(self._multiplied(candidates, training))

    def encoded_item_tower(
        self, state: State, context: dict[str, Tensor], vectors: Tensor, mask: Tensor
    ) -> Outputs:
        """What `item_tower` says of candidates of which `item_encoder` made these vectors.

        Args:
            state: of `user_tower`.
            context: context features.
            vectors: (B, N, E).
            mask: (B, N), True where there is a candidate.
        """
        (of_context,) = self.embedder.embed(self.embedder.context(context))
        candidates = self.item_encoding.unpack(vectors, mask)
        return self._outputs_of(state, of_context, candidates, training=False)

    def _multiplied(self, candidates: CandidateSide, training: bool) -> CandidateSide:
        """With what the body makes of the candidates alone."""
        products = self.body.candidate_products(candidates.fields, training)
        return replace(candidates, products=products)

    def _state_of(self, user: UserSide, training: bool) -> State:
        made = self.body.user_tower(user, training=training) if self.reads_user else {}
        state = {name: part for name, part in made.items() if part is not None}
        return state or {"empty": ops.zeros_like(user.weight)[:, None]}

    def _outputs_of(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Outputs:
        found = []
        # Statistics of a batch are of all of it.
        for part in [candidates] if training else candidate_parts(candidates):
            representation = self.body.item_tower(state, context, part, training=training)
            found.append(
                self.heads(
                    representation.vector, representation.logit, part.mask, training=training
                )
            )
        if len(found) == 1:
            return found[0]
        return {name: ops.concatenate([own[name] for own in found], axis=1) for name in found[0]}

    @property
    def tasks(self) -> list[str]:
        """What it is trained on."""
        return list(self.schema.tasks)

    def losses_of(
        self, features: dict[str, Tensor], labels: Outputs, training: bool = False
    ) -> Outputs:
        """The loss of each candidate, (B, N) per task."""
        if self.batch_loss:
            return self.batch_loss(self, features, labels, training)
        return self.heads.losses_of(self(features, training=training), labels)

    def scores(self, outputs: Outputs) -> Outputs:
        """Probabilities, (B, N) per output, from the outputs."""
        return self.heads.scores(outputs)

    @property
    def reads_user(self) -> bool:
        """Whether there is any user side to read."""
        return bool(self.embedder.side_features["user"] or self.schema.sequences)

    @property
    def user_inputs(self) -> list[InputSpec]:
        """What `user_tower` is fed with: the user side and the declared context features."""
        found = [
            spec
            for spec in self.schema.inputs
            if spec.side == "user" or spec.feature in self.config.user_context
        ]
        return found or [InputSpec("request_mask", "user", "bool", ("B",))]

    @property
    def context_inputs(self) -> list[InputSpec]:
        """What `item_tower` reads of the request besides the state."""
        own = [spec.name for spec in self.user_inputs]
        return [s for s in self.schema.inputs if s.side == "context" and s.name not in own]

    @property
    def item_inputs(self) -> list[InputSpec]:
        """What `item_tower` reads of the candidates."""
        return [spec for spec in self.schema.inputs if spec.side == "candidate"]

    def state_spec(self) -> dict[str, tuple[tuple[int | None, ...], str]]:
        """Name to shape (None where it varies with B or L) and dtype of each part of the state.

        Example:
            >>> schema = Schema(features={"item_id": {"kind": "categorical"}},
            ...                 tasks={"click": {"column": "click"}})
            >>> CTRModel(schema, registry.get("dcn_v2").config(name="dcn_v2"),
            ...          {"item_id": 9}).state_spec()
            {'empty': ((None, 1), 'float32')}
        """
        one, two = (
            self.user_tower({s.name: self._zeros(s, size) for s in self.user_inputs})
            for size in (1, 2)
        )
        return {
            name: (
                tuple(a if a == b else None for a, b in zip(part.shape, two[name].shape)),
                keras.backend.standardize_dtype(part.dtype),
            )
            for name, part in one.items()
        }

    def example_features(self) -> dict[str, Tensor]:
        """A batch of one request with one padded candidate and behaviour; it builds the weights."""
        return {spec.name: self._zeros(spec, 1) for spec in self.schema.inputs}

    def _zeros(self, spec: InputSpec, size: int) -> Tensor:
        """An all-padding tensor of that input, each axis of that size; text has its words' axis."""
        text = spec.sequence is None and isinstance(self.schema.features.get(spec.feature), Text)
        return ops.zeros((size,) * (len(spec.axes) + text), _index_dtype(spec))

    def get_config(self) -> dict:
        return {
            "schema": self.schema.to_json(),
            "model": self.config.model_dump(mode="json"),
            "rows": self.rows,
            "vectors": {name: list(v.shape) for name, v in self.embedder.vectors.items()},
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict) -> "CTRModel":
        model = registry.get(config["model"]["name"]).config(**config["model"])
        # The saved weights fill the cached tables; only their shapes are needed here.
        vectors = {name: np.zeros(shape, "float32") for name, shape in config["vectors"].items()}
        schema = Schema.from_json(config["schema"])
        return cls(schema, model, config["rows"], vectors, name=config["name"])


def _index_dtype(spec: InputSpec) -> str:
    """The dtype of an input once preprocessed: ids and strings have become row indices."""
    if spec.feature is None:
        return spec.dtype
    return "float32" if spec.dtype == "float32" else "int32"
