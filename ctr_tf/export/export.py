"""Export of a model to a SavedModel that TF Serving answers from."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import tensorflow as tf

from ctr_tf.export.changes import Changes, check_changes, measure_changes
from ctr_tf.export.config import ExportConfig
from ctr_tf.export.item_encoder import PARTS_FILE
from ctr_tf.export.precision import served_model
from ctr_tf.export.self_check import compare, reload_and_score, score_in_process
from ctr_tf.export.signatures import STATE_PREFIX, Signatures
from ctr_tf.export.sizes import sizes_by_part
from ctr_tf.export.table import PRECISION_FILE
from ctr_tf.export.tables import check_tables, write_tables
from ctr_tf.export.versions import new_version, prune
from ctr_tf.export.warmup import WARMUP_FILE, requests_of_every_size, write_warmup
from ctr_tf.models.model import CTRModel
from ctr_tf.schema import Schema

EXTRA = "assets.extra"
SCHEMA_FILE = "schema.json"
STATE_FILE = "state.json"


def export(
    model: CTRModel,
    preprocessor: tf.Module,
    folder: Path,
    config: ExportConfig,
    requests: list[dict[str, np.ndarray]],
    extra_files: dict[str, Path] | None = None,
    version: int | None = None,
    labelled: tf.data.Dataset | None = None,
) -> Path:
    """Writes `folder/<version>/`, which appears once a reload of it scores as the model does.

    In lower precision (`tables` and `dense` of the config) that is a model of its own, whose
    metrics are compared with those of the trained one first; the latter stays as it is.

    The version folder holds the SavedModel (see `Signatures`), vocabularies in `assets/`, and in
    `assets.extra/` the warm-up requests, `schema.json`, `state.json` (the user state's shapes and
    what it depends on), `tables.json` (where each embedding table lies; see `ExportedTables`),
    `precision.json` (the bytes of each part, and what lower precision changes) and `extra_files`.

    Args:
        model: a trained model.
        preprocessor: what makes the model's features of raw ones; its vocabularies are copied.
        folder: the model's folder; its name is the name the model is served by.
        config: see `ExportConfig`.
        requests: real raw requests, by input name with axes as `Schema.inputs` says, for the
            self-check and the warm-up.
        extra_files: name in `assets.extra/` to the file copied there.
        version: a positive integer; one more than the newest by default.
        labelled: batches of `Input.evaluation` that lower precision is measured on.

    Returns:
        The version's folder.

    Raises:
        ValueError: no request, a request that lacks an input or has an unknown one, a version that
            exists, or lower precision without labelled batches.
        ExportError: the reloaded model could not be scored, or its scores or tables differ; lower
            precision changes more than `config.changes` allows, or cannot hold a value.
    """
    folder = Path(folder)
    version = new_version(folder, version)
    _check_requests(model.schema, requests)
    if labelled is None and not config.as_trained:
        raise ValueError("labelled must hold the batches that lower precision is measured on")
    served, changes = served_model(model, config), {}
    if served is not model:
        changes = measure_changes(model, served, labelled)
        check_changes(changes, config.changes)
    tolerance = config.tolerance or (1e-5 if served.compute_dtype == "float32" else 0.02)
    signatures = Signatures(
        served, preprocessor, config.dense, config.item_encoder, config.candidate_parts
    )
    checked = requests[: config.check_requests]
    expected = [score_in_process(served, preprocessor, request) for request in checked]
    folder.mkdir(parents=True, exist_ok=True)
    hidden = folder / f".writing-{version}-{os.getpid()}"
    try:
        signatures.save(hidden)
        extra = hidden / EXTRA
        extra.mkdir()
        (extra / SCHEMA_FILE).write_text(model.schema.to_json(), encoding="utf-8")
        (extra / STATE_FILE).write_text(json.dumps(_state(served), indent=2), encoding="utf-8")
        write_tables(hidden, served)
        if config.item_encoder:
            parts = [asdict(part) for part in served.item_encoding.parts]
            (extra / PARTS_FILE).write_text(json.dumps(parts, indent=2), encoding="utf-8")
        for name, path in (extra_files or {}).items():
            shutil.copyfile(path, extra / name)
        real = requests[: config.warmup_requests]
        warmup = requests_of_every_size(model.schema, real, config.warmup_candidates)
        write_warmup(extra / WARMUP_FILE, signatures, warmup, folder.resolve().name)
        compare(expected, reload_and_score(hidden, model.schema, checked), tolerance)
        check_tables(hidden, model)
        _write_precision(hidden, config, changes)
        hidden.rename(folder / str(version))
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    prune(folder, config.keep_versions, spare=version)
    return folder / str(version)


def _write_precision(folder: Path, config: ExportConfig, changes: Changes) -> None:
    """What the export is stored in, its bytes but for this file, and what that changes."""
    found = {
        "tables": config.tables,
        "dense": config.dense,
        "bytes": sizes_by_part(folder),
        "changes": changes,
    }
    (folder / PRECISION_FILE).write_text(json.dumps(found, indent=2), encoding="utf-8")


def _check_requests(schema: Schema, requests: list[dict[str, np.ndarray]]) -> None:
    if not requests:
        raise ValueError("requests must hold at least one request for the self-check, got none")
    names = [spec.name for spec in schema.inputs]
    for index, request in enumerate(requests):
        for what, found in (
            ("lacks", [n for n in names if n not in request]),
            ("has the unknown", [n for n in request if n not in names]),
        ):
            if found:
                raise ValueError(f"requests[{index}] {what} input {found[0]!r}")


def _state(model: CTRModel) -> dict:
    """What a store of user states must know."""
    return {
        "state": {
            name: {"input": STATE_PREFIX + name, "shape": shape, "dtype": dtype}
            for name, (shape, dtype) in model.state_spec().items()
        },
        "user_inputs": [spec.name for spec in model.user_inputs],
        "user_context": list(model.config.user_context),
        "tasks": list(model.schema.tasks),
    }
