"""Product-based neural network."""

from __future__ import annotations

from typing import Literal

from ctr_tf import layers
from ctr_tf.models.architecture import Body
from ctr_tf.models.config import DeepFields, ModelConfig
from ctr_tf.models.sides import deep_network, side_totals, side_widths, user_fields
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


class PNNConfig(DeepFields, ModelConfig):
    """Configuration of PNN.

    Args:
        product: `inner` (IPNN), `outer` (OPNN), `both` (PNN*) or `kernel` (KPNN).
        units, activation, batch_norm, dropout: of the MLP; its first layer reads the products, too.
    """

    name: str = "pnn"
    product: Literal["inner", "outer", "both", "kernel"] = "inner"


@register(
    "pnn",
    paper="Qu et al. 2016, arXiv:1611.00144, eq. 1-3; 2018, arXiv:1807.00311",
    config=PNNConfig,
)
class PNN(Body):
    """Product-based neural network: an MLP over embeddings and products of pairs of them.

    Qu et al. 2016, arXiv:1611.00144, equations 1 to 3: l_1 = f(l_z + l_p + b_1), l_z = W_z z, l_p =
    W_p p, with z the fields and p their products: inner <v_i, v_j> of each pair, outer f f^T of
    the sum f of all fields, or both; or v_i^T phi_ij v_j (Qu et al. 2018, arXiv:1807.00311). W_z
    and W_p are the rows of one layer, which is split: z and the products within the user are
    multiplied once a request, also phi_ij by the user's fields. Of pairs within the user no product
    is repeated for the candidates. Numbers are multiplied by a learned vector; behaviour sequences
    are fields by their mean.

    Args:
        config: see `PNNConfig`.
        widths: of the embedded features, all alike.

    Shapes:
        state: `deep` (B, units[0]); `total` (B, D) for outer; `to_context` and `to_candidate`,
        (B, F_user, D) for inner, (B, F_side, D, F_user) for kernel; representation
        (B, N, units[-1]).

    Example:
        >>> widths = Widths(user={"age": 16, "city": 16}, candidate={"item_id": 16})
        >>> body = PNN(PNNConfig(product="both"), widths)
        >>> body.deep.split.part_widths["user_candidate"], body.deep.split.part_widths["outer"]
        (2, 256)
    """

    one_width = True

    def __init__(self, config: PNNConfig, widths: Widths):
        super().__init__(config, widths)
        self.counts = {side: len(own) for side, own in side_widths(widths).items()}
        self.width = config.embedding.width
        parts = side_totals(widths)
        self.pairs = None
        if config.product == "kernel":
            self.pairs = layers.KernelProducts(self.counts, self.width, name="products")
        elif config.product != "outer":
            self.pairs = layers.InnerProducts(self.counts)
        if self.pairs is not None:
            parts |= layers.product_sizes(self.counts)
        self.outer = config.product in ("outer", "both")
        if self.outer:
            parts["outer"] = self.width**2
        self.deep = deep_network(config, parts)

    def _of_side(self, side: str, fields: list[Tensor]) -> State:
        """What one side's fields, (..., D) each, add to the first layer and send to later sides."""
        found, x = {}, layers.concat(fields)
        products = [self.deep.part(side, x)]
        if self.pairs is not None:
            own, messages = self.pairs.of_side(side, layers.by_field(x, self.width))
            products.append(self.deep.part(f"{side}_{side}", own))
            found = {f"to_{other}": message for other, message in messages.items()}
        if self.outer:
            found["total"] = sum(fields)
        return {**found, "deep": self.deep.split.join(products, bias=False)}

    def _across(self, side: str, message: Tensor, other: str, fields: list[Tensor]) -> Tensor:
        """What products of an earlier side's fields and a later one's add to the first layer."""
        signals = self.pairs.across(message, layers.by_field(layers.concat(fields), self.width))
        return self.deep.part(f"{side}_{other}", signals)

    def user_tower(self, user: UserSide, training: bool) -> State:
        return self._of_side("user", user_fields(user))

    def item_tower(
        self, state: State, context: ContextSide, candidates: CandidateSide, training: bool
    ) -> Representation:
        mask = candidates.mask
        earlier, per_request, products = {"user": state}, [state.get("deep")], []
        fields = list(context.fields.values.values())
        if fields:
            earlier["context"] = self._of_side("context", fields)
            per_request.append(earlier["context"]["deep"])
            if "to_context" in state:
                sent = state["to_context"]
                per_request.append(self._across("user", sent, "context", fields))
        fields, own = list(candidates.fields.values.values()), {}
        if fields:
            own = self._of_side("candidate", fields)
            for side, found in earlier.items():
                if "to_candidate" in found:
                    sent = found["to_candidate"]
                    products.append(self._across(side, sent, "candidate", fields))
        products = [*layers.over_candidates(per_request, own.get("deep"), mask), *products]
        if self.outer:
            totals = [found.get("total") for found in earlier.values()]
            total = sum(layers.over_candidates(totals, own.get("total"), mask))
            products.append(self.deep.part("outer", layers.outer_product(total)))
        return Representation(self.deep(products, mask, training=training))
