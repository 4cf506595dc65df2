import keras
import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError

from ctr_tf.optimizers.build import keras_optimizer
from ctr_tf.optimizers.config import OptimizerConfig, TableOptimizerConfig
from ctr_tf.optimizers.groups import Group, GroupedOptimizer
from ctr_tf.optimizers.schedule import WarmupPolynomial


def test_warmup_and_quadratic_decay():
    schedule = WarmupPolynomial(0.4, 4, 10, end_learning_rate=0.1, power=2.0)
    found = [float(schedule(step)) for step in (0, 1, 3, 4, 9, 14, 99)]
    expected = [0.1, 0.2, 0.4, 0.4, 0.1 + 0.3 * 0.5**2, 0.1, 0.1]
    assert found == pytest.approx(expected, abs=1e-7)


def test_a_schedule_survives_serialisation():
    schedule = WarmupPolynomial(0.4, 4, 10, 0.1, 2.0)
    optimizer = keras.optimizers.SGD(schedule)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
    assert float(again.learning_rate) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"weight_decay": 0.1}, "weight_decay: only adamw has it, not adam"),
        ({"decay_steps": 5}, "set decay: polynomial"),
        ({"name": "sgd", "epsilon": 1e-8}, "epsilon: sgd has none"),
    ],
)
def test_settings_that_would_do_nothing_are_errors(values, message):
    with pytest.raises(ValidationError, match=message):
        OptimizerConfig(**values)


@pytest.mark.parametrize("name", ["adam", "adamw", "adagrad", "ftrl", "sgd"])
def test_every_optimiser_descends(name):
    optimizer = keras_optimizer(OptimizerConfig(name=name).resolved(0.1, 1), "dense")
    variable = keras.Variable([1.0, -1.0])
    optimizer.apply([tf.constant([2.0, 0.0])], [variable])
    assert variable.numpy()[0] < 1.0
    if name != "ftrl":  # Ftrl forgets the initial value of a weight without gradients.
        assert variable.numpy()[1] == -1.0


@pytest.mark.parametrize("kind", [OptimizerConfig, TableOptimizerConfig])
def test_epsilon_halves_the_step_where_it_is_the_root_of_the_second_moment(kind):
    """r sqrt(1 - b2) g / (sqrt(1 - b2) g + epsilon) of a first gradient, g = 1, b2 = 0.999."""
    steps = []
    for epsilon in (None, 0.001**0.5):
        optimizer = keras_optimizer(kind(epsilon=epsilon).resolved(0.1, 1), "tables")
        variable = keras.Variable([[0.0]])
        optimizer.build([variable])
        gradient = tf.IndexedSlices(tf.ones((1, 1)), tf.constant([0]), tf.constant([1, 1]))
        optimizer.apply([gradient], [variable])
        steps.append(variable.numpy().item())
    assert steps == pytest.approx([-0.1, -0.05], rel=1e-4)


def test_each_group_is_clipped_by_its_own_norm():
    a, b, c = (keras.Variable([0.0, 0.0], name=name) for name in "abc")
    groups = [
        Group("dense", [a, b], keras.optimizers.SGD(1.0), clip_norm=1.0),
        Group("tables", [c], keras.optimizers.SGD(0.1)),
    ]
    optimizer = GroupedOptimizer(groups)
    optimizer.build([a, b, c])
    gradients = [[3.0, 0.0], [0.0, 4.0], [50.0, 0.0]]
    # Given in another order than the groups': gradients follow their variables.
    optimizer.apply([tf.constant(gradients[i]) for i in (2, 0, 1)], [c, a, b])
    np.testing.assert_allclose(a.numpy(), [-0.6, 0.0], atol=1e-6)
    np.testing.assert_allclose(b.numpy(), [0.0, -0.8], atol=1e-6)
    np.testing.assert_allclose(c.numpy(), [-5.0, 0.0], atol=1e-5)
    assert int(optimizer.iterations) == 1


def test_loss_scaling_wraps_all_groups_and_skips_overflows():
    a, b = keras.Variable([1.0]), keras.Variable([1.0])
    groups = [
        Group("dense", [a], keras.optimizers.SGD(1.0), clip_norm=1.0),
        Group("tables", [b], keras.optimizers.SGD(1.0)),
    ]
    optimizer = keras.optimizers.LossScaleOptimizer(GroupedOptimizer(groups), initial_scale=8.0)
    optimizer.build([a, b])
    optimizer.apply([tf.constant([16.0]), tf.constant([4.0])], [a, b])
    # Unscaled gradients are 2, clipped to 1, and 0.5.
    assert (float(a.numpy()[0]), float(b.numpy()[0])) == (0.0, 0.5)
    optimizer.apply([tf.constant([float("inf")]), tf.constant([4.0])], [a, b])
    assert (float(a.numpy()[0]), float(b.numpy()[0])) == (0.0, 0.5)
    assert float(optimizer.dynamic_scale.numpy()) == 4.0


def test_a_rate_set_by_a_callback_moves_all_groups():
    a, b = keras.Variable([0.0], name="a"), keras.Variable([0.0], name="b")
    optimizer = GroupedOptimizer(
        [
            Group("dense", [a], keras.optimizers.SGD(0.1)),
            Group("tables", [b], keras.optimizers.SGD(0.5)),
        ]
    )
    optimizer.learning_rate = 0.0
    optimizer.learning_rate = 0.02
    assert optimizer.learning_rates() == pytest.approx({"dense": 0.02, "tables": 0.1})
