"""Asks a running server for one user's best unseen items, and checks folding on the way.

Run it with `python -m serving.score --model NAME --data PREPARED_FOLDER --target HOST:PORT`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from rich.console import Console
from rich.table import Table

from ctr_tf.data.manifest import SCHEMA
from ctr_tf.data.raw_inputs import request_inputs
from ctr_tf.schema import Schema
from serving.catalogue import Question, unseen_items
from serving.client import Client


def ask(client: Any, schema: Schema, question: Question) -> tuple[np.ndarray, float]:
    """The first task's scores (N,) of the question's items, and the seconds of the call."""
    start = time.perf_counter()
    scores = client.score(question.values)
    return scores[next(iter(schema.tasks))], time.perf_counter() - start


def ask_by_row(client: Any, schema: Schema, question: Question) -> tuple[np.ndarray, float]:
    """The same scores from one call with the user side tiled to N requests of one candidate."""
    inputs = request_inputs(schema, question.values)
    count = len(question.items)
    specs = {spec.name: spec for spec in schema.inputs}
    rows = {
        name: np.swapaxes(value, 0, 1)
        if specs[name].side == "candidate"
        else np.repeat(value, count, axis=0)
        for name, value in inputs.items()
    }
    start = time.perf_counter()
    found = client.predict(None, rows)[next(iter(schema.tasks))]
    return found[:, 0], time.perf_counter() - start


def show(console: Console, question: Question, scores: np.ndarray, top: int) -> None:
    """Prints the best items beside what the user liked last."""
    best = np.argsort(-scores, kind="stable")[:top]
    table = Table(title=f"user {question.user}: the best {top} of {len(scores)} unseen items")
    for column in ("score", "item", "liked recently"):
        table.add_column(column, justify="right" if column == "score" else "left")
    for place, index in enumerate(best):
        liked = question.liked[place] if place < len(question.liked) else ""
        table.add_row(f"{scores[index]:.4f}", question.items[index], liked)
    console.print(table)


def compare(
    console: Console, client: Any, schema: Schema, question: Question, top: int
) -> np.ndarray:
    """Asks folded and by row, prints both and the largest difference; returns the scores."""
    for way in (ask, ask_by_row):
        way(client, schema, question)  # A first call of a shape is slower.
    folded, seconds = ask(client, schema, question)
    rows, row_seconds = ask_by_row(client, schema, question)
    show(console, question, folded, top)
    difference = float(np.abs(folded - rows).max())
    console.print(
        f"{len(folded)} candidates: one folded call {seconds * 1e3:.1f} ms, the user side tiled "
        f"to {len(folded)} rows {row_seconds * 1e3:.1f} ms; "
        f"largest difference of scores {difference:.1e}"
    )
    if difference > 1e-5:
        raise RuntimeError(f"folded and row-wise scores differ by {difference}")
    return folded


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; 0 when the server answered."""
    parser = argparse.ArgumentParser(prog="serving.score", description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, type=Path, help="prepared data")
    parser.add_argument("--target", default="127.0.0.1:8500")
    parser.add_argument("--user")
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--top", type=int, default=10)
    given = parser.parse_args(arguments)
    for option in ("candidates", "top"):
        if getattr(given, option) < 1:
            parser.error(f"--{option}: must be at least 1, got {getattr(given, option)}")
    try:
        schema = Schema.from_json((given.data / SCHEMA).read_text(encoding="utf-8"))
        question = unseen_items(given.data, schema, given.user, given.candidates)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with Client(given.target, given.model, schema) as client:
        try:
            client.wait(timeout=5)
            compare(Console(), client, schema, question, given.top)
        except grpc.FutureTimeoutError:
            print(f"error: no server at {given.target}", file=sys.stderr)
            return 1
        except grpc.RpcError as error:
            print(f"error: {error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
