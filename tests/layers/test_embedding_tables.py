"""EmbeddingTables: stacking, row values, sparse gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.layers import EmbeddingTables, TableSpec
from ctr_tf.layers.embedding.config import EmbeddingConfig
from tests.weights import randomise

SPECS = [TableSpec("item", 7, 4), TableSpec("wide", 5, 6), TableSpec("city", 3, 4)]


def test_tables_of_one_width_share_a_variable(rng):
    tables = randomise(EmbeddingTables(SPECS), rng)
    assert [tuple(stack.shape) for stack in tables.weights] == [(10, 4), (5, 6)]
    assert [stack.name for stack in tables.weights] == ["stack_0", "stack_1"]
    np.testing.assert_array_equal(tables.table("item"), tables.weights[0].numpy()[:7])
    np.testing.assert_array_equal(tables.table("city"), tables.weights[0].numpy()[7:])
    np.testing.assert_array_equal(tables.table("wide"), tables.weights[1].numpy())


def test_what_separates_stacks():
    same = {"rows": 2, "width": 4}
    specs = [
        TableSpec("a", **same),
        TableSpec("b", **same),
        TableSpec("c", **same, initializer="uniform"),
        TableSpec("d", **same, scale=0.5),
        TableSpec("e", **same, l2=0.1),
        TableSpec("f", **same, dtype="bfloat16"),
        TableSpec("g", rows=2, width=5),
    ]
    tables = EmbeddingTables(specs)
    places = [(0, 0), (0, 2), (0, 4), (0, 6), (1, 0), (2, 0), (3, 0)]
    assert [tables.place[name] for name in "abcdefg"] == places


def test_lookup_reads_each_tables_rows(rng):
    tables = randomise(EmbeddingTables(SPECS), rng)
    requests = [
        ("city", rng.integers(0, 3, (2,))),
        ("wide", rng.integers(0, 5, (2, 3))),
        ("item", rng.integers(0, 7, (2, 3, 2))),
        ("item", rng.integers(0, 7, (0, 4))),
    ]
    found = tables.lookup([(name, tf.constant(index, tf.int32)) for name, index in requests])
    for (name, index), rows in zip(requests, found):
        np.testing.assert_array_equal(rows, tables.table(name)[index])


def test_gradient_is_of_the_touched_rows_alone(rng):
    tables = randomise(EmbeddingTables(SPECS[::2]), rng)
    item, city = np.array([[1, 5], [1, 1]]), np.array([2, 0])
    upstream = rng.normal(size=(2, 2, 4)), rng.normal(size=(2, 4))
    with tf.GradientTape() as tape:
        rows = tables.lookup([("item", tf.constant(item)), ("city", tf.constant(city))])
        loss = sum(tf.reduce_sum(row * up) for row, up in zip(rows, upstream))
    gradient = tape.gradient(loss, tables.weights[0].value)
    assert isinstance(gradient, tf.IndexedSlices)
    assert sorted(set(gradient.indices.numpy())) == [1, 5, 7, 9]
    expected = np.zeros((10, 4))
    np.add.at(expected, item, upstream[0])
    np.add.at(expected, 7 + city, upstream[1])
    np.testing.assert_allclose(tf.convert_to_tensor(gradient), expected, rtol=1e-5, atol=1e-6)


LAYOUTS = [None, 4, 1]


@pytest.mark.parametrize("shard_rows", LAYOUTS)
def test_shards_hold_the_same_tables(rng, shard_rows):
    tables = EmbeddingTables(SPECS, shard_rows)
    shapes = {
        None: [(10, 4), (5, 6)],
        4: [(4, 4), (4, 4), (2, 4), (3, 6), (2, 6)],
        1: [(1, 4)] * 10 + [(1, 6)] * 5,
    }
    assert [tuple(weight.shape) for weight in tables.weights] == shapes[shard_rows]
    values = {spec.name: rng.normal(size=(spec.rows, spec.width)) for spec in SPECS}
    for name, value in values.items():
        tables.write(name, 0, value)
        np.testing.assert_allclose(tables.table(name), value, rtol=1e-6)
        np.testing.assert_allclose(tables.read(name, 1, 2), value[1:3], rtol=1e-6)
    index = rng.integers(0, 3, (2, 5))
    upstream = rng.normal(size=(3, 2, 5, 4)).astype("float32")
    with tf.GradientTape() as tape:
        requests = [(name, tf.constant(index, tf.int32)) for name in ("item", "city", "wide")]
        item, city, wide = tables.lookup(requests)
        loss = tf.reduce_sum(item * upstream[0]) + tf.reduce_sum(city * upstream[1])
    np.testing.assert_allclose(item, values["item"][index], rtol=1e-6)
    np.testing.assert_allclose(city, values["city"][index], rtol=1e-6)
    np.testing.assert_allclose(wide, values["wide"][index], rtol=1e-6)
    of_first = [weight for weight in tables.weights if weight.shape[-1] == 4]
    found = tape.gradient(loss, [weight.value for weight in of_first])
    assert all(isinstance(gradient, tf.IndexedSlices) for gradient in found)
    expected = np.zeros((10, 4))
    np.add.at(expected, index, upstream[0])
    np.add.at(expected, 7 + index, upstream[1])
    dense = np.concatenate([tf.convert_to_tensor(gradient) for gradient in found])
    np.testing.assert_allclose(dense, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("saved", LAYOUTS)
@pytest.mark.parametrize("loaded", LAYOUTS)
def test_saved_tables_go_by_name_whatever_the_layout(rng, saved, loaded):
    before, after = randomise(EmbeddingTables(SPECS, saved), rng), EmbeddingTables(SPECS, loaded)
    store = {}
    before.save_own_variables(store)
    assert list(store) == ["item", "wide", "city"]
    after.load_own_variables(store)
    for spec in SPECS:
        np.testing.assert_array_equal(after.table(spec.name), before.table(spec.name))


def test_initial_values_do_not_depend_on_the_layout():
    specs = [TableSpec("a", 70_000, 2), TableSpec("b", 9, 2, "uniform")]
    found = []
    for shard_rows in (None, 1000):
        keras.utils.set_random_seed(4)
        tables = EmbeddingTables(specs, shard_rows)
        found.append([tables.table(spec.name) for spec in specs])
    for one, other in zip(*found):
        np.testing.assert_array_equal(one, other)
    # Chunks of the initialisation differ.
    assert not np.array_equal(found[0][0][:4464], found[0][0][65536:])


def test_initialisers_and_regularisers():
    keras.utils.set_random_seed(0)
    tables = EmbeddingTables(
        [
            TableSpec("normal", 5000, 4, scale=0.5),
            TableSpec("uniform", 5000, 4, "uniform", 0.5, l2=0.25),
            TableSpec("zeros", 3, 4, "zeros"),
        ]
    )
    normal, uniform = tables.table("normal"), tables.table("uniform")
    assert normal.std() == pytest.approx(0.5, rel=0.05)
    assert abs(normal).max() > 1.0
    assert 0.49 < abs(uniform).max() <= 0.5
    np.testing.assert_array_equal(tables.table("zeros"), np.zeros((3, 4)))
    # The training step adds the norm of the rows that it touches.
    assert tables.losses == [] and tables.l2 == {tables.weights[1].path: 0.25}


def test_compute_dtype_is_cast_after_the_gather():
    tables = EmbeddingTables([TableSpec("item", 3, 4)], dtype="mixed_float16")
    (rows,) = tables.lookup([("item", tf.constant([1]))])
    assert rows.dtype == tf.float16
    assert tables.table("item").dtype == np.float32


def test_errors():
    with pytest.raises(ValueError, match=r"unique: \['item', 'item'\]"):
        EmbeddingTables([TableSpec("item", 3, 4), TableSpec("item", 3, 4)])
    with pytest.raises(ValueError, match="'item' must have rows, got 0"):
        EmbeddingTables([TableSpec("item", 0, 4)])


def test_config_fills_defaults():
    config = EmbeddingConfig(width=8, l2=0.5, tables={"item": {"width": 3, "scale": 0.0}})
    item = config.table("item")
    assert (item.width, item.initializer, item.scale, item.l2) == (3, "normal", 0.0, 0.5)
    assert config.table("city").width == 8
