"""Trains one model of FuxiCTR on converted rows and scores the test rows.

Runs in the environment of the peer library; the stack is not imported here.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import fuxictr
import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.torch_utils import seed_everything
from model_zoo.LongCTR import DIN, DCNv2

MODELS = {"din": DIN, "dcn_v2": DCNv2}


class Batches:
    """Batches of a split, in the form that the library's sequence models read.

    A batch is (fields of the user and label, fields of behaviours and candidate, mask): the second
    holds, row by row, the behaviours and then the candidate. A behaviour's own attribute is
    padding at the candidate.

    Args:
        data: the converted rows.
        split: which of them.
        size: rows a batch.
        seed: of the order; the order of the log by default.
        steps: the most batches of one pass.
    """

    def __init__(
        self,
        data: dict[str, np.ndarray],
        split: str,
        size: int,
        seed: int | None = None,
        steps: int | None = None,
    ):
        self.items = {key[5:]: data[key] for key in data if key.startswith("item/")}
        self.data = {k.removeprefix(f"{split}/"): data[k] for k in data if k.startswith(split)}
        self.size = size
        self.order = None if seed is None else np.random.default_rng(seed)
        self.rows = len(self.data["label"])
        batches = -(-self.rows // size)
        self.batches = min(batches, steps or batches)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[tuple[dict, dict, torch.Tensor]]:
        rows = np.arange(self.rows) if self.order is None else self.order.permutation(self.rows)
        for start in range(0, self.batches * self.size, self.size):
            yield self._batch(rows[start : start + self.size])

    def _batch(self, rows: np.ndarray) -> tuple[dict, dict, torch.Tensor]:
        request = self.data["request"][rows]
        history = self.data["history"][request]
        longest = max(1, int((history > 0).sum(axis=1).max()))
        history = history[:, :longest]
        numbers = np.hstack([history, self.data["item"][rows, None]]).reshape(-1)
        fields = {"label": torch.from_numpy(self.data["label"][rows])}
        items = {}
        for name, values in self.items.items():
            items[name] = torch.from_numpy(
                values[numbers].squeeze(1) if values.shape[1] == 1 else values[numbers]
            )
        for key, values in self.data.items():
            if key.startswith("user/"):
                fields[key[5:]] = torch.from_numpy(values[request])
            elif key.startswith("behaviour/"):
                own = np.pad(values[request, :longest], ((0, 0), (0, 1)))
                items[key[10:]] = torch.from_numpy(own.reshape(-1))
        return fields, items, torch.from_numpy((history > 0).astype(np.float32))


def feature_map(data: dict[str, np.ndarray], width: int) -> FeatureMap:
    """The library's description of the fields."""
    found = FeatureMap("rows", "")
    found.labels = ["label"]
    found.default_emb_dim = width
    tables = json.loads(str(data["tables"]))
    users = [key[11:] for key in data if key.startswith("train/user/")]
    specs: OrderedDict[str, dict] = OrderedDict()
    for name in users:
        specs[name] = {"source": "user", "type": "categorical", "vocab_size": tables[name]}
    for name in [name for name in tables if name not in users]:
        spec = {"source": "item", "type": "categorical", "vocab_size": tables[name]}
        values = data.get(f"item/{name}")
        if values is not None and values.shape[1] > 1:
            spec |= {"type": "sequence", "max_len": values.shape[1]}
            spec |= {"feature_encoder": "layers.MaskedAveragePooling()"}
        specs[name] = spec | {"padding_idx": 0}
    found.features = specs
    found.num_fields = found.get_num_fields()
    return found


def main(spec: dict) -> None:
    """Trains and scores as `spec` says; see `compare.py`."""
    with np.load(spec["rows"]) as file:
        data = {name: file[name] for name in file.files}
    size, seed = spec["batch_size"], spec["seed"]
    training = Batches(data, "train", size, seed, spec["max_steps"])
    validation = Batches(data, "validation", size)
    seed_everything(seed)
    with tempfile.TemporaryDirectory() as folder:
        model = MODELS[spec["model"]](
            feature_map(data, spec["arguments"]["embedding_dim"]),
            gpu=-1,
            learning_rate=spec["learning_rate"],
            optimizer="adam",
            loss="binary_crossentropy",
            metrics=["AUC"],
            monitor="AUC",
            early_stop_patience=spec["epochs"] + 1,
            reduce_lr_on_plateau=False,
            model_root=folder,
            verbose=0,
            **spec["arguments"],
        )
        Path(model.checkpoint).parent.mkdir(parents=True, exist_ok=True)
        # The library clips gradients by default; the other side does not.
        model.fit(
            training,
            epochs=spec["epochs"],
            validation_data=validation,
            max_gradient_norm=float("inf"),
        )
    score = model.predict(Batches(data, "test", size))
    output = Path(spec["output"])
    partial = output.with_name(f".{output.name}")
    np.savez(
        partial,
        score=score,
        label=data["test/label"],
        user=data["test/who"][data["test/request"]],
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        versions=json.dumps({"fuxictr": fuxictr.__version__, "torch": torch.__version__}),
    )
    os.replace(partial, output)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
