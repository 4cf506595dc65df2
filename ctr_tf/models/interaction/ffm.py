"""Field-aware factorisation machine."""

from __future__ import annotations

from typing import Annotated

from ctr_tf import layers
from ctr_tf.config_base import SettingError, keeping
from ctr_tf.layers.embedding.config import EmbeddingConfig
from ctr_tf.models.architecture import Body
from ctr_tf.models.config import ModelConfig
from ctr_tf.models.sides import (
    check_first_order,
    first_order,
    first_order_logit,
    side_widths,
    user_fields,
)
from ctr_tf.registry import register
from ctr_tf.schema import Schema
from ctr_tf.types import CandidateSide, ContextSide, Representation, State, UserSide, Widths

EMBEDDING = EmbeddingConfig(width=4)


class FFMConfig(ModelConfig):
    """Configuration of a field-aware factorisation machine.

    Args:
        embedding: its width is that of one vector; a feature has one towards each field, in one row
            of its table.
    """

    name: str = "ffm"
    embedding: Annotated[EmbeddingConfig, keeping(EMBEDDING)] = EMBEDDING


@register("ffm", paper="Juan et al. 2016, RecSys, section 3, eq. 4", config=FFMConfig)
class FFM(Body):
    """Field-aware factorisation machine: a feature has a vector towards each field.

    Juan et al. 2016, RecSys, equation 4: sum over i < j of <v_{i, f_j}, v_{j, f_i}> x_i x_j, with
    bias and first-order weights, as Pan et al. 2018 (arXiv:1806.03514) have it. A row of a table
    holds the vectors towards all F fields, also towards its own (as the paper counts them, n F k),
    so that behaviours, which are fields by their mean, have them, too. What the user's fields show
    to the candidate's is laid out once a request. Tasks share all but the bias.

    Args:
        config: see `FFMConfig`.
        widths: of the embedded features, F times the configured width each.

    Shapes:
        state: `pairs` (B, 1), `to_context` (B, F_context, F_user, k), `to_candidate` (B,
        F_candidate, F_user, k), `linear` (B, 1); the representation is a logit (B, N) alone.

    Raises:
        SettingError: there is no feature but behaviours, or a table has a width of its own.

    Example:
        >>> FFM(FFMConfig(), Widths(candidate={"item_id": 8, "genre": 8})).pairs.width
        4
    """

    views = {"linear": 1}
    one_width = True
    logit_alone = True

    def __init__(self, config: FFMConfig, widths: Widths):
        super().__init__(config, widths)
        counts = {side: len(own) for side, own in side_widths(widths).items()}
        self.pairs = layers.FieldAwarePairs(counts, config.embedding.width)

    @classmethod
    def check(cls, config: FFMConfig, widths: Widths) -> None:
        super().check(config, widths)
        check_first_order(config, widths)

    @classmethod
    def embedding(cls, config: FFMConfig, schema: Schema) -> EmbeddingConfig:
        width, tables = config.embedding.width, {}
        for name, table in config.embedding.tables.items():
            if table.width not in (None, width):
                at = ("model", "embedding", "tables", name, "width")
                raise SettingError(at, f"ffm needs one width, {width}, got {table.width}")
            tables[name] = table.model_copy(update={"width": None})
        behaviours = sum(len(sequence.attributes) for sequence in schema.sequences.values())
        fields = len(schema.features) + behaviours
        return config.embedding.model_copy(update={"width": fields * width, "tables": tables})

    def user_tower(self, user: UserSide, training: bool) -> State:
        pairs = self.pairs.state(layers.concat(user_fields(user)))
        return {**pairs, "linear": first_order(user.fields)}

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        per_request, own = self.pairs.sums(
            state,
            layers.concat(context.fields.values.values()),
            layers.concat(candidates.fields.values.values()),
        )
        pairs = sum(layers.over_candidates(per_request, own, candidates.mask))[..., 0]
        return Representation(
            None, first_order_logit(state.get("linear"), context, candidates) + pairs
        )
