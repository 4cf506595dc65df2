"""Tables in checkpoints: by name, in chunks, whatever variables they lie in."""

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.layers import EmbeddingTables, TableSpec
from ctr_tf.models.interaction.dcn_v2 import DCNV2Config
from ctr_tf.models.model import CTRModel
from ctr_tf.optimizers.build import build_optimizer, grouped
from ctr_tf.training import table_files
from ctr_tf.training.checkpoints import restore
from ctr_tf.training.config import TrainConfig
from ctr_tf.training.table_files import TableFiles
from ctr_tf.training.train import train
from tests.training.memory_input import ITEMS, SCHEMA, MemoryInput
from tests.weights import randomise

SPECS = [TableSpec("item", 7, 4), TableSpec("wide", 5, 6), TableSpec("city", 3, 4)]


def slots_of(tables, rng):
    """An accumulator an element and one a row, lying as the tables do."""
    return {
        "full": [tf.Variable(rng.normal(size=w.shape), dtype=tf.float32) for w in tables.weights],
        "rows": [tf.Variable(rng.normal(size=w.shape[:1]), dtype=tf.float32)
                 for w in tables.weights],
    }  # fmt: skip


class Slot:
    """A `tf.Variable` under the face of a Keras one."""

    def __init__(self, value):
        self.value, self.shape, self.dtype = value, value.shape, value.dtype.name


@pytest.mark.parametrize("chunk", [1, 40, 2**26])
@pytest.mark.parametrize("layouts", [(None, None), (None, 4), (4, 1), (3, None)])
def test_another_layout_reads_what_one_wrote(rng, tmp_path, monkeypatch, chunk, layouts):
    monkeypatch.setattr(table_files, "CHUNK_BYTES", chunk)
    made = []
    for layout in layouts:
        tables = randomise(EmbeddingTables(SPECS, layout), rng)
        slots = {n: [Slot(v) for v in own] for n, own in slots_of(tables, rng).items()}
        made.append((tables, slots, TableFiles(tables, slots)))
    (before, old_slots, written), (after, new_slots, read) = made
    written.write(f"{tmp_path}/t")
    assert all(path.name.startswith(("t.index", "t.data-")) for path in tmp_path.iterdir())
    shapes = dict(tf.train.list_variables(f"{tmp_path}/t"))
    assert shapes == written.described() == read.described()
    assert shapes["item"] == [7, 4] and shapes["wide/full"] == [5, 6] and shapes["city/rows"] == [3]
    read.read(f"{tmp_path}/t")
    for spec in SPECS:
        for old, new in ((None, None), *((old_slots[n], new_slots[n]) for n in old_slots)):
            np.testing.assert_array_equal(
                after.read(spec.name, 0, spec.rows, new), before.read(spec.name, 0, spec.rows, old)
            )


def test_a_value_that_is_not_finite_leaves_no_file(rng, tmp_path):
    tables = randomise(EmbeddingTables(SPECS), rng)
    tables.write("city", 1, np.full((1, 4), np.inf, "float32"))
    with pytest.raises(FloatingPointError, match="weight city is not finite"):
        TableFiles(tables, {}).write(f"{tmp_path}/t")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("optimizer", ["adam", "row_wise_adagrad", "ftrl", "sgd"])
def test_a_run_goes_on_with_another_layout(tmp_path, optimizer):
    def run(folder, epochs, shard_rows):
        config = DCNV2Config(
            embedding={"width": 4, "shard_rows": shard_rows}, units=[8], cross_layers=1
        )
        models = []
        train(
            lambda: models.append(CTRModel(SCHEMA, config, {"item_id": ITEMS})) or models[0],
            MemoryInput(24, 8),
            TrainConfig(epochs=epochs, learning_rate=0.05, tables={"name": optimizer}, keep=1),
            folder,
            progress=False,
        )
        return models[0]

    whole = run(tmp_path / "whole", 2, None)
    run(tmp_path / "cut", 1, None)
    found = run(tmp_path / "cut", 2, 9)
    assert len(found.embedder.tables.weights) == 5 and len(whole.embedder.tables.weights) == 1
    np.testing.assert_array_equal(
        found.embedder.tables.table("item_id"), whole.embedder.tables.table("item_id")
    )
    np.testing.assert_array_equal(found.heads.weights[0], whole.heads.weights[0])
    last = {path.name.split(".")[0] for path in (tmp_path / "cut/checkpoints/last").iterdir()}
    assert last == {"checkpoint", "ckpt-2"}
    # The best of them goes into a model of yet another layout.
    config = DCNV2Config(embedding={"width": 4, "shard_rows": 2}, units=[8], cross_layers=1)
    other = CTRModel(SCHEMA, config, {"item_id": ITEMS})
    restore(other, tmp_path / "whole", "last")
    np.testing.assert_array_equal(
        other.embedder.tables.table("item_id"), whole.embedder.tables.table("item_id")
    )


@pytest.mark.parametrize(
    "name, rows, slots",
    [
        ("adam", "touched", 2), ("adam", "all", 2), ("adagrad", "touched", 1),
        ("adagrad", "all", 1), ("row_wise_adagrad", "touched", 1), ("ftrl", "touched", 2),
        ("ftrl", "all", 2), ("sgd", "touched", 0), ("sgd", "all", 0), ("adamw", "all", 2),
    ],
)  # fmt: skip
def test_slots_of_the_tables_are_found_and_lie_as_they_do(name, rows, slots):
    config = DCNV2Config(embedding={"width": 4, "shard_rows": 9}, units=[8], cross_layers=1)
    model = CTRModel(SCHEMA, config, {"item_id": ITEMS})
    tables = model.embedder.tables.weights
    configs = TrainConfig(tables={"name": name, "rows": rows}).optimizers(1)
    found = grouped(build_optimizer(model, configs)).table_slots(tables)
    assert list(found) == [f"slot_{i}" for i in range(slots)]
    for own in found.values():
        assert [v.shape[0] for v in own] == [v.shape[0] for v in tables] == [8] * 5
        assert all(v.path.rsplit("_", 1)[-1] == own[0].path.rsplit("_", 1)[-1] for v in own)
