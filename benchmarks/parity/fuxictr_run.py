"""FuxiCTR's models and layers on the rows of `golden`; runs in that library's environment.

Its package ships four of its models; the others are assembled of its layers, as in its model zoo.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import fuxictr
import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import (
    BilinearInteraction,
    CompressedInteractionNet,
    CrossNet,
    FactorizationMachine,
    FeatureEmbedding,
    InnerProductInteraction,
    LogisticRegression,
    MLP_Block,
    SqueezeExcitation,
)
from model_zoo.LongCTR import DIEN, DIN, DCNv2, FinalMLP
from model_zoo.LongCTR.FinalMLP.FinalMLP import FeatureSelection, InteractionAggregation
from torch import nn

from benchmarks.parity import golden
from benchmarks.parity.golden import COMPARED, FIELDS, REQUESTS, WIDTH

VERSIONS = f"fuxictr {fuxictr.__version__}, torch {torch.__version__.partition('+')[0]}"
OTHERS = tuple(name for name in FIELDS if name not in COMPARED)


def feature_map(history: bool = False, numeric: bool = False) -> FeatureMap:
    """The library's description of the fields, those of behaviours last where there are any."""
    found = FeatureMap("parity", "")
    found.labels, found.default_emb_dim = ["label"], WIDTH
    for name in (*OTHERS, *COMPARED) if history else FIELDS:
        source = "item" if history and name in COMPARED else "user"
        found.features[name] = {
            "source": source,
            "type": "categorical",
            "vocab_size": FIELDS[name],
            "padding_idx": 0,
        }
    if numeric:
        found.features["price"] = {"source": "user", "type": "numeric"}
    found.num_fields = found.get_num_fields()
    return found


class Assembled(nn.Module):
    """Embeddings, and an MLP over what a model makes of them.

    Args:
        features: of the fields.
    """

    def __init__(self, features: FeatureMap):
        super().__init__()
        self.embedding_layer = FeatureEmbedding(features, WIDTH)
        self.names = list(features.features)
        self.fields = features.num_fields
        self.width = self.fields * WIDTH

    def network(self, inputs: int, output: int | None = 1) -> MLP_Block:
        return MLP_Block(inputs, [6, 5], "Tanh", output_dim=output)


class FM(Assembled):
    def __init__(self, features: FeatureMap):
        super().__init__(features)
        self.fm = FactorizationMachine(features)

    def forward(self, fields):
        return self.fm(fields, self.embedding_layer(fields))


class DeepFM(FM):
    def __init__(self, features: FeatureMap):
        super().__init__(features)
        self.mlp = self.network(self.width)

    def forward(self, fields):
        vectors = self.embedding_layer(fields)
        return self.fm(fields, vectors) + self.mlp(vectors.flatten(start_dim=1))


class XDeepFM(Assembled):
    def __init__(self, features: FeatureMap):
        super().__init__(features)
        self.lr = LogisticRegression(features, use_bias=False)
        self.cin = CompressedInteractionNet(self.fields, [4, 3])
        self.mlp = self.network(self.width)

    def forward(self, fields):
        vectors = self.embedding_layer(fields)
        return self.lr(fields) + self.cin(vectors) + self.mlp(vectors.flatten(start_dim=1))


class PNN(Assembled):
    def __init__(self, features: FeatureMap):
        super().__init__(features)
        self.products = InnerProductInteraction(self.fields, "inner_product")
        self.mlp = self.network(self.width + self.fields * (self.fields - 1) // 2)

    def forward(self, fields):
        vectors = self.embedding_layer(fields)
        return self.mlp(torch.cat([vectors.flatten(1), self.products(vectors)], dim=1))


class DCN(Assembled):
    def __init__(self, features: FeatureMap):
        super().__init__(features)
        self.cross = CrossNet(self.width, 2)
        self.mlp = self.network(self.width, None)
        self.fc = nn.Linear(self.width + 5, 1)

    def forward(self, fields):
        x = self.embedding_layer(fields, flatten_emb=True)
        return self.fc(torch.cat([self.cross(x), self.mlp(x)], dim=-1))


class FiBiNET(Assembled):
    """With matrices of its own for the weighted fields, as in the paper."""

    def __init__(self, features: FeatureMap, kind: str, excitation: str):
        super().__init__(features)
        self.lr = LogisticRegression(features, use_bias=False)
        self.senet = SqueezeExcitation(self.fields, 3, excitation)
        self.plain = BilinearInteraction(self.fields, WIDTH, kind)
        self.weighted = BilinearInteraction(self.fields, WIDTH, kind)
        self.mlp = self.network(self.fields * (self.fields - 1) * WIDTH)

    def forward(self, fields):
        vectors = self.embedding_layer(fields)
        pairs = [self.plain(vectors), self.weighted(self.senet(vectors))]
        return self.lr(fields) + self.mlp(torch.cat(pairs, dim=1).flatten(start_dim=1))


class GatedFinalMLP(Assembled):
    """With the gates that the library's own model makes but does not apply."""

    def __init__(self, features: FeatureMap):
        super().__init__(features)
        self.gates = FeatureSelection(features, self.width, WIDTH, [4], ["gender", "city"], [])
        self.mlp1 = MLP_Block(self.width, [6, 4])
        self.mlp2 = MLP_Block(self.width, [5, 6])
        self.fusion_module = InteractionAggregation(4, 6, num_heads=2)

    def forward(self, fields):
        first, second = self.gates(fields, self.embedding_layer(fields, flatten_emb=True))
        return self.fusion_module(self.mlp1(first), self.mlp2(second))


def own(model: type, **given) -> nn.Module:
    """A model of the library, whose output is a logit."""
    with tempfile.TemporaryDirectory() as folder:
        return model(
            feature_map(history=True),
            task="regression",
            gpu=-1,
            optimizer="adam",
            loss="binary_crossentropy",
            metrics=["AUC"],
            model_root=folder,
            verbose=0,
            embedding_dim=WIDTH,
            **given,
        )


DICE = {
    "dnn_hidden_units": [6, 5],
    "dnn_activations": "Dice",
    "attention_hidden_units": [5, 3],
    "attention_hidden_activations": "Dice",
}
PARALLEL = {"parallel_dnn_hidden_units": [6, 5], "num_cross_layers": 2}
EVOLVING = {"dnn_hidden_units": [6, 5], "batch_norm": False}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "dcn": lambda: DCN(feature_map()),
    "dcn_v2": partial(own, DCNv2, **PARALLEL),
    "dcn_v2_experts": partial(
        own, DCNv2, use_low_rank_mixture=True, low_rank=2, num_experts=3, **PARALLEL
    ),
    "dcn_v2_stacked": partial(
        own,
        DCNv2,
        model_structure="stacked",
        stacked_dnn_hidden_units=[6, 5],
        batch_norm=True,
        num_cross_layers=2,
    ),
    "deepfm": lambda: DeepFM(feature_map(numeric=True)),
    **{
        f"dien_{kind.lower()}": partial(own, DIEN, gru_type=kind, **EVOLVING)
        for kind in ("GRU", "AGRU", "AUGRU")
    },
    "dien_augru_biases": partial(own, DIEN, gru_type="AUGRU", **EVOLVING),
    "din": partial(own, DIN, **DICE),
    "din_softmax": partial(own, DIN, din_use_softmax=True, **DICE),
    "fibinet_all": lambda: FiBiNET(feature_map(numeric=True), "field_all", "ReLU"),
    "fibinet_each": lambda: FiBiNET(feature_map(numeric=True), "field_each", "ReLU"),
    "fibinet_interaction": lambda: FiBiNET(
        feature_map(numeric=True), "field_interaction", "Sigmoid"
    ),
    "finalmlp": partial(
        own,
        FinalMLP,
        mlp1_hidden_units=[6, 4],
        mlp2_hidden_units=[5, 6],
        fs_hidden_units=[4],
        num_heads=2,
    ),
    "finalmlp_gates": lambda: GatedFinalMLP(feature_map()),
    "fm": lambda: FM(feature_map(numeric=True)),
    "pnn_inner": lambda: PNN(feature_map(numeric=True)),
    "xdeepfm": lambda: XDeepFM(feature_map(numeric=True)),
}


def weights_of(title: str, model: nn.Module) -> dict[str, np.ndarray]:
    """Draws and sets them: name to value."""
    found = {}
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        value = golden.draw(title, name, tensor.shape)
        if name.startswith("gates.fs1_ctx_emb"):
            # The gate has tables of its own.
            value = found[name.replace("gates.fs1_ctx_emb", "embedding_layer")].copy()
        elif "embedding_layers" in name and "price" not in name:
            # Padding, which the library keeps so.
            value[0] = 0
        if title.startswith("xdeepfm") and "cin_layer" in name and name.endswith("bias"):
            value *= 0
        if "biases" not in title and name.endswith(("bias_hh_l0", "h2h.bias")):
            value[-len(value) // 3 :] = 0
        found[name] = value
    model.load_state_dict({name: torch.from_numpy(x) for name, x in found.items()}, strict=False)
    return found


def read(model: nn.Module) -> object:
    """The batch as that model reads it: rows of fields, or (fields, behaviours and item, mask)."""
    of = {name: torch.from_numpy(value) for name, value in golden.rows(golden.batch()).items()}
    if isinstance(model, Assembled):
        return {name: of[name] for name in model.names}
    items = {
        name: torch.cat([of[f"history_{name}"], of[name][:, None]], dim=1).reshape(-1)
        for name in COMPARED
    }
    return {name: of[name] for name in OTHERS}, items, of["history_item"] > 0


def main() -> None:
    """Writes a file for each model into the folder that is given."""
    folder = Path(sys.argv[1])
    for title, made in MODELS.items():
        model = made().eval()
        weights = weights_of(title, model)
        with torch.no_grad():
            logit = model(read(model))
        logit = logit["y_pred"] if isinstance(logit, dict) else logit
        outputs = {"logit/click": logit.numpy().reshape(REQUESTS, -1)}
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        path = folder / f"{title}.npz"
        golden.save(path, golden.batch(), weights, outputs, trained, VERSIONS)


if __name__ == "__main__":
    main()
