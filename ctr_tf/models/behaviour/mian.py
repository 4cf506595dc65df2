"""Multi-Interactive Attention Network."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from ctr_tf import layers
from ctr_tf.models.architecture import Body
from ctr_tf.models.config import InterestFields, ModelConfig
from ctr_tf.models.sides import check_attention_heads
from ctr_tf.registry import register
from ctr_tf.types import CandidateSide, ContextSide, Representation, State, UserSide, Widths


class MIANConfig(InterestFields, ModelConfig):
    """Configuration of MIAN.

    Args:
        attention_heads: of the transformer over behaviours, a divisor of a behaviour's width.
        blocks: of the transformer.
        feed_forward: hidden width of its feed-forward part; four times its width by default.
        encoder_dropout: rate within it.
        pool: how behaviours enter as a part of their own.
        part_width: of the parts that the global interaction weighs.
        combine: whether it adds up its parts, or leaves them side by side.
        units, activation, dropout: of the MLP.
    """

    name: str = "mian"
    attention_heads: PositiveInt = 8
    blocks: PositiveInt = 1
    feed_forward: PositiveInt | None = None
    encoder_dropout: NonNegativeFloat = Field(0.0, lt=1)
    pool: Literal["mean", "sum"] = "mean"
    part_width: PositiveInt = 64
    combine: Literal["sum", "concat"] = "sum"


@register("mian", paper="Zhang et al. 2020, arXiv:2012.06968, eq. 3-15", config=MIANConfig)
class MIAN(Body):
    """Multi-Interactive Attention Network: the candidate with behaviours, user and context fields.

    Zhang et al. 2020, arXiv:2012.06968, section 3. A pre-norm transformer over behaviours
    (equations 3-6); R_ibim = sum_t a_t [e_i, h_t] with a = softmax_t(tanh([e_i, h_t] . w + b))
    (equations 7-9), likewise R_iuim over user fields and R_icim over context fields, a vector w for
    each field (equations 10-13); and of all parts r, e_i, e_c, e_b, e_u and the three,
    sum_l softmax_l(tanh(r_l . w_l + b_l)) r_l (equations 14-15) for an MLP.

    What the candidate is not in is computed once a user: h_t . w of each score, and the parts e_b
    and e_u. The paper's parts have different widths, which cannot be added up: here each is
    projected to `part_width` first. Its e_b is the concatenation of all behaviours, here their mean
    or sum, whatever their number. Fields have one width, numbers included.

    Args:
        config: see `MIANConfig`.
        widths: of the embedded features; at least one sequence and a candidate feature.

    Shapes:
        state: of the user fields `user` (B, R), `user_rows` (B, J, D) and `user_scores` (B, J);
        likewise of each sequence s `s`, `s_rows` (B, L, D), `s_scores` (B, L), and `s_mask`;
        representation (B, N, units[-1]).

    Raises:
        SettingError: no sequence, no candidate feature, or heads that do not divide a behaviour's
            width.

    Example:
        >>> widths = Widths(candidate={"item_id": 4}, sequences={"history": {"item_id": 4}})
        >>> MIAN(MIANConfig(attention_heads=2), widths).interaction.names
        ['candidate', 'history', 'history_interaction']
    """

    needs_sequence = True
    needs_candidate = True
    one_width = True

    def __init__(self, config: MIANConfig, widths: Widths):
        super().__init__(config, widths)
        target = widths.total("candidate")
        self.blocks, self.behaviours, self.fields = [], [], []
        # In the order of equation 14.
        low, high = {"candidate": target}, {}
        if widths.context:
            low["context"] = widths.total("context")
        for sequence, attributes in widths.sequences.items():
            width = sum(attributes.values())
            low[sequence], high[f"{sequence}_interaction"] = width, target + width
            self.behaviours.append(layers.RowAttention(target, width, name=f"{sequence}_rows"))
            self.blocks += [
                layers.EncoderBlock(
                    width,
                    config.attention_heads,
                    config.feed_forward,
                    norm="pre",
                    dropout=config.encoder_dropout,
                    name=f"{sequence}_block_{i}",
                )
                for i in range(config.blocks)
            ]
        if widths.user:
            low["user"] = widths.total("user")
        self.sides = [side for side in ("user", "context") if getattr(widths, side)]
        for side in self.sides:
            own = list(getattr(widths, side).values())
            high[f"{side}_interaction"] = target + own[0]
            self.fields.append(
                layers.RowAttention(target, own[0], rows=len(own), name=f"{side}_rows")
            )
        self.interaction = layers.PartAttention(
            {**low, **high}, config.part_width, config.combine, name="interaction"
        )
        self.mlp = layers.MLP(config.units, config.activation, dropout=config.dropout, name="mlp")

    @classmethod
    def check(cls, config: MIANConfig, widths: Widths) -> None:
        super().check(config, widths)
        check_attention_heads(config.attention_heads, widths)

    def user_tower(self, user: UserSide, training: bool) -> State:
        state, project = {}, self.interaction.project
        for i, (name, sequence) in enumerate(user.sequences.items()):
            packing = layers.Packing.of(sequence.mask)
            rows = layers.concat(packing.pack(v) for v in sequence.values.values())
            pooled = packing.mean(rows) if self.config.pool == "mean" else packing.sum(rows)
            state[name] = project(name, pooled)
            for block in self.blocks[i * self.config.blocks : (i + 1) * self.config.blocks]:
                rows = block(rows, packing=packing, training=training)
            state[f"{name}_rows"] = packing.unpack(rows)
            state[f"{name}_scores"] = packing.unpack(self.behaviours[i].score(rows))
            state[f"{name}_mask"] = sequence.mask
        if "user" in self.sides:
            fields = list(user.fields.values.values())
            state["user"] = project("user", layers.concat(fields))
            state["user_rows"] = layers.stacked(fields)
            state["user_scores"] = self.fields[0].score(state["user_rows"])
        return state

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        target, project = layers.concat(candidates.fields.values.values()), self.interaction.project
        rows = {**state}
        if "context" in self.sides:
            fields = list(context.fields.values.values())
            rows["context"] = project("context", layers.concat(fields))
            rows["context_rows"] = layers.stacked(fields)
            rows["context_scores"] = self.fields[-1].score(rows["context_rows"])
        names = [*self.widths.sequences, *self.sides]
        parts = {"candidate": project("candidate", target)}
        for name, attention in zip(names, [*self.behaviours, *self.fields]):
            own, scores = rows[f"{name}_rows"], rows[f"{name}_scores"]
            found = attention(target, own, scores, rows.get(f"{name}_mask"))
            parts[name] = rows[name]
            parts[f"{name}_interaction"] = project(f"{name}_interaction", found)
        vector = self.interaction(parts)
        return Representation(self.mlp(vector, candidates.mask, training=training))
