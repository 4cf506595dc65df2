"""DeepCTR's DIN as a SavedModel with random weights; runs in that library's environment.

python -m benchmarks.speed.deepctr_export SIZES.json FOLDER
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# On import the library asks a server for its newest release; nothing listens there.
os.environ["HTTPS_PROXY"] = "http://127.0.0.1:9"

import json
import sys
from pathlib import Path

import tensorflow as tf
from deepctr.feature_column import SparseFeat, VarLenSparseFeat
from deepctr.models import DIN


def columns(sizes: dict) -> list:
    """The library's description of the fields: one value each, then those of behaviours.

    Attributes of behaviours that the candidate has too share its table, and are compared with it;
    the library averages the others.
    """
    found = [
        SparseFeat(name, rows, embedding_dim=sizes["width"])
        for name, rows in sizes["fields"].items()
    ]
    for name, rows in sizes["history"].items():
        table = name if name in sizes["fields"] else f"hist_{name}"
        column = SparseFeat(
            f"hist_{name}", rows, embedding_dim=sizes["width"], embedding_name=table
        )
        found.append(VarLenSparseFeat(column, sizes["length"]))
    return found


def din(sizes: dict) -> tf.keras.Model:
    """Its DIN of these sizes."""
    return DIN(
        columns(sizes),
        [name for name in sizes["history"] if name in sizes["fields"]],
        dnn_hidden_units=sizes["units"],
        dnn_activation=sizes["activation"],
        att_hidden_size=sizes["attention_units"],
        att_activation=sizes["attention_activation"],
        l2_reg_embedding=0,
    )


def main() -> None:
    """Writes the SavedModel to the folder that is given."""
    sizes = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    tf.keras.utils.set_random_seed(1)
    tf.saved_model.save(din(sizes), sys.argv[2])


if __name__ == "__main__":
    main()
