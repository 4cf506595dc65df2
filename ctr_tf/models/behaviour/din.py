"""Deep Interest Network."""

from __future__ import annotations

from pydantic import Field, NonNegativeFloat, PositiveInt

from ctr_tf import layers
from ctr_tf.config_base import SettingError
from ctr_tf.models.architecture import Body
from ctr_tf.models.config import ModelConfig
from ctr_tf.registry import register
from ctr_tf.types import CandidateSide, ContextSide, Representation, State, UserSide, Widths


class DINConfig(ModelConfig):
    """Configuration of DIN.

    Args:
        attention_units: hidden widths of the activation unit.
        attention_activation: of the activation unit.
        softmax: whether attention weights are normalised; the paper's are not.
        units: hidden widths of the MLP.
        activation: of the MLP.
        dropout: rate after each layer of the MLP.
    """

    name: str = "din"
    attention_units: list[PositiveInt] = Field([80, 40], min_length=1)
    attention_activation: layers.names.Activation = "dice"
    softmax: bool = False
    units: list[PositiveInt] = Field([200, 80], min_length=1)
    activation: layers.names.Activation = "dice"
    dropout: NonNegativeFloat = Field(0.0, lt=1)


@register("din", paper="Zhou et al. 2018, arXiv:1706.06978, eq. 3-4, fig. 2", config=DINConfig)
class DIN(Body):
    """Deep Interest Network: behaviours weighted by their relevance to the candidate.

    Zhou et al. 2018, arXiv:1706.06978, section 4.3, equation 3: an MLP over user fields, for each
    behaviour sequence v_U(A) = sum_j a(e_j, v_A) e_j, context fields and candidate fields; Dice
    (equation 4) as activation. A behaviour is compared with the candidate by the attributes that
    both have; its other attributes (a rating, say) enter as keys and values alone.

    Args:
        config: see `DINConfig`.
        widths: of the embedded features; at least one sequence shares an attribute with the
            candidate side.

    Shapes:
        state: `user` (B, units[0]), and for each sequence s `s_keys` (B, L, D),
        `s_projected` (B, L, attention_units[0]), `s_mask` (B, L); representation (B, N, units[-1]).

    Raises:
        SettingError: no sequence, or one without an attribute of the candidate's, or one of
            another width than the candidate's.

    Example:
        >>> widths = Widths(candidate={"item_id": 4}, sequences={"history": {"item_id": 4}})
        >>> sorted(vars(DIN(DINConfig(), widths)))
        ['attention', 'compared', 'config', 'mlp', 'widths']
    """

    needs_sequence = True

    def __init__(self, config: DINConfig, widths: Widths):
        super().__init__(config, widths)
        self.compared: dict[str, list[str]] = {}
        self.attention = []
        interest = 0
        for sequence, attributes in widths.sequences.items():
            compared = [name for name in attributes if name in widths.candidate]
            self.compared[sequence] = compared
            width = sum(attributes[name] for name in compared)
            interest += sum(attributes.values())
            self.attention.append(
                layers.ActivationUnit(
                    width,
                    config.attention_units,
                    extra=sum(attributes.values()) - width,
                    activation_name=config.attention_activation,
                    softmax=config.softmax,
                    name=f"{sequence}_attention",
                )
            )
        self.mlp = layers.SplitMLP(
            {
                "user": widths.total("user"),
                "interest": interest,
                "context": widths.total("context"),
                "candidate": widths.total("candidate"),
            },
            config.units,
            config.activation,
            dropout=config.dropout,
            name="mlp",
        )

    @classmethod
    def check(cls, config: DINConfig, widths: Widths) -> None:
        super().check(config, widths)
        for sequence, attributes in widths.sequences.items():
            at = ("schema", "sequences", sequence, "attributes")
            compared = [name for name in attributes if name in widths.candidate]
            if not compared:
                raise SettingError(
                    at,
                    f"din compares behaviours with the candidate: sequence {sequence!r} "
                    f"(attributes {list(attributes)}) shares no name with the candidate features "
                    f"{list(widths.candidate)}",
                )
            for name in compared:
                if attributes[name] != widths.candidate[name]:
                    raise SettingError(
                        (*at, name),
                        f"din compares {sequence}.{name} with the candidate's {name}: their "
                        f"embeddings need one width, got {attributes[name]} and "
                        f"{widths.candidate[name]}",
                    )

    def user_tower(self, user: UserSide, training: bool) -> State:
        state = {}
        if user.fields.values:
            state["user"] = self.mlp.part("user", layers.concat(user.fields.values.values()))
        for (sequence, compared), unit in zip(self.compared.items(), self.attention):
            behaviours = user.sequences[sequence]
            rest = [name for name in behaviours.values if name not in compared]
            packing = layers.Packing.of(behaviours.mask)
            keys = layers.concat(
                packing.pack(behaviours.values[name]) for name in [*compared, *rest]
            )
            state[f"{sequence}_keys"] = packing.unpack(keys)
            state[f"{sequence}_projected"] = packing.unpack(unit.project_keys(keys))
            state[f"{sequence}_mask"] = behaviours.mask
        return state

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        interests = []
        for (sequence, compared), unit in zip(self.compared.items(), self.attention):
            keys = state[f"{sequence}_keys"]
            interests.append(
                unit(
                    layers.concat(candidates.fields.values[name] for name in compared),
                    keys,
                    state[f"{sequence}_projected"],
                    state[f"{sequence}_mask"],
                    keys,
                    weights=candidates.mask,
                    training=training,
                )
            )
        per_request = [
            state.get("user"),
            self.mlp.part("context", layers.concat(context.fields.values.values())),
        ]
        own = self.mlp.part("interest", layers.concat(interests)) + self.mlp.part(
            "candidate", layers.concat(candidates.fields.values.values())
        )
        products = layers.over_candidates(per_request, own, candidates.mask)
        return Representation(self.mlp(products, candidates.mask, training=training))
