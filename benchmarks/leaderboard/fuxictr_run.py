"""Trains one model of FuxiCTR on converted rows and scores rows of the splits asked for.

Runs in the environment of the peer library; the stack is not imported here.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import fuxictr
import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.torch_utils import seed_everything
from fuxictr_models import build
from scores import save

from benchmarks.training import machine


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

    Attributes:
        seconds: from asking for each batch to asking for the next, of all passes.
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
        self.seconds: list[float] = []

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[tuple[dict, dict, torch.Tensor]]:
        rows = np.arange(self.rows) if self.order is None else self.order.permutation(self.rows)
        for start in range(0, self.batches * self.size, self.size):
            asked = time.perf_counter()
            yield self._batch(rows[start : start + self.size])
            self.seconds.append(time.perf_counter() - asked)

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
        # As numbers, of which the library makes either lengths or factors.
        return fields, items, torch.from_numpy((history > 0).astype(np.int64))


def feature_map(data: dict[str, np.ndarray], width: int) -> FeatureMap:
    """The library's description of the fields, and which of them behaviours alone have."""
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
        specs[name] = spec | {"padding_idx": 0, "behaviour": values is None}
    found.features = specs
    found.num_fields = found.get_num_fields()
    return found


def main(spec: dict) -> None:
    """Trains and scores.

    The file that it writes is that of `scores.save`, with facts: `parameters`; `epochs_run`;
    `samples_per_second` of the median step, the cutting of its batch included.

    Args:
        spec: `rows`, a converted file; `output`, the file to write; `splits` to score, as those of
            `task`; `model` and its `arguments`; `batch_size`, `learning_rate`, `seed`, `epochs`;
            `max_steps`, of one epoch in place of all; `validate_every`, steps between validations
            in place of epochs, what follows the last of them being lost; `patience`, validations
            without a rise of the AUC before training stops. The last three may be null.
    """
    with np.load(spec["rows"]) as file:
        data = {name: file[name] for name in file.files}
    size, seed, most = spec["batch_size"], spec["seed"], spec["max_steps"]
    training = Batches(data, "train", size, seed, most)
    # The library keeps no checkpoint before the first validation.
    validate_every = min(spec["validate_every"] or len(training), len(training))
    seed_everything(seed)
    with tempfile.TemporaryDirectory() as folder:
        model = build(
            spec["model"],
            feature_map(data, spec["arguments"]["embedding_dim"]),
            spec["arguments"],
            gpu=-1,
            learning_rate=spec["learning_rate"],
            optimizer="adam",
            loss="binary_crossentropy",
            metrics=["AUC"],
            monitor="AUC",
            eval_steps=validate_every,
            early_stop_patience=spec["patience"] or sys.maxsize,
            reduce_lr_on_plateau=False,
            model_root=folder,
            verbose=0,
        )
        Path(model.checkpoint).parent.mkdir(parents=True, exist_ok=True)
        # The library clips gradients by default; the other side does not.
        model.fit(
            training,
            epochs=1 if most else spec["epochs"],
            validation_data=Batches(data, "validation", size),
            max_gradient_norm=float("inf"),
        )
    arrays, task = {}, spec["task"]
    for split in spec["splits"]:
        arrays[f"{split}/{task}/score"] = model.predict(Batches(data, split, size))
        arrays[f"{split}/{task}/label"] = data[f"{split}/label"]
        arrays[f"{split}/{task}/user"] = data[f"{split}/who"][data[f"{split}/request"]]
    facts = {
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "epochs_run": model._epoch_index + 1,
        # Validation is part of few steps, so not of the median one.
        "samples_per_second": size / float(np.median(training.seconds)),
        "versions": {"fuxictr": fuxictr.__version__, "torch": torch.__version__},
        "machine": machine(),
    }
    save(Path(spec["output"]), arrays, facts)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
