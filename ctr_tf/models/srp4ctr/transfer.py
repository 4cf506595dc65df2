"""SRP4CTR: a pre-trained encoder of behaviours, read by candidates and by queries."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from ctr_tf import layers
from ctr_tf.config_base import Names, SettingError, check_known, keeping
from ctr_tf.layers.embedding.config import EmbeddingConfig, TableConfig
from ctr_tf.layers.sequence.config import EncoderConfig
from ctr_tf.models.architecture import Body, pooled_history, pooled_widths
from ctr_tf.models.config import InterestFields, ModelConfig
from ctr_tf.models.sides import side_products
from ctr_tf.registry import register
from ctr_tf.schema import Schema
from ctr_tf.types import (
    CandidateSide,
    ContextSide,
    Fields,
    Representation,
    State,
    Tensor,
    UserSide,
    Widths,
)

ENCODER = EncoderConfig(activation="gelu", use_bias=True, dropout=0.1)


class SRP4CTRConfig(InterestFields, ModelConfig):
    """Configuration of SRP4CTR.

    Args:
        sequence: of the behaviours; the schema's first by default. Others enter by their mean.
        attributes: of a behaviour that the encoder reads; all by default.
        encoder: of the behaviours; its width is that of the tables of their attributes.
        uni_attention: how the candidate reads the encoder's layers: by blocks of its own, by the
            encoder's (`tied`), or not at all.
        queries: K, of the querying transformer; with 0 the mean of the encoder's output is read.
        query_layers: blocks of the querying transformer.
        query_features: user fields, or context fields of `user_context`, that queries start from.
        patch: width of the model patches in the encoder; 0 for none.
        freeze: whether encoder and tables of the behaviours' attributes stay as they are; patches
            are trained.
        own_tables: whether the MLP reads the attributes that candidates share with behaviours from
            tables of its own as well, which are trained where the others are frozen.
        units, activation, dropout: of the MLP; the encoder has its own.
    """

    name: str = "srp4ctr"
    sequence: str = ""
    attributes: Names = []
    encoder: Annotated[EncoderConfig, keeping(ENCODER)] = ENCODER
    uni_attention: Literal["untied", "tied", "none"] = "untied"
    queries: int = Field(4, ge=0)
    query_layers: PositiveInt = 1
    query_features: Names = []
    patch: int = Field(0, ge=0)
    freeze: bool = False
    # The default is not written out: runs from before it had a name keep theirs.
    own_tables: bool = Field(False, exclude_if=lambda own: not own)


@register(
    "srp4ctr",
    paper="Han et al. 2024, SRP4CTR, section 2.2, over the encoder of eq. 1",
    config=SRP4CTRConfig,
)
class SRP4CTR(Body):
    """Candidates and queries read a transformer over behaviours, which sees neither.

    Han et al. 2024, section 2.2 and figure 2. A behaviour is the sum of its attributes' embeddings
    and its position (section 2.1, without masks), through the encoder. A candidate, the sum of the
    attributes that behaviours have too, reads each layer (section 2.2.1, see
    `layers.UniAttention`); K queries read the output (section 2.2.2, see
    `layers.QueryingTransformer`). An MLP sees what both found, candidate, user and context.
    Encoder, keys and values, and queries are computed once a user: a candidate costs a row through
    as many blocks as the encoder has.

    Where what was pre-trained is frozen, a candidate's shared attributes say no more than they said
    there; with `own_tables` the MLP has further embeddings of them. That is our reading: the paper
    freezes the parameters of the pre-trained model, and does not say that candidates have no other.

    With `queries: 0` and `uni_attention: none` what is left is the encoder's mean; with `patch` and
    `freeze` besides it is MP (Yuan et al. 2020, arXiv:2001.04253): see `layers.ModelPatch`.

    Args:
        config: see `SRP4CTRConfig`.
        widths: of the embedded features; at least one sequence.

    Shapes:
        state: `user` (B, units[0]); with uni-attention `mask` (B, L) and for each layer l
        `keys_values_l` (B, L, 2 W); representation (B, N, units[-1]).

    Raises:
        SettingError: no such sequence, none of its attributes is the candidate's, one of another
            width than the encoder's, or unknown query features.

    Example:
        >>> widths = Widths(candidate={"item_id": 64}, sequences={"history": {"item_id": 64}})
        >>> SRP4CTR(SRP4CTRConfig(), widths).mlp.split.part_widths
        {'user': 0, 'interest': 256, 'context': 0, 'candidate': 64, 'uni': 64, 'own': 0}
    """

    needs_sequence = True
    split = ("mlp",)

    def __init__(self, config: SRP4CTRConfig, widths: Widths):
        super().__init__(config, widths)
        encoder = config.encoder
        self.sequence = _sequence(config, widths)
        self.attributes = _attributes(config, widths)
        self.shared = _shared(config, widths)
        self.encoder = layers.Encoder(encoder, project=False, name=f"{self.sequence}_encoder")
        self.encoder.build((None, encoder.width))
        self.encoder.trainable = not config.freeze
        self.patches = [
            layers.ModelPatch(config.patch, name=f"patch_{i}")
            for i in range(2 * encoder.layers if config.patch else 0)
        ]
        self.uni = None
        if config.uni_attention != "none":
            tied = config.uni_attention == "tied"
            self.uni = layers.UniAttention(encoder, tied, name="uni")
        self.querying = None
        if config.queries:
            own = encoder.model_copy(update={"layers": config.query_layers})
            self.querying = layers.QueryingTransformer(config.queries, own, name="querying")
        own = self.views_of(config, widths).get("own", {})
        self.mlp = layers.SplitMLP(
            {
                "user": widths.total("user") + sum(pooled_widths(widths, self.sequence)),
                "interest": max(config.queries, 1) * encoder.width,
                "context": widths.total("context"),
                "candidate": widths.total("candidate"),
                "uni": encoder.width if self.uni else 0,
                "own": sum(table.width for table in own.values()),
            },
            config.units,
            config.activation,
            dropout=config.dropout,
            name="mlp",
        )

    @classmethod
    def views_of(cls, config: SRP4CTRConfig, widths: Widths) -> dict[str, dict[str, TableConfig]]:
        if not config.own_tables:
            return {}
        own = TableConfig(width=config.encoder.width, trainable=True)
        return {"own": dict.fromkeys(_shared(config, widths), own)}

    def candidate_products(self, fields: Fields, training: bool) -> dict[str, Tensor]:
        found = super().candidate_products(fields, training)
        if self.config.own_tables:
            own = self.mlp.part("own", layers.concat(fields.views["own"].values()))
            found[self.mlp.name] = self.mlp.split.join([found[self.mlp.name], own], bias=False)
        return found

    @classmethod
    def embedding(cls, config: SRP4CTRConfig, schema: Schema) -> EmbeddingConfig:
        """The configured tables, those of the behaviours' attributes as wide as the encoder."""
        name = config.sequence or next(iter(schema.sequences), None)
        if name not in schema.sequences:
            return config.embedding
        tables = dict(config.embedding.tables)
        for attribute in config.attributes or schema.sequences[name].attributes:
            if attribute not in schema.sequences[name].attributes:
                continue
            encoder = schema.encoder(attribute, name)
            given = tables.get(encoder, TableConfig()).model_dump(exclude_none=True)
            trainable = {"trainable": False} if config.freeze else {}
            tables[encoder] = TableConfig(**{"width": config.encoder.width, **given, **trainable})
        return config.embedding.model_copy(update={"tables": tables})

    @classmethod
    def check(cls, config: SRP4CTRConfig, widths: Widths) -> None:
        super().check(config, widths)
        if config.sequence:
            check_known(("model", "sequence"), "sequence", config.sequence, widths.sequences)
        encoder, sequence = config.encoder, _sequence(config, widths)
        known = widths.sequences[sequence]
        for index, name in enumerate(config.attributes):
            check_known(("model", "attributes", index), "attribute", name, known)
        attributes, shared = _attributes(config, widths), _shared(config, widths)
        summed = {f"{sequence}.{name}": known[name] for name in attributes}
        if config.uni_attention != "none":
            summed |= {name: widths.candidate[name] for name in shared}
        for name, width in summed.items():
            if width != encoder.width:
                raise SettingError(
                    ("model", "embedding", "tables"),
                    f"{name} is summed with the other attributes: its table needs the encoder's "
                    f"width, {encoder.width}; got {width}",
                )
        of_both = {
            "uni_attention": config.uni_attention != "none",
            "own_tables": config.own_tables,
        }
        if any(of_both.values()) and not shared:
            raise SettingError(
                ("schema", "sequences", sequence, "attributes"),
                f"{' and '.join(name for name, on in of_both.items() if on)} read what candidates "
                f"share with behaviours: {attributes} share no name with the candidate features "
                f"{list(widths.candidate)}",
            )
        for index, name in enumerate(config.query_features):
            at = ("model", "query_features", index)
            check_known(at, "user feature", name, widths.user)

    def user_tower(self, user: UserSide, training: bool) -> State:
        sequence = user.sequences[self.sequence]
        packing = layers.Packing.of(sequence.mask)
        encoded, keys_values = self._encoded(sequence.values, packing, training)
        if self.querying:
            named = [user.fields.values[name] for name in self.config.query_features]
            features = layers.concat(named)
            interest = self.querying(encoded, sequence.mask, features, training=training)
        else:
            interest = packing.mean(encoded)
        fields = [*user.fields.values.values(), *pooled_history(user, self.sequence)]
        products = [
            self.mlp.part("user", layers.concat(fields)),
            self.mlp.part("interest", interest),
        ]
        state = {"user": self.mlp.split.join(products, bias=False)}
        if self.uni:
            state["mask"] = sequence.mask
            for layer, own in enumerate(keys_values):
                state[f"keys_values_{layer}"] = packing.unpack(own)
        return state

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        mask = candidates.mask
        products = side_products(self.mlp, state["user"], context, candidates)
        if self.uni:
            target = sum(candidates.fields.values[name] for name in self.shared)
            keys_values = [state[f"keys_values_{i}"] for i in range(self.config.encoder.layers)]
            tied = self.config.uni_attention == "tied"
            found = self.uni(
                target,
                keys_values,
                state["mask"],
                encoder=self.encoder if tied else None,
                training=training and not (tied and self.config.freeze),
            )
            products.append(self.mlp.part("uni", found))
        return Representation(self.mlp(products, mask, training=training))

    def _encoded(
        self, values: dict[str, Tensor], packing: layers.Packing, training: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """The encoder's output for behaviours, (P, W), and each layer's keys and values."""
        x = sum(packing.pack(values[name]) for name in self.attributes)
        x = self.encoder.embed(x, packing)
        patches = list(zip(self.patches[::2], self.patches[1::2]))
        # What is frozen is read as it was evaluated.
        training = training and not self.config.freeze
        return self.encoder.encode(x, packing, patches, training)


def _sequence(config: SRP4CTRConfig, widths: Widths) -> str:
    """The sequence that the encoder reads."""
    return config.sequence or next(iter(widths.sequences))


def _attributes(config: SRP4CTRConfig, widths: Widths) -> list[str]:
    """The attributes of behaviours that the encoder reads."""
    return config.attributes or list(widths.sequences[_sequence(config, widths)])


def _shared(config: SRP4CTRConfig, widths: Widths) -> list[str]:
    """Those that are features of candidates, too."""
    return [name for name in _attributes(config, widths) if name in widths.candidate]
