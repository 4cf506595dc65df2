"""What a server's scores are held against: a SavedModel in this process, or predictions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from ctr_tf.data.raw_inputs import Arrays
from ctr_tf.evaluation.prediction_schema import check_shards, task_names
from ctr_tf.schema import CANDIDATES_MASK, Schema
from ctr_tf.startup import start_tensorflow
from serving.parity.logged import Logged


class Reference(Protocol):
    """Offline scores of requests."""

    def scores(self, requests: Sequence[Logged]) -> list[Arrays]:
        """Probabilities (B, N) by task of each request."""


class ModelReference:
    """Scores of a version's SavedModel.

    Args:
        folder: the version, as `ctr-tf export` writes it.

    Attributes:
        schema: of the model.
        version: its number; None where the folder is not named by one.

    Raises:
        FileNotFoundError: the folder has no `assets.extra/schema.json`.
        OSError: there is no SavedModel.
    """

    def __init__(self, folder: Path):
        start_tensorflow()
        from serving.model import SavedModel

        self.folder = folder
        self.version = int(folder.name) if folder.name.isdecimal() else None
        text = (folder / "assets.extra" / "schema.json").read_text(encoding="utf-8")
        self.schema = Schema.from_json(text)
        self._model = SavedModel(folder)

    def scores(self, requests: Sequence[Logged]) -> list[Arrays]:
        """See `Reference`.

        Raises:
            ValueError: a request has other inputs than the model's signature.
        """
        return [self._scores(request) for request in requests]

    def _scores(self, request: Logged) -> Arrays:
        wanted = self._model.rules.get(request.signature, {})
        differing = sorted(set(wanted) ^ set(request.inputs))
        if differing:
            raise ValueError(
                f"{request.place}: input {differing[0]!r} is not in both the request and "
                f"{request.signature} of {self.folder}; is it a log of another schema?"
            )
        return self._model.run(request.signature, request.inputs)


class PredictionReference:
    """Scores that `ctr-tf predict` wrote.

    Args:
        folder: of the Parquet shards.

    Raises:
        FileNotFoundError: there is no shard, or one is missing.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        paths = sorted(map(str, folder.glob("*.parquet")))
        check_shards(paths)
        self._shards = ds.dataset(paths, format="parquet")
        self._tasks = task_names(self._shards.schema)

    def scores(self, requests: Sequence[Logged]) -> list[Arrays]:
        """See `Reference`; the shards are read once for all the requests.

        Raises:
            ValueError: a request has no id, or its rows are not those of its candidates.
        """
        for request in requests:
            if request.request is None:
                raise ValueError(
                    f"{request.place}: a request log holds no request ids, by which {self.folder} "
                    "is looked up; give a version's folder as the reference"
                )
        columns = ["request_id", "user_id", *(f"score.{task}" for task in self._tasks)]
        ids = pa.array({request.request for request in requests})
        table = self._shards.to_table(columns, filter=pc.field("request_id").isin(ids))
        rows: dict[tuple[str, str | None], list[int]] = defaultdict(list)
        # Logs may count their request ids anew for each user.
        keys = zip(table["request_id"].to_pylist(), table["user_id"].to_pylist())
        for row, key in enumerate(keys):
            rows[key].append(row)
        scores = {task: table[f"score.{task}"].to_numpy() for task in self._tasks}
        found = []
        for request in requests:
            own = rows[request.request, request.user]
            count = request.inputs[CANDIDATES_MASK].size
            if len(own) != count:
                raise ValueError(
                    f"{request.place}: {count} candidates, but {len(own)} rows of request "
                    f"{request.request!r}, user {request.user!r} in {self.folder}; it must hold "
                    "the predictions of this split"
                )
            found.append({task: values[own][np.newaxis] for task, values in scores.items()})
        return found


def open_reference(folder: Path) -> ModelReference | PredictionReference:
    """The offline side of a folder: a version's SavedModel, or predictions.

    Raises:
        FileNotFoundError: the folder holds neither.
    """
    is_version = (folder / "saved_model.pb").exists()
    return ModelReference(folder) if is_version else PredictionReference(folder)
