"""Deep Session Interest Network."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from ctr_tf import layers
from ctr_tf.config_base import SettingError
from ctr_tf.models.architecture import Body
from ctr_tf.models.config import InterestFields, ModelConfig
from ctr_tf.models.sides import check_attention_heads, interest_network, side_products
from ctr_tf.registry import register
from ctr_tf.types import CandidateSide, ContextSide, Representation, State, UserSide, Widths


class DSINConfig(InterestFields, ModelConfig):
    """Configuration of DSIN.

    Args:
        gap: seconds; a longer pause ends a session.
        sessions: the latest sessions that are kept.
        session_length: the latest behaviours of a session that are kept.
        attention_heads: of the self-attention, a divisor of a behaviour's width.
        feed_forward: hidden width of the feed-forward part; four times that width by default.
        encoder_dropout: rate within the self-attention block.
        lstm: width of the LSTM in either direction.
        peepholes: whether its gates see the cell, as the paper's do.
        merge: whether the two directions stand side by side or are added up.
        units, activation, dropout: of the MLP.
    """

    name: str = "dsin"
    gap: PositiveInt = 1800
    sessions: PositiveInt = 5
    session_length: PositiveInt = 10
    attention_heads: PositiveInt = 8
    feed_forward: PositiveInt | None = None
    encoder_dropout: NonNegativeFloat = Field(0.0, lt=1)
    lstm: PositiveInt = 32
    peepholes: bool = True
    merge: Literal["concat", "sum"] = "concat"


@register("dsin", paper="Feng et al. 2019, arXiv:1905.06482, eq. 1-10", config=DSINConfig)
class DSIN(Body):
    """Deep Session Interest Network: interests of sessions, and their course, by the candidate.

    Feng et al. 2019, arXiv:1905.06482, section 3. Behaviours are divided where a pause is longer
    than `gap`; a self-attention block with a bias encoding makes one interest of each session
    (equations 2-6), a Bi-LSTM puts them in their course (equations 7-8), and the candidate attends
    to both, U = sum_k a_k x_k with a = softmax_k(x_k W v) (equations 9-10), v being all of the
    candidate's fields. The rest is an MLP with user, context and candidate fields. All but the last
    two attentions is of the user alone.

    Args:
        config: see `DSINConfig`.
        widths: of the embedded features; every sequence has `timestamps`.

    Shapes:
        state: `user` (B, units[0]), and for each sequence s `s_interests` (B, K, D), `s_course`
        (B, K, H), the keys of both, `s_interest_keys` and `s_course_keys` (B, K, A), and `s_mask`
        (B, K); representation (B, N, units[-1]).

    Raises:
        SettingError: no sequence, one without times, no candidate feature, or heads that do not
            divide a behaviour's width.

    Example:
        >>> widths = Widths(candidate={"item_id": 4}, sequences={"history": {"item_id": 4}},
        ...                 timed=("history",))
        >>> DSIN(DSINConfig(attention_heads=2), widths).mlp.split.part_widths
        {'user': 0, 'interest': 68, 'context': 0, 'candidate': 4}
    """

    needs_sequence = True
    needs_candidate = True
    split = ("mlp",)

    def __init__(self, config: DSINConfig, widths: Widths):
        super().__init__(config, widths)
        course = config.lstm * (2 if config.merge == "concat" else 1)
        target = widths.total("candidate")
        self.extractors, self.lstms, self.attention, self.course_attention = [], [], [], []
        for sequence, attributes in widths.sequences.items():
            width = sum(attributes.values())
            self.extractors.append(
                layers.SessionInterests(
                    width,
                    config.attention_heads,
                    config.feed_forward,
                    config.sessions,
                    config.session_length,
                    config.encoder_dropout,
                    name=f"{sequence}_sessions",
                )
            )
            self.lstms.append(
                layers.BiLSTM(
                    config.lstm, width, config.merge, config.peepholes, name=f"{sequence}_lstm"
                )
            )
            for name, own, attention in (
                ("interest", width, self.attention),
                ("course", course, self.course_attention),
            ):
                attention.append(
                    layers.BilinearAttention(own, target, name=f"{sequence}_{name}_attention")
                )
        interest = sum(sum(own.values()) + course for own in widths.sequences.values())
        self.mlp = interest_network(config, widths, interest)

    @classmethod
    def check(cls, config: DSINConfig, widths: Widths) -> None:
        super().check(config, widths)
        for sequence in widths.sequences:
            if sequence not in widths.timed:
                raise SettingError(
                    ("schema", "sequences", sequence, "timestamps"),
                    "dsin divides behaviours into sessions by their times; must be true",
                )
        check_attention_heads(config.attention_heads, widths)

    def user_tower(self, user: UserSide, training: bool) -> State:
        config = self.config
        state = {"user": self.mlp.part("user", layers.concat(user.fields.values.values()))}
        for i, (name, sequence) in enumerate(user.sequences.items()):
            sessions = layers.Sessions(
                sequence.times, sequence.mask, config.sessions, config.session_length, config.gap
            )
            interests = self.extractors[i](
                layers.concat(sequence.values.values()), sessions=sessions, training=training
            )
            course = self.lstms[i](interests, sessions.present)
            state[f"{name}_interests"] = interests
            state[f"{name}_interest_keys"] = self.attention[i].project_keys(interests)
            state[f"{name}_course"] = course
            state[f"{name}_course_keys"] = self.course_attention[i].project_keys(course)
            state[f"{name}_mask"] = sessions.present
        return state

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        mask = candidates.mask
        target, found = layers.concat(candidates.fields.values.values()), []
        for i, name in enumerate(self.widths.sequences):
            for attention, kind, values in (
                (self.attention[i], "interest", "interests"),
                (self.course_attention[i], "course", "course"),
            ):
                keys, present = state[f"{name}_{kind}_keys"], state[f"{name}_mask"]
                found.append(attention(target, keys, present, state[f"{name}_{values}"]))
        products = side_products(self.mlp, state.get("user"), context, candidates)
        products.append(self.mlp.part("interest", layers.concat(found)))
        return Representation(self.mlp(products, mask, training=training))
