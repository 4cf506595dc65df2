"""FinalMLP."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from ctr_tf import layers
from ctr_tf.config_base import SettingError
from ctr_tf.models.architecture import Body
from ctr_tf.models.config import ModelConfig
from ctr_tf.models.sides import side_totals, user_fields
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

Gate = Literal["user", "context", "candidate", "learned", "none"]


class FinalMLPConfig(ModelConfig):
    """Configuration of FinalMLP.

    Args:
        first_units, second_units: widths of the two streams.
        first_gate, second_gate: what the gate of each stream's features reads: the fields of a
            side, a learned vector, which is also read where the schema has no such side, or none,
            for no gate.
        gate_units: hidden widths of each gate.
        fusion_heads: chunks that the streams' outputs are cut into for their bilinear fusion, a
            divisor of both last widths.
        activation, batch_norm, dropout: of the streams.
    """

    name: str = "finalmlp"
    first_units: list[PositiveInt] = Field([400, 400], min_length=1)
    second_units: list[PositiveInt] = Field([400, 400], min_length=1)
    first_gate: Gate = "user"
    second_gate: Gate = "candidate"
    gate_units: list[PositiveInt] = [64]
    fusion_heads: PositiveInt = 1
    activation: layers.names.Activation = "relu"
    batch_norm: bool = False
    dropout: NonNegativeFloat = Field(0.0, lt=1)


@register(
    "finalmlp",
    paper="Mao et al. 2023, arXiv:2304.00902, section 3, eq. of the gates and of bilinear fusion",
    config=FinalMLPConfig,
)
class FinalMLP(Body):
    """FinalMLP: two MLPs over the same features, gated differently, and a bilinear fusion.

    Mao et al. 2023, arXiv:2304.00902, section 3: streams o_s = MLP_s(2 sigmoid(Gate_s(c_s)) * e)
    over the concatenated embeddings e, and the logit
    b + w_1 o_1 + w_2 o_2 + sum_h o_1h W_h o_2h over h chunks. Without gates it is DualMLP with
    that fusion. Behaviour sequences are fields of the user by their mean; the fusion's matrices
    serve all tasks, the weights w are each task's own.

    A gate that reads the user's fields or a learned vector is computed once a request, with the
    first layer's product of the user's gated fields; so is the latter with a gate of the context.
    A gate that reads the candidate weights the user's fields for each candidate, which then pass
    through the first layer for each.

    Args:
        config: see `FinalMLPConfig`.
        widths: of the embedded features.

    Shapes:
        state: of each stream s of `first` and `second`, `s_product` (B, s_units[0]) and `s_gate`
        (B, width of the other fields), if its gate is of the user alone; `user` (B, D_user), if
        one is not; representation (B, N, first_units[-1] + second_units[-1]) with a logit (B, N).

    Raises:
        SettingError: the heads do not divide both last widths.

    Example:
        >>> body = FinalMLP(FinalMLPConfig(), Widths(user={"age": 4}, candidate={"item_id": 4}))
        >>> body.sources
        ('user', 'candidate')
    """

    def __init__(self, config: FinalMLPConfig, widths: Widths):
        super().__init__(config, widths)
        self.parts = side_totals(widths)
        self.sources = tuple(
            "learned" if self.parts.get(source) == 0 else source
            for source in (config.first_gate, config.second_gate)
        )
        self.streams, self.gates = [], []
        for name, units, source in zip(
            ("first", "second"), (config.first_units, config.second_units), self.sources
        ):
            self.streams.append(
                layers.SplitMLP(
                    self.parts,
                    units,
                    config.activation,
                    config.batch_norm,
                    config.dropout,
                    name=name,
                )
            )
            gate = None
            if source != "none":
                learned = config.embedding.width if source == "learned" else None
                gate = layers.FeatureGate(
                    sum(self.parts.values()), config.gate_units, learned, name=f"{name}_gate"
                )
            self.gates.append(gate)
        self.fusion = layers.ParallelDense(
            config.second_units[-1] // config.fusion_heads,
            config.fusion_heads,
            use_bias=False,
            name="fusion",
        )

    @classmethod
    def check(cls, config: FinalMLPConfig, widths: Widths) -> None:
        super().check(config, widths)
        last = config.first_units[-1], config.second_units[-1]
        if any(width % config.fusion_heads for width in last):
            raise SettingError(
                ("model", "fusion_heads"),
                f"must divide the streams' last widths, {last[0]} and {last[1]}; "
                f"got {config.fusion_heads}",
            )

    def user_tower(self, user: UserSide, training: bool) -> State:
        x = layers.concat(user_fields(user))
        state = {}
        for stream, gate, source in zip(self.streams, self.gates, self.sources):
            if source in ("context", "candidate"):
                state["user"] = x
                continue
            factors = self._factors(gate, {"user": x}, source)
            state[f"{stream.name}_product"] = stream.part("user", _times(x, factors.get("user")))
            if source == "user" and sum(self.parts.values()) > x.shape[-1]:
                others = [factors[side] for side in ("context", "candidate") if self.parts[side]]
                state[f"{stream.name}_gate"] = layers.concat(others)
        return state

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        from keras import ops

        sides = {
            "user": state.get("user"),
            "context": layers.concat(context.fields.values.values()),
            "candidate": layers.concat(candidates.fields.values.values()),
        }
        outputs = []
        for stream, gate, source in zip(self.streams, self.gates, self.sources):
            if source == "user":
                others = {side: self.parts[side] for side in ("context", "candidate")}
                factors = _by_side(state.get(f"{stream.name}_gate"), others)
            else:
                factors = self._factors(gate, sides, source)
            product = state.get(f"{stream.name}_product")
            products = [] if product is None else [product]
            for side, x in sides.items():
                if side != "user" or product is None:
                    products.append(stream.part(side, _times(x, factors.get(side))))
            products = [product for product in products if product is not None]
            shared = [product for product in products if len(product.shape) == 2]
            own = [product for product in products if len(product.shape) == 3]
            parts = layers.over_candidates(shared, sum(own) if own else None, candidates.mask)
            outputs.append(stream(parts, candidates.mask, training=training))

        heads = self.config.fusion_heads
        first, second = (ops.reshape(x, (-1, heads, x.shape[-1] // heads)) for x in outputs)
        fused = ops.sum(self.fusion(first) * second, axis=(1, 2))
        return Representation(
            layers.concat(outputs), ops.reshape(fused, ops.shape(candidates.mask))
        )

    def _factors(self, gate, sides: dict[str, Tensor | None], source: str) -> dict[str, Tensor]:
        """The gate's factors by side; none without a gate."""
        from keras import ops

        if gate is None:
            return {}
        read = ops.convert_to_tensor(gate.vector) if source == "learned" else sides[source]
        return _by_side(gate(read), self.parts)


def _by_side(factors: Tensor | None, parts: dict[str, int]) -> dict[str, Tensor]:
    """Factors side by side cut apart."""
    if factors is None:
        return {}
    return dict(zip(parts, layers.split(factors, list(parts.values()), axis=-1)))


def _times(x: Tensor | None, factors: Tensor | None) -> Tensor | None:
    """x times factors, of a request (B, D) or of a candidate (B, N, D) each; x without factors."""
    if x is None or factors is None:
        return x
    if len(x.shape) < len(factors.shape):
        x = x[:, None]
    elif len(x.shape) > len(factors.shape):
        factors = factors[:, None]
    return x * factors
