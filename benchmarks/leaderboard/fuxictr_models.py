"""FuxiCTR's models over our fields; runs in the environment of the peer library.

The wheel's DIN, DIEN and DCN-v2 are taken as they are. The others are put together here of the
wheel's layers, as the published model zoo describes them, and read the fields that our models read:
the user's, each attribute of the behaviours by its mean, the candidate's.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import (
    BilinearInteractionV2,
    CompressedInteractionNet,
    CrossNet,
    FactorizationMachine,
    FeatureEmbeddingDict,
    InnerProductInteraction,
    LogisticRegression,
    MaskedAveragePooling,
    MLP_Block,
    ScaledDotProductAttention,
    SqueezeExcitation,
)
from fuxictr.pytorch.models import BaseModel
from model_zoo.LongCTR import DIEN, DIN, DCNv2
from model_zoo.LongCTR.FinalMLP.FinalMLP import FeatureSelection, InteractionAggregation
from torch import nn


@dataclass(frozen=True)
class Fields:
    """What a network is built over.

    Args:
        own: description of the fields of the user and the candidate, those with first-order
            weights; behaviours have none.
        count: F, of all fields.
        width: D, of each.
    """

    own: FeatureMap
    count: int
    width: int

    @property
    def total(self) -> int:
        """The width of all fields laid end to end."""
        return self.count * self.width


class Network(nn.Module):
    """The base of what stands between embedded fields and logit.

    `forward` takes the values of `Fields.own`, name to (B,) or (B, values), and all fields
    embedded, (B, F, D); it returns logits (B, 1).
    """


class FM(Network):
    """Factorisation machine."""

    def __init__(self, fields: Fields):
        super().__init__()
        self.fm = FactorizationMachine(fields.own)

    def forward(self, values, x):
        return self.fm(values, x)


class FwFM(Network):
    """Field-weighted factorisation machine, with a first-order weight of each value."""

    def __init__(self, fields: Fields):
        super().__init__()
        self.linear = LogisticRegression(fields.own, use_bias=False)
        self.products = InnerProductInteraction(fields.count, output="inner_product")
        self.strengths = nn.Linear(self.products.interaction_units, 1)

    def forward(self, values, x):
        return self.linear(values) + self.strengths(self.products(x))


class FmFM(Network):
    """Field-matrixed factorisation machine: <v_i M_ij, v_j> is a sum of the bilinear layer's."""

    def __init__(self, fields: Fields):
        super().__init__()
        self.linear = LogisticRegression(fields.own)
        self.pairs = BilinearInteractionV2(fields.count, fields.width, "field_interaction")

    def forward(self, values, x):
        return self.linear(values) + self.pairs(x).sum(dim=(1, 2))[:, None]


class FlatDNN(Network):
    """An MLP over every field."""

    def __init__(self, fields: Fields, **deep):
        super().__init__()
        self.deep = MLP_Block(fields.total, output_dim=1, **deep)

    def forward(self, values, x):
        return self.deep(x.flatten(start_dim=1))


class WideDeep(FlatDNN):
    """Wide & Deep."""

    def __init__(self, fields: Fields, **deep):
        super().__init__(fields, **deep)
        self.wide = LogisticRegression(fields.own, use_bias=False)

    def forward(self, values, x):
        return self.wide(values) + super().forward(values, x)


class DeepFM(FlatDNN):
    """DeepFM; the machine and the MLP have a bias each."""

    def __init__(self, fields: Fields, **deep):
        super().__init__(fields, **deep)
        self.fm = FactorizationMachine(fields.own)

    def forward(self, values, x):
        return self.fm(values, x) + super().forward(values, x)


class XDeepFM(WideDeep):
    """xDeepFM; the compressed interaction network has biases, and one for its logit."""

    def __init__(self, fields: Fields, cin_hidden_units: list[int], **deep):
        super().__init__(fields, **deep)
        self.cin = CompressedInteractionNet(fields.count, cin_hidden_units)

    def forward(self, values, x):
        return self.cin(x) + super().forward(values, x)


class PNN(Network):
    """Product-based network of inner products."""

    def __init__(self, fields: Fields, **deep):
        super().__init__()
        self.products = InnerProductInteraction(fields.count, output="inner_product")
        inputs = fields.total + self.products.interaction_units
        self.deep = MLP_Block(inputs, output_dim=1, **deep)

    def forward(self, values, x):
        return self.deep(torch.cat([x.flatten(start_dim=1), self.products(x)], dim=1))


class DCN(Network):
    """Deep & Cross Network."""

    def __init__(self, fields: Fields, num_layers: int, **deep):
        super().__init__()
        self.cross = CrossNet(fields.total, num_layers)
        self.deep = MLP_Block(fields.total, **deep)
        self.head = nn.Linear(fields.total + deep["hidden_units"][-1], 1)

    def forward(self, values, x):
        x = x.flatten(start_dim=1)
        return self.head(torch.cat([self.cross(x), self.deep(x)], dim=1))


class FiBiNET(Network):
    """FiBiNET."""

    def __init__(
        self,
        fields: Fields,
        bilinear_type: str,
        reduction_ratio: int,
        excitation_activation: str,
        **deep,
    ):
        super().__init__()
        self.linear = LogisticRegression(fields.own, use_bias=False)
        self.importance = SqueezeExcitation(fields.count, reduction_ratio, excitation_activation)
        self.plain = BilinearInteractionV2(fields.count, fields.width, bilinear_type)
        self.weighted = BilinearInteractionV2(fields.count, fields.width, bilinear_type)
        inputs = 2 * self.plain.interact_dim * fields.width
        self.deep = MLP_Block(inputs, output_dim=1, **deep)

    def forward(self, values, x):
        pairs = torch.cat([self.plain(x), self.weighted(self.importance(x))], dim=1)
        return self.linear(values) + self.deep(pairs.flatten(start_dim=1))


class Interacting(nn.Module):
    """An interacting layer of AutoInt around the wheel's attention, which has no projections.

    As in the model zoo, fields are projected to queries, keys and values, and what a layer adds is
    its input, projected where the widths differ.

    Shapes:
        x: (B, F, D); returns (B, F, heads * width).
    """

    def __init__(self, inputs: int, heads: int, width: int, residual: bool, scaled: bool):
        super().__init__()
        self.heads, self.residual = heads, residual
        self.scale = width**0.5 if scaled else None
        self.projections = nn.ModuleList(
            nn.Linear(inputs, heads * width, bias=False) for _ in range(3)
        )
        self.shortcut = nn.Identity()
        if residual and inputs != heads * width:
            self.shortcut = nn.Linear(inputs, heads * width, bias=False)
        self.attention = ScaledDotProductAttention()

    def forward(self, x):
        own = (each(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in self.projections)
        y, _ = self.attention(*own, scale=self.scale)
        y = y.transpose(1, 2).flatten(start_dim=2)
        return torch.relu(y + self.shortcut(x) if self.residual else y)


class AutoInt(Network):
    """AutoInt; AutoInt+ with hidden units."""

    def __init__(
        self,
        fields: Fields,
        attention_layers: int,
        num_heads: int,
        head_dim: int,
        use_residual: bool,
        use_scale: bool,
        **deep,
    ):
        super().__init__()
        widths = [fields.width] + [num_heads * head_dim] * attention_layers
        self.interacting = nn.Sequential(
            *(
                Interacting(width, num_heads, head_dim, use_residual, use_scale)
                for width in widths[:-1]
            )
        )
        self.head = nn.Linear(fields.count * widths[-1], 1)
        self.deep = None
        if deep["hidden_units"]:
            self.deep = MLP_Block(fields.total, output_dim=1, **deep)

    def forward(self, values, x):
        logit = self.head(self.interacting(x).flatten(start_dim=1))
        return logit if self.deep is None else logit + self.deep(x.flatten(start_dim=1))


class FinalMLP(Network):
    """FinalMLP, of the modules of the wheel's, which does not call its gates.

    A gate reads the fields of one source, from embedding tables of its own.
    """

    def __init__(
        self,
        fields: Fields,
        mlp1_hidden_units: list[int],
        mlp2_hidden_units: list[int],
        fs_hidden_units: list[int],
        fs1_context: str,
        fs2_context: str,
        num_heads: int,
        **deep,
    ):
        super().__init__()
        contexts = (
            [name for name, spec in fields.own.features.items() if spec["source"] == source]
            for source in (fs1_context, fs2_context)
        )
        self.gates = FeatureSelection(
            fields.own, fields.total, fields.width, fs_hidden_units, *contexts
        )
        self.first = MLP_Block(fields.total, hidden_units=mlp1_hidden_units, **deep)
        self.second = MLP_Block(fields.total, hidden_units=mlp2_hidden_units, **deep)
        self.fusion = InteractionAggregation(
            mlp1_hidden_units[-1], mlp2_hidden_units[-1], num_heads=num_heads
        )

    def forward(self, values, x):
        first, second = self.gates(values, x.flatten(start_dim=1))
        return self.fusion(self.first(first), self.second(second))


PACKAGED = {"din": DIN, "dien": DIEN, "dcn_v2": DCNv2}
NETWORKS = {
    "autoint": AutoInt,
    "dcn": DCN,
    "deepfm": DeepFM,
    "fibinet": FiBiNET,
    "finalmlp": FinalMLP,
    "flat_dnn": FlatDNN,
    "fm": FM,
    "fmfm": FmFM,
    "fwfm": FwFM,
    "pnn": PNN,
    "wide_deep": WideDeep,
    "xdeepfm": XDeepFM,
}


class Assembled(BaseModel):
    """A network of the library's layers over embedded fields, trained by the library.

    Args:
        feature_map: of fields whose source is the user or the item; `behaviour` says of the latter
            which the behaviours alone have.
        network: one of `NETWORKS`.
        embedding_dim: width of the fields.
        arguments: of the network.
        settings: of the library's model.

    Shapes:
        batches are those of the library's sequence models: the user's fields (B,) and the label;
        the fields of behaviours and then the candidate, row by row, (B * (L + 1),) or
        (B * (L + 1), values); a mask of the behaviours, (B, L).
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        network: type[Network],
        embedding_dim: int,
        arguments: dict,
        **settings,
    ):
        super().__init__(feature_map, **settings)
        specs = feature_map.features
        self.user, of_behaviours = (
            [name for name, spec in specs.items() if spec["source"] == source]
            for source in ("user", "item")
        )
        self.item = [name for name in of_behaviours if not specs[name]["behaviour"]]
        own = copy(feature_map)
        own.features = {name: specs[name] for name in self.user + self.item}
        own.num_fields = len(own.features)
        self.embedding = FeatureEmbeddingDict(feature_map, embedding_dim)
        self.pooling = MaskedAveragePooling()
        count = len(self.user) + len(of_behaviours) + len(self.item)
        self.network = network(Fields(own, count, embedding_dim), **arguments)
        self.compile(settings["optimizer"], settings["loss"], settings["learning_rate"])
        self.reset_parameters()
        self.model_to_device()

    def forward(self, batch):
        fields, items, mask = batch
        rows = mask.shape[0]
        values = {name: fields[name] for name in self.user}
        embedded = self.embedding(values)
        x = [embedded[name] for name in self.user]
        embedded = _by_row(self.embedding(items), rows)
        x += [self.pooling(each[:, :-1], mask) for each in embedded.values()]
        x += [embedded[name][:, -1] for name in self.item]
        raw = _by_row(items, rows)
        values |= {name: raw[name][:, -1] for name in self.item}
        logit = self.network(values, torch.stack(x, dim=1))
        return {"y_pred": self.output_activation(logit)}

    def get_labels(self, batch):
        return super().get_labels(batch[0])


def _by_row(flat: dict[str, torch.Tensor], rows: int) -> dict[str, torch.Tensor]:
    """Behaviours and candidate of each row apart: (B * (L + 1), ...) as (B, L + 1, ...)."""
    return {name: values.unflatten(0, (rows, -1)) for name, values in flat.items()}


def build(name: str, feature_map: FeatureMap, arguments: dict, **settings) -> BaseModel:
    """The model of that name.

    Args:
        name: of `PACKAGED` or `NETWORKS`.
        feature_map: of the fields.
        arguments: of the model, `embedding_dim` among them; see `translate.py`.
        settings: of the library's `BaseModel`, `optimizer`, `loss` and `learning_rate`.
    """
    if name in PACKAGED:
        return PACKAGED[name](feature_map, **arguments, **settings)
    own = {key: value for key, value in arguments.items() if key != "embedding_dim"}
    return Assembled(feature_map, NETWORKS[name], arguments["embedding_dim"], own, **settings)
