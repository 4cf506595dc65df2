"""Optimisers of touched rows: against Keras' dense forms, and row by row in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.layers import EmbeddingTables, TableSpec
from ctr_tf.optimizers.build import keras_optimizer
from ctr_tf.optimizers.config import TableOptimizerConfig
from ctr_tf.optimizers.lazy_adam import LazyAdam
from ctr_tf.optimizers.rounding import stochastic_round
from ctr_tf.optimizers.schedule import WarmupPolynomial
from ctr_tf.optimizers.sparse_adagrad import RowWiseAdagrad, SparseAdagrad
from ctr_tf.optimizers.sparse_ftrl import SparseFtrl
from ctr_tf.optimizers.sparse_sgd import SparseSGD

DENSE = {
    "adam": (LazyAdam, keras.optimizers.Adam, {}),
    "adamw": (lambda **k: LazyAdam(decay=0.1, **k), keras.optimizers.AdamW, {"weight_decay": 0.1}),
    "adagrad": (SparseAdagrad, keras.optimizers.Adagrad, {}),
    "ftrl": (lambda **k: SparseFtrl(l1=0.01, l2=0.02, beta=0.1, **k), keras.optimizers.Ftrl,
             {"l1_regularization_strength": 0.01, "l2_regularization_strength": 0.02, "beta": 0.1}),
    "sgd": (SparseSGD, keras.optimizers.SGD, {}),
}  # fmt: skip


def schedule():
    return WarmupPolynomial(0.3, warmup_steps=2, decay_steps=6, end_learning_rate=0.05)


@pytest.mark.parametrize("name", DENSE)
def test_equal_to_the_dense_form_where_every_row_is_touched(name, rng):
    sparse, dense, own = DENSE[name]
    start = rng.normal(size=(5, 3)).astype("float32")
    table, reference = keras.Variable(start), keras.Variable(start)
    optimizers = sparse(learning_rate=schedule()), dense(learning_rate=schedule(), **own)
    for _ in range(6):
        gradient = rng.normal(size=(5, 3)).astype("float32")
        order = rng.permutation(5)
        # Each row in two parts, in any order.
        values = np.concatenate([0.25 * gradient[order], 0.75 * gradient])
        rows = np.concatenate([order, np.arange(5)])
        optimizers[0].apply([tf.IndexedSlices(values, rows)], [table])
        optimizers[1].apply([tf.constant(gradient)], [reference])
        np.testing.assert_allclose(table, reference, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["adam", "sgd", "adagrad"])
def test_a_dense_gradient_touches_every_row(name, rng):
    sparse, dense, own = DENSE[name]
    start, gradient = rng.normal(size=(2, 4, 3)).astype("float32")
    table, reference = keras.Variable(start), keras.Variable(start)
    sparse(learning_rate=0.1).apply([tf.constant(gradient)], [table])
    dense(learning_rate=0.1, **own).apply([tf.constant(gradient)], [reference])
    np.testing.assert_allclose(table, reference, rtol=1e-5)


def adam_row(w, g, slots, t, rate):
    m = 0.9 * slots.get("m", 0) + 0.1 * g
    v = 0.999 * slots.get("v", 0) + 0.001 * g**2
    rate = rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    return w - rate * m / (np.sqrt(v) + 1e-7), {"m": m, "v": v}


def adagrad_row(w, g, slots, t, rate):
    a = slots.get("a", 0.1) + g**2
    return w - rate * g / np.sqrt(a + 1e-7), {"a": a}


def row_wise_row(w, g, slots, t, rate):
    a = slots.get("a", 0.0) + np.mean(g**2)
    return w - rate * g / (np.sqrt(a) + 1e-8), {"a": a}


def ftrl_row(w, g, slots, t, rate):
    n = slots.get("n", 0.1) + g**2
    z = slots.get("z", 0.0) + g - (np.sqrt(n) - np.sqrt(slots.get("n", 0.1))) / rate * w
    new = -(np.sign(z) * np.maximum(np.abs(z) - 0.02, 0)) / ((0.5 + np.sqrt(n)) / rate + 2 * 0.01)
    return new, {"n": n, "z": z}


ORACLES = {
    "adam": (LazyAdam, adam_row),
    "adagrad": (SparseAdagrad, adagrad_row),
    "row_wise_adagrad": (RowWiseAdagrad, row_wise_row),
    "ftrl": (lambda **k: SparseFtrl(l1=0.02, l2=0.01, beta=0.5, **k), ftrl_row),
    "sgd": (SparseSGD, lambda w, g, slots, t, rate: (w - rate * g, {})),
}


@pytest.mark.parametrize("name", ORACLES)
def test_touched_rows_follow_the_oracle_and_others_do_not_change(name, rng):
    make, oracle = ORACLES[name]
    start = rng.normal(size=(8, 3)).astype("float32")
    table, optimizer = keras.Variable(start), make(learning_rate=0.2)
    expected, slots = start.astype("float64"), [{} for _ in range(8)]
    for t, rows in enumerate([[1, 1, 6], [2, 6, 1, 6], [3], [6, 2, 2]], start=1):
        values = rng.normal(size=(len(rows), 3)).astype("float32")
        optimizer.apply([tf.IndexedSlices(values, rows)], [table])
        for row in sorted(set(rows)):
            g = values[np.array(rows) == row].sum(axis=0).astype("float64")
            expected[row], slots[row] = oracle(expected[row], g, slots[row], t, 0.2)
        np.testing.assert_allclose(table, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(table.numpy()[[0, 4, 5, 7]], start[[0, 4, 5, 7]])
    for slot in optimizer.slots_of(table).values():
        assert len(np.unique(slot.numpy()[[0, 4, 5, 7]])) == 1
    if name == "row_wise_adagrad":
        assert optimizer.slots_of(table)["accumulator"].shape == (8,)


@pytest.mark.parametrize(
    "clip, expected",
    [
        # Row 0 has 3 + 1 = 4 and row 1 has 3: a norm of 5.
        ({"global_clipnorm": 1.0}, [-0.8, -0.6]),
        ({"clipnorm": 2.5}, [-2.0, -1.5]),
        ({"clipvalue": 3.5}, [-3.5, -3.0]),
    ],
)
def test_clipping_sees_repeated_rows_summed(clip, expected):
    table = keras.Variable([[0.0], [0.0]])
    gradient = tf.IndexedSlices([[3.0], [3.0], [1.0]], [0, 1, 0])
    SparseSGD(1.0, **clip).apply([gradient], [table])
    np.testing.assert_allclose(table.numpy()[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize("make", [make for make, _ in ORACLES.values()])
def test_configuration_and_state_survive_saving(make, rng, tmp_path):
    def touch(optimizer, table, rows):
        values = np.full((len(rows), 2), 0.5, "float32")
        optimizer.apply([tf.IndexedSlices(values, rows)], [table])

    table, optimizer = keras.Variable(np.ones((4, 2), "float32")), make(learning_rate=schedule())
    touch(optimizer, table, [1, 2, 1])
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
    copy = keras.Variable(table.numpy())
    again.build([copy])
    store = {}
    optimizer.save_own_variables(store)
    again.load_own_variables(store)
    for each, its in ((optimizer, table), (again, copy)):
        touch(each, its, [2, 3])
    np.testing.assert_array_equal(copy, table)


def test_loss_scaling_wraps_it_and_skips_overflows():
    table = keras.Variable([[1.0], [1.0]])
    optimizer = keras.optimizers.LossScaleOptimizer(SparseSGD(1.0), initial_scale=8.0)
    optimizer.apply([tf.IndexedSlices([[4.0]], [1], [2, 1])], [table])
    assert table.numpy().tolist() == [[1.0], [0.5]]
    optimizer.apply([tf.IndexedSlices([[float("inf")]], [0], [2, 1])], [table])
    assert table.numpy().tolist() == [[1.0], [0.5]]


@pytest.mark.parametrize(
    "option",
    [
        {"weight_decay": 0.1},
        {"use_ema": True},
        {"gradient_accumulation_steps": 2},
        {"loss_scale_factor": 2.0},
    ],
)
def test_options_that_would_read_whole_tables_are_errors(option):
    with pytest.raises(ValueError, match=f"{next(iter(option))}: not for an optimiser of touched"):
        LazyAdam(**option)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_tables_keep_float32_state_and_lose_nothing_on_average(dtype):
    tables = EmbeddingTables([TableSpec("item", 2000, 4, "zeros", dtype=dtype)])
    (table,) = tables.weights
    table.assign(tf.ones(table.shape))
    adam, optimizer = LazyAdam(1e-3), SparseSGD(1e-4)
    adam.build([table])
    assert {slot.dtype for slot in adam.slots_of(table).values()} == {"float32"}
    for _ in range(20):
        with tf.GradientTape() as tape:
            (rows,) = tables.lookup([("item", tf.range(1000))])
            loss = tf.reduce_sum(rows)
        optimizer.apply(tape.gradient(loss, [table.value]), [table])
    values = tf.cast(table.value, tf.float32).numpy()
    np.testing.assert_array_equal(values[1000:], np.ones((1000, 4)))
    # 20 steps of 1e-4, half a place of bfloat16 in all: rounded to nearest, nothing would move.
    # Of 4,000 values about half moved by a place, so that the mean is known to some 2 %.
    assert 1 - values[:1000].mean() == pytest.approx(0.002, rel=0.08)


def test_gradients_of_half_precision_tables_are_float32():
    tables = EmbeddingTables([TableSpec("item", 3, 1, dtype="float16")])
    with tf.GradientTape() as tape:
        (rows,) = tables.lookup([("item", tf.constant([2, 2]))])
        # 1e-9 is 0 in float16.
        loss = 1e-9 * tf.reduce_sum(rows)
    (gradient,) = tape.gradient(loss, [tables.weights[0].value])
    assert rows.dtype == gradient.dtype == tf.float32
    np.testing.assert_allclose(gradient.values, [[1e-9], [1e-9]], rtol=1e-6)
    assert gradient.indices.numpy().tolist() == [2, 2]


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_rounding_is_up_or_down_by_the_distance(dtype, rng):
    x = tf.constant(rng.uniform(-2, 2, 200), tf.float32)
    many = tf.repeat(x[None], 4000, axis=0)
    rounded = tf.cast(stochastic_round(many, dtype, tf.constant([3, 4])), tf.float32).numpy()
    place = np.abs(x) * (2.0**-7 if dtype == tf.bfloat16 else 2.0**-10)
    assert (np.abs(rounded - x) <= place).all()
    assert (np.abs(rounded.mean(axis=0) - x) < 0.05 * place + 1e-9).all()
    exact = tf.constant([1.0, -0.5, 0.0, 96.0])
    np.testing.assert_array_equal(
        tf.cast(stochastic_round(exact, dtype, tf.constant([3, 4])), tf.float32), exact
    )


@pytest.mark.parametrize("name", ["adam", "adamw", "adagrad", "row_wise_adagrad", "ftrl", "sgd"])
def test_every_configured_optimiser_touches_the_rows_it_is_told(name):
    config = TableOptimizerConfig(name=name).resolved(0.1, 1)
    optimizer = keras_optimizer(config, "tables")
    table = keras.Variable(np.ones((3, 2), "float32"))
    optimizer.apply([tf.IndexedSlices(np.ones((1, 2), "float32"), [1])], [table])
    np.testing.assert_array_equal(table.numpy()[[0, 2]], np.ones((2, 2)))
    assert (table.numpy()[1] < 1).all() and optimizer.distinct
