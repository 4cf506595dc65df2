"""A transformer over the user's behaviours, of the user alone."""

from __future__ import annotations

from ctr_tf import layers
from ctr_tf.layers.sequence.config import EncoderConfig
from ctr_tf.models.architecture import Body
from ctr_tf.models.config import InterestFields, ModelConfig
from ctr_tf.models.sides import interest_network, side_products
from ctr_tf.registry import register
from ctr_tf.types import CandidateSide, ContextSide, Representation, State, UserSide, Widths


class TransformerConfig(InterestFields, ModelConfig):
    """Configuration of the transformer.

    Args:
        encoder: of each behaviour sequence.
        units, activation, dropout: of the MLP; the encoder has its own.
    """

    name: str = "transformer"
    encoder: EncoderConfig = EncoderConfig()


@register(
    "transformer",
    paper="Vaswani et al. 2017, arXiv:1706.03762, eq. 1-2, as the encoder of the user alone",
    config=TransformerConfig,
)
class Transformer(Body):
    """Behaviours through a transformer encoder that does not see the candidate.

    The encoder of Vaswani et al. 2017, arXiv:1706.03762, equations 1-2, over each behaviour
    sequence, as BERT4Rec (arXiv:1904.06690) has it; the mean of its output enters an MLP with user,
    context and candidate fields. This is the user-related form of SRP4CTR, section 1: the O(L^2)
    encoder is computed once a request, O(L^2 / n) for each of its n candidates.

    Args:
        config: see `TransformerConfig`.
        widths: of the embedded features; at least one sequence.

    Shapes:
        state: `user` (B, units[0]); representation (B, N, units[-1]).

    Raises:
        SettingError: no sequence.

    Example:
        >>> widths = Widths(candidate={"item_id": 4}, sequences={"history": {"item_id": 4}})
        >>> Transformer(TransformerConfig(), widths).mlp.split.part_widths
        {'user': 0, 'interest': 64, 'context': 0, 'candidate': 4}
    """

    needs_sequence = True
    split = ("mlp",)

    def __init__(self, config: TransformerConfig, widths: Widths):
        super().__init__(config, widths)
        self.encoders = [
            layers.Encoder(config.encoder, name=f"{sequence}_encoder")
            for sequence in widths.sequences
        ]
        interest = len(self.encoders) * config.encoder.width
        self.mlp = interest_network(config, widths, interest)

    def user_tower(self, user: UserSide, training: bool) -> State:
        interests = []
        for sequence, encoder in zip(user.sequences.values(), self.encoders):
            packing = layers.Packing.of(sequence.mask)
            behaviours = layers.concat(packing.pack(v) for v in sequence.values.values())
            encoded = encoder(behaviours, packing=packing, training=training)
            interests.append(packing.mean(encoded))
        products = [
            self.mlp.part("user", layers.concat(user.fields.values.values())),
            self.mlp.part("interest", layers.concat(interests)),
        ]
        return {"user": self.mlp.split.join(products, bias=False)}

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        mask = candidates.mask
        products = side_products(self.mlp, state["user"], context, candidates)
        return Representation(self.mlp(products, mask, training=training))
