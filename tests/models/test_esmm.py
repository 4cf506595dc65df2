"""ESMM against its equations."""

import numpy as np
import pytest

from ctr_tf.config_base import SettingError
from ctr_tf.models.multitask import task_network
from ctr_tf.models.multitask.esmm import ESMMConfig
from tests.cases import HEADS, batch, build, labels_of
from tests.models.tasks import heads_on, towers
from tests.oracles.multitask import esmm_forward, esmm_loss, towers_forward, towers_parameters


def test_scores_are_the_products_of_the_towers(rng):
    heads, vector, _ = heads_on("esmm", rng)
    scores = heads.scores(heads(vector))
    expected = esmm_forward(vector.reshape(6, 7), *towers(heads.network))
    assert list(scores) == ["click", "buy", "buy_given_click"] == list(heads.outputs)
    for name, wanted in zip(scores, ("ctr", "ctcvr", "cvr")):
        np.testing.assert_allclose(scores[name], expected[wanted].reshape(2, 3), rtol=1e-4)


def test_tasks_in_any_order_and_others_beside_them(rng):
    heads, vector, own = heads_on("esmm", rng, ("buy", "share", "click"))
    found = heads(vector, own)
    assert list(found) == ["buy", "share", "click", "buy_given_click"]
    logits = towers_forward([vector.reshape(6, 7)] * 3, towers(heads.network))
    buy, share, click = (column.reshape(2, 3) + own for column in logits.T)
    np.testing.assert_allclose(found["share"], share, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["click"], click, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["buy_given_click"], buy, rtol=1e-4, atol=1e-5)
    joint = 1 / (1 + np.exp(-buy)) / (1 + np.exp(-click))
    np.testing.assert_allclose(heads.scores(found)["buy"], joint, rtol=1e-4)


def test_losses_are_over_every_impression(rng):
    heads, vector, _ = heads_on("esmm", rng)
    vector = 5 * vector
    outputs = heads(vector)
    a, b = towers_forward([vector.reshape(6, 7)] * 2, towers(heads.network)).T
    click, buy = np.array([[1, 1, 0], [0, 1, 0]]), np.array([[1, 0, 1], [0, 1, 0]])
    labels = {"click": click.astype("float32"), "buy": buy.astype("float32")}
    losses = heads.losses_of(outputs, labels)
    assert list(losses) == ["click", "buy"]
    for found, expected in zip(losses.values(), esmm_loss(click.ravel(), buy.ravel(), a, b)):
        np.testing.assert_allclose(found, expected.reshape(2, 3), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("a, b", [(200.0, 200.0), (-200.0, 200.0), (-150.0, -150.0), (0.0, -99.0)])
def test_extreme_logits_have_exact_losses(a, b, rng):
    network = heads_on("esmm", rng)[0].network
    logits = {"click": np.float32([[a]]), "buy": np.float32([[b]])}
    joint = float(network.outputs(logits)["buy"][0, 0])
    for label in (0.0, 1.0):
        _, expected = esmm_loss([1.0], [label], [a], [b])
        loss = np.logaddexp(0.0, joint) - label * joint
        assert loss == pytest.approx(expected[0], rel=1e-5, abs=1e-6)


def test_a_conversion_without_a_click_is_none(rng):
    model = build("dcn_v2", "full", rng, heads=HEADS["esmm"])
    features = batch("full", rng)
    labels = labels_of("full", features, rng)
    outputs = model(features)
    expected = model.heads.losses_of(outputs, {**labels, "buy": labels["buy"] * labels["click"]})
    for task, loss in model.heads.losses_of(outputs, labels).items():
        np.testing.assert_array_equal(loss, expected[task])


def test_parameter_count(rng):
    plain = build("dcn_v2", "full", rng)
    model = build("dcn_v2", "full", rng, heads=HEADS["esmm"])
    width = plain.heads.dense["click"].kernel.shape[0]
    expected = towers_parameters(width, 2, [6, 5])
    assert model.count_params() - plain.count_params() == expected - 2 * (width + 1)


@pytest.mark.parametrize(
    "given, tasks, message",
    [
        ({"click": "clik"}, ["click", "buy"], "model.heads.click: no task 'clik'; .*'click'"),
        ({}, ["click"], "model.heads.conversion: no task 'buy'; tasks: click"),
        ({"conversion": "click"}, ["click"], "heads.conversion: is the task 'click' of click too"),
        ({}, ["click", "buy", "buy_given_click"], "schema.tasks.buy_given_click: .*rename"),
    ],
)
def test_mistakes(given, tasks, message):
    with pytest.raises(SettingError, match=message):
        task_network(ESMMConfig(**given), tasks)
