"""Deep Interest Evolution Network."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveInt

from ctr_tf import layers
from ctr_tf.config_base import SettingError
from ctr_tf.models.architecture import Body
from ctr_tf.models.config import InterestFields, ModelConfig
from ctr_tf.models.sides import interest_network, side_products
from ctr_tf.registry import register
from ctr_tf.types import (
    CandidateSide,
    ContextSide,
    Representation,
    State,
    Tensor,
    UserSide,
    Widths,
)


class DIENConfig(InterestFields, ModelConfig):
    """Configuration of DIEN.

    Args:
        recurrence: how attention enters the second GRU: `augru` (of the update gate), `augru_keep`
            (of the gate that keeps, as in the authors' code), `agru` (in its place), `aigru` (of
            the input), or `gru`, whose final state no candidate changes.
        width: of the interests; that of a behaviour by default.
        evolution: width of the evolved interest; that of the interests by default.
        auxiliary: weight of the auxiliary loss; 0 for none.
        auxiliary_units: hidden widths of the auxiliary loss's MLP; none for the inner product.
        units, activation, dropout: of the MLP.
    """

    name: str = "dien"
    recurrence: layers.names.Recurrence = "augru"
    width: PositiveInt | None = None
    evolution: PositiveInt | None = None
    auxiliary: NonNegativeFloat = 1.0
    auxiliary_units: list[PositiveInt] = []
    activation: layers.names.Activation = "dice"


@register("dien", paper="Zhou et al. 2019, arXiv:1809.03672, eq. 2-12", config=DIENConfig)
class DIEN(Body):
    """Deep Interest Evolution Network: a GRU of interests, and one of their course to a candidate.

    Zhou et al. 2019, arXiv:1809.03672. A GRU over the behaviours (equations 2-5) gives interests
    h_t, which an auxiliary loss (equation 6, in training alone) has tell the next behaviour from
    one of another user; a_t = softmax_t(h_t W e_a) (equation 8) weighs the steps of a second GRU
    over them (equations 9-12), whose final state enters an MLP with user, context and candidate
    fields. e_a is all of the candidate's fields. The first GRU, h_t W and the second one's products
    with h_t are of the user; a candidate adds its attention and its own steps.

    The auxiliary loss is that of each request, weighted by its valid impressions, as row-wise
    training has it.

    Args:
        config: see `DIENConfig`.
        widths: of the embedded features; at least one sequence and a candidate feature.

    Shapes:
        state: `user` (B, units[0]), and for each sequence s `s_keys` (B, L, A), `s_steps`
        (B, L, G H) and `s_mask` (B, L), or for `gru` one `interest` (B, units[0]); in training
        `auxiliary` (B, 1). Representation (B, N, units[-1]).

    Raises:
        SettingError: no sequence, no candidate feature, or an inner product of two widths.

    Example:
        >>> widths = Widths(candidate={"item_id": 4}, sequences={"history": {"item_id": 4}})
        >>> DIEN(DIENConfig(evolution=6), widths).mlp.split.part_widths
        {'user': 0, 'interest': 6, 'context': 0, 'candidate': 4}
    """

    needs_sequence = True
    needs_candidate = True
    split = ("mlp",)

    def __init__(self, config: DIENConfig, widths: Widths):
        super().__init__(config, widths)
        self.extractors, self.attention, self.evolving, self.next = [], [], [], []
        interest = 0
        for sequence, attributes in widths.sequences.items():
            total = sum(attributes.values())
            width = config.width or total
            evolution = config.evolution or width
            interest += evolution
            self.extractors.append(layers.GRU(width, total, name=f"{sequence}_extractor"))
            self.evolving.append(
                layers.GRU(evolution, width, config.recurrence, name=f"{sequence}_evolving")
            )
            if config.recurrence != "gru":
                self.attention.append(
                    layers.BilinearAttention(
                        width, widths.total("candidate"), name=f"{sequence}_attention"
                    )
                )
            if config.auxiliary:
                self.next.append(
                    layers.NextBehaviourLoss(
                        total, width, config.auxiliary_units, name=f"{sequence}_next"
                    )
                )
        self.mlp = interest_network(config, widths, interest)

    @classmethod
    def check(cls, config: DIENConfig, widths: Widths) -> None:
        super().check(config, widths)
        if not config.auxiliary or config.auxiliary_units:
            return
        for sequence, attributes in widths.sequences.items():
            total = sum(attributes.values())
            if config.width not in (None, total):
                raise SettingError(
                    ("model", "width"),
                    "the auxiliary loss is an inner product of interests and behaviours, which "
                    f"have width {total} in {sequence!r}; got {config.width}. Set auxiliary_units",
                )

    def user_tower(self, user: UserSide, training: bool) -> State:
        loss, final = 0.0, []
        state = {"user": self.mlp.part("user", layers.concat(user.fields.values.values()))}
        for i, (name, sequence) in enumerate(user.sequences.items()):
            packing, mask = layers.Packing.of(sequence.mask), sequence.mask
            behaviours = layers.concat(packing.pack(v) for v in sequence.values.values())
            steps = packing.unpack(self.extractors[i].project(behaviours))
            interests = packing.pack(self.extractors[i](steps, mask, every=True))
            steps = packing.unpack(self.evolving[i].project(interests))
            if training and self.next:
                loss = loss + self.next[i](interests, behaviours, packing=packing)
            if self.attention:
                keys = self.attention[i].project_keys(interests)
                state[f"{name}_keys"] = packing.unpack(keys)
                state[f"{name}_steps"] = steps
                state[f"{name}_mask"] = mask
            else:
                final.append(self.evolving[i](steps, mask))
        if final:
            state["interest"] = self.mlp.part("interest", layers.concat(final))
        if training and self.next:
            state["auxiliary"] = loss[:, None]
        return state

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        mask = candidates.mask
        products = side_products(self.mlp, state.get("user"), context, candidates)
        if self.attention:
            target = layers.concat(candidates.fields.values.values())
            products.append(self.mlp.part("interest", self._evolved(state, target)))
        else:
            products.append(state["interest"][:, None])
        vector = self.mlp(products, mask, training=training)
        if "auxiliary" in state:
            # Here, since batch statistics of replicas wait for each other before.
            losses = self.config.auxiliary * state["auxiliary"][:, 0]
            self.next[0].add_mean(losses, mask)
        return Representation(vector)

    def _evolved(self, state: State, target: Tensor) -> Tensor:
        """The evolved interests of each candidate, (B, N, H)."""
        found = []
        for name, attention, evolving in zip(self.widths.sequences, self.attention, self.evolving):
            mask = state[f"{name}_mask"]
            weights = attention.weights_of(target, state[f"{name}_keys"], mask)
            found.append(evolving(state[f"{name}_steps"], mask, weights))
        return layers.concat(found)
