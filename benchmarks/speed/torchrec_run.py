"""TorchRec's training step on W1's arrays; runs in that library's environment.

Tables are a `FusedEmbeddingBagCollection`: FBGEMM's batched tables, updated by exact row-wise
Adagrad within the backward pass. The models are ours, layer by layer.
"""

from __future__ import annotations

from collections.abc import Iterator

import fbgemm_gpu  # noqa: F401  (the operators)
import numpy as np
import torch
import torchrec
from torch import nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection
from torchrec.modules.mlp import MLP
from torchrec.optim import RowWiseAdagrad
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from benchmarks.speed import measure
from benchmarks.speed.workloads import WORKLOADS, Workload

WIDTH = 16
UNITS = [400, 400, 400]


class Model(nn.Module):
    """What both models have: one bag of one id a field.

    Args:
        workload: whose fields have a table each.
    """

    def __init__(self, workload: Workload):
        super().__init__()
        self.tables = FusedEmbeddingBagCollection(
            [
                EmbeddingBagConfig(
                    name=name, embedding_dim=WIDTH, num_embeddings=ids + 1, feature_names=[name]
                )
                for name, ids in workload.fields.items()
            ],
            optimizer_type=RowWiseAdagrad,
            optimizer_kwargs={"lr": 1e-3},
        )

    def dense(self) -> list[nn.Parameter]:
        """What Adam updates."""
        own = {id(p) for p in self.tables.parameters()}
        return [p for p in self.parameters() if id(p) not in own]


class DeepFM(Model):
    """DeepFM of vectors, numbers embedded; no first-order weights, as in `torchrec.models`.

    FBGEMM's tables have widths of a multiple of 4, so that one number a row is no table there.
    """

    def __init__(self, workload: Workload):
        super().__init__(workload)
        self.numbers = nn.Parameter(torch.randn(workload.numeric, WIDTH) * 0.01)
        fields = len(workload.fields) + workload.numeric
        self.deep = nn.Sequential(MLP(fields * WIDTH, UNITS), nn.Linear(UNITS[-1], 1))

    def forward(self, ids, numeric):
        vectors = self.tables(ids).values()
        of_numbers = (numeric[:, :, None] * self.numbers).flatten(1)
        x = torch.cat([vectors, of_numbers], dim=1)
        fields = x.view(len(x), -1, WIDTH)
        pairs = fields.sum(1).square().sum(1) - fields.square().sum((1, 2))
        return self.deep(x)[:, 0] + 0.5 * pairs


class CrossNet(nn.Module):
    """The cross network of `torchrec.modules`, a matrix product a layer instead of one a row.

    The library's own took 1.4 times the whole step's processor time.
    """

    def __init__(self, width: int, layers: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))

    def forward(self, x0):
        x = x0
        for layer in self.layers:
            x = x0 * layer(x) + x
        return x


class DCNv2(Model):
    """DCN-v2 in the parallel structure."""

    def __init__(self, workload: Workload):
        super().__init__(workload)
        width = len(workload.fields) * WIDTH + workload.numeric
        self.cross = CrossNet(width, 3)
        self.deep = MLP(width, UNITS)
        self.head = nn.Linear(width + UNITS[-1], 1)

    def forward(self, ids, numeric):
        x = torch.cat([self.tables(ids).values(), numeric], dim=1)
        return self.head(torch.cat([self.cross(x), self.deep(x)], dim=1))[:, 0]


MODELS = {"deepfm": DeepFM, "dcn_v2": DCNv2}


def batches(workload: Workload, arrays: dict[str, np.ndarray]) -> Iterator:
    """(ids, numbers, label) of each batch."""
    names = list(workload.fields)
    fields = np.stack([arrays[name] for name in names], axis=1)
    lengths = torch.ones(len(names) * workload.batch, dtype=torch.int32)
    for rows in measure.shuffled(workload.rows, workload.batch):
        ids = torch.from_numpy(np.ascontiguousarray(fields[rows].T).reshape(-1))
        yield (
            KeyedJaggedTensor(names, ids, lengths=lengths),
            torch.from_numpy(arrays["numeric"][rows]),
            torch.from_numpy(arrays["label"][rows]),
        )


def main() -> None:
    """Prints one line of JSON."""
    options = measure.options(MODELS).parse_args()
    workload = WORKLOADS[options.workload]
    arrays = measure.load(options.arrays)
    torch.manual_seed(1)
    model = MODELS[options.model](workload)
    optimizer = torch.optim.Adam(model.dense(), lr=1e-3, fused=True)
    cost = nn.BCEWithLogitsLoss()
    clock = measure.Clock(options.warm_up, options.steps, options.seconds)
    for ids, numeric, label in batches(workload, arrays):
        optimizer.zero_grad()
        loss = cost(model(ids, numeric), label)
        loss.backward()
        optimizer.step()
        if not clock.more():
            break
    measure.report(
        clock,
        workload.batch,
        loss.item(),
        sum(p.numel() for p in model.parameters()),
        {"torchrec": torchrec.__version__, "torch": torch.__version__},
    )


if __name__ == "__main__":
    main()
