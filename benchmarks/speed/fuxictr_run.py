"""FuxiCTR's training step on a workload's arrays; runs in that library's environment."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Iterator

import fuxictr
import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import CrossNetV2, FactorizationMachine, FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import seed_everything
from model_zoo.LongCTR import DIN as LibraryDIN

from benchmarks.speed import measure
from benchmarks.speed.workloads import WORKLOADS, Workload

WIDTH = 16


class Unclipped:
    """The library's training step without its clipping, which no other side has."""

    def train_step(self, batch):
        self.optimizer.zero_grad()
        loss = self.compute_loss(self.forward(batch), self.get_labels(batch))
        loss.backward()
        self.optimizer.step()
        return loss


class DeepFM(Unclipped, BaseModel):
    """DeepFM as the library's model zoo assembles it; the package itself ships no DeepFM."""

    def __init__(self, feature_map, **kwargs):
        super().__init__(feature_map, **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, WIDTH)
        self.fm = FactorizationMachine(feature_map)
        self.mlp = MLP_Block(feature_map.sum_emb_out_dim(), [400, 400, 400], output_dim=1)
        self.compile(kwargs["optimizer"], kwargs["loss"], kwargs["learning_rate"])
        self.reset_parameters()

    def forward(self, inputs):
        fields = self.get_inputs(inputs)
        vectors = self.embedding_layer(fields)
        logit = self.fm(fields, vectors) + self.mlp(vectors.flatten(start_dim=1))
        return {"y_pred": self.output_activation(logit)}


class DCNv2(Unclipped, BaseModel):
    """DCN-v2 as the library's model zoo assembles it, in the parallel structure.

    The packaged `LongCTR.DCNv2` is the same behind a pooled history, which W1 has not.
    """

    def __init__(self, feature_map, **kwargs):
        super().__init__(feature_map, **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, WIDTH)
        width = feature_map.sum_emb_out_dim()
        self.cross = CrossNetV2(width, 3)
        self.deep = MLP_Block(width, [400, 400, 400], output_dim=None)
        self.head = torch.nn.Linear(width + 400, 1)
        self.compile(kwargs["optimizer"], kwargs["loss"], kwargs["learning_rate"])
        self.reset_parameters()

    def forward(self, inputs):
        x = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        logit = self.head(torch.cat([self.cross(x), self.deep(x)], dim=-1))
        return {"y_pred": self.output_activation(logit)}


class DIN(Unclipped, LibraryDIN):
    """The library's own."""


MODELS = {"deepfm": DeepFM, "dcn_v2": DCNv2, "din": DIN}
DIN_ARGUMENTS = {
    "dnn_hidden_units": [256, 128, 64],
    "dnn_activations": "Dice",
    "attention_hidden_units": [80, 40],
    "attention_hidden_activations": "Dice",
}


def feature_map(workload: Workload, model: str) -> FeatureMap:
    """The library's description of the fields; DCN-v2 reads a number as one number, as ours."""
    found = FeatureMap(workload.name, "")
    found.labels = ["label"]
    found.default_emb_dim = WIDTH
    specs: OrderedDict[str, dict] = OrderedDict()
    for name, ids in workload.fields.items():
        source = "item" if name in workload.history else "user"
        specs[name] = {"source": source, "type": "categorical", "vocab_size": ids + 1}
        if name in workload.history:
            specs[name]["padding_idx"] = 0
    for i in range(workload.numeric):
        specs[f"n{i}"] = {"source": "user", "type": "numeric"}
        if model == "dcn_v2":
            specs[f"n{i}"]["embedding_dim"] = 1
    found.features = specs
    found.num_fields = found.get_num_fields()
    return found


def batches(workload: Workload, arrays: dict[str, np.ndarray]) -> Iterator:
    """Batches in the form that the models read: of sequence models (fields, items, mask)."""
    own = [name for name in workload.fields if name not in workload.history]
    fields = np.stack([arrays[name] for name in own], axis=1)
    for rows in measure.shuffled(workload.rows, workload.batch):
        taken = torch.from_numpy(fields[rows])
        batch = {name: taken[:, i] for i, name in enumerate(own)}
        batch["label"] = torch.from_numpy(arrays["label"][rows])
        if workload.numeric:
            numeric = torch.from_numpy(arrays["numeric"][rows])
            batch |= {f"n{i}": numeric[:, i] for i in range(workload.numeric)}
        if not workload.length:
            yield batch
            continue
        length = arrays["length"][rows]
        longest = int(length.max())
        items = {}
        for name in workload.history:
            history = arrays[f"history_{name}"][rows, :longest]
            joined = np.hstack([history, arrays[name][rows, None]])
            items[name] = torch.from_numpy(joined.reshape(-1))
        mask = (np.arange(longest) < length[:, None]).astype(np.float32)
        yield batch, items, torch.from_numpy(mask)


def main() -> None:
    """Prints one line of JSON."""
    options = measure.options(MODELS).parse_args()
    workload = WORKLOADS[options.workload]
    arrays = measure.load(options.arrays)
    seed_everything(1)
    with tempfile.TemporaryDirectory() as folder:
        model = MODELS[options.model](
            feature_map(workload, options.model),
            gpu=-1,
            learning_rate=1e-3,
            optimizer="adam",
            loss="binary_crossentropy",
            metrics=["AUC"],
            model_root=folder,
            verbose=0,
            **({"embedding_dim": WIDTH, **DIN_ARGUMENTS} if options.model == "din" else {}),
        )
    model.train(not workload.scoring)
    clock = measure.Clock(options.warm_up, options.steps, options.seconds)
    loss = None
    for batch in batches(workload, arrays):
        if workload.scoring:
            with torch.no_grad():
                model.forward(batch)["y_pred"].numpy()
        else:
            # The library reads the loss of each step.
            loss = model.train_step(batch).item()
        if not clock.more():
            break
    measure.report(
        clock,
        workload.batch,
        loss,
        sum(p.numel() for p in model.parameters() if p.requires_grad),
        {"fuxictr": fuxictr.__version__, "torch": torch.__version__},
    )


if __name__ == "__main__":
    main()
