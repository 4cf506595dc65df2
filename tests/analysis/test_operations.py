"""What each op costs, by hand, and that none goes uncounted."""

import pytest
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from ctr_tf.analysis.operations import (
    BY_INPUT,
    BY_OUTPUT,
    FREE,
    PRODUCTS,
    SOFTMAX,
    Flops,
    counted,
)

TABLES = [PRODUCTS, BY_OUTPUT, BY_INPUT, SOFTMAX, FREE]
A, B, C = tf.ones((2, 3)), tf.ones((3, 4)), tf.eye(3)
VARIABLE = tf.Variable(C)
BATCH = tf.ones((5, 2, 3))
FLOPS = {
    "product": (lambda: A @ B, Flops(2 * 2 * 3 * 4)),
    "raw product": (lambda: tf.raw_ops.MatMul(a=A, b=B), Flops(2 * 2 * 3 * 4)),
    "product of a variable": (lambda: A @ VARIABLE, Flops(2 * 2 * 3 * 3)),
    "transposed": (lambda: tf.matmul(A, tf.ones((2, 4)), transpose_a=True), Flops(2 * 3 * 2 * 4)),
    "batch": (lambda: BATCH @ tf.ones((5, 3, 4)), Flops(5 * 2 * 2 * 3 * 4)),
    "shared batch": (lambda: BATCH @ B, Flops(5 * 2 * 2 * 3 * 4)),
    "batch transposed": (
        lambda: tf.matmul(BATCH, tf.ones((5, 2, 4)), transpose_a=True),
        Flops(5 * 2 * 3 * 2 * 4),
    ),
    "tensordot": (lambda: tf.tensordot(BATCH, B, 1), Flops(5 * 2 * 2 * 3 * 4)),
    "einsum": (lambda: tf.einsum("bij,bjk->bik", BATCH, tf.ones((5, 3, 4))), Flops(240)),
    "einsum of any lead": (lambda: tf.einsum("...j,jk->...k", BATCH, B), Flops(240)),
    # Two products, in whatever order.
    "einsum of three": (lambda: tf.einsum("ij,jk,kl->il", C, C, C), Flops(2 * 2 * 3**3)),
    # The columns of B are summed first.
    "einsum with a sum": (lambda: tf.einsum("ij,jk->i", A, B), Flops(2 * 2 * 3, 3 * 4)),
    "einsum of one": (lambda: tf.einsum("ij->i", A), Flops(0, 2 * 3)),
    "transposition by einsum": (lambda: tf.einsum("ij->ji", A), Flops()),
    "outer product": (lambda: tf.einsum("bi,bj->bij", A, A), Flops(0, 2 * 3 * 3)),
    "broadcast": (lambda: BATCH * A, Flops(0, 5 * 2 * 3)),
    "function": (lambda: tf.math.tanh(A), Flops(0, 2 * 3)),
    # x / 2 times erfc(-x / sqrt(2)): three products, a sign, a function.
    "gelu": (lambda: tf.nn.gelu(A), Flops(0, 5 * 2 * 3)),
    "comparison": (lambda: A > 0.0, Flops(0, 2 * 3)),
    "reduction": (lambda: tf.reduce_sum(A, axis=1), Flops(0, 2 * 3)),
    "segments": (lambda: tf.math.segment_sum(B, [0, 0, 1]), Flops(0, 3 * 4)),
    "softmax": (lambda: tf.nn.softmax(A), Flops(0, 5 * 2 * 3)),
    "integers": (lambda: tf.range(4) * 3 + tf.reduce_sum(tf.range(5)), Flops()),
    "moves": (lambda: tf.gather(tf.transpose(tf.concat([A, A], 0)), [0, 1]), Flops()),
    "loop": (
        lambda: tf.while_loop(lambda i, x: i < 5, lambda i, x: (i + 1, x + 1.0), (0, A)),
        Flops(0, 5 * 2 * 3),
    ),
    "branch": (lambda: tf.cond(tf.constant(False), lambda: A @ B, lambda: A), Flops()),
    "function of a graph": (lambda: tf.function(lambda: A @ B, jit_compile=True)(), Flops(48)),
}


@pytest.mark.parametrize("name", FLOPS)
def test_cost_of_an_op(name):
    function, expected = FLOPS[name]
    assert counted(function)[1] == expected


def test_a_custom_gradient_costs_its_forward():
    @tf.custom_gradient
    def doubled(x):
        return 2.0 * x, lambda upstream: upstream @ tf.ones((3, 3))

    assert counted(lambda: doubled(A))[1] == Flops(0, 2 * 3)


TRACED = tf.function(lambda: A @ B).get_concrete_function()
UNKNOWN = {
    "MatrixInverse": lambda: tf.linalg.inv(C),
    "Conv2D": lambda: tf.nn.conv2d(tf.ones((1, 4, 4, 1)), tf.ones((2, 2, 1, 1)), 1, "SAME"),
    "__inference": TRACED,
    "EagerPyFunc": lambda: tf.py_function(lambda x: x @ B, [A], tf.float32),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_op_without_a_cost_is_an_error_that_names_it(name):
    with pytest.raises(ValueError, match=rf"no cost is known of the op '{name}.*operations\.py"):
        counted(UNKNOWN[name])
    # Nothing is left behind: the same call runs, and counting goes on.
    UNKNOWN[name]()
    assert not tf.config.functions_run_eagerly()
    assert counted(lambda: A @ B)[1] == Flops(48)


def test_within_a_graph_nothing_is_counted():
    with pytest.raises(ValueError, match="not within a graph"):
        tf.function(lambda: counted(lambda: A @ B)[0])()


def test_every_named_op_is_one_of_tensorflow_and_in_one_table():
    named = [name for table in TABLES for name in table]
    assert [name for name in named if op_def_registry.get(name) is None] == []
    assert len(named) == len(set(named))
