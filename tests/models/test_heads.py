"""Binary heads and their loss."""

import numpy as np
import pytest
from sklearn.metrics import log_loss

from ctr_tf.config_base import SettingError
from ctr_tf.losses.cross_entropy import binary_cross_entropy
from ctr_tf.models.heads import BinaryHeads
from ctr_tf.models.widths import check_model
from tests.cases import CASES, HEADS, small_config
from tests.weights import array, layer_pair, randomise


def test_logits_of_each_task(rng):
    heads = BinaryHeads(["click", "buy"])
    vector = rng.normal(size=(2, 3, 4)).astype("float32")
    own = rng.normal(size=(2, 3)).astype("float32")
    heads(vector)
    randomise(heads, rng)
    plain, added = heads(vector), heads(vector, own)
    assert list(plain) == ["click", "buy"]
    for task in plain:
        kernel, bias = layer_pair(heads.dense[task])
        expected = (vector @ kernel + bias)[..., 0]
        np.testing.assert_allclose(plain[task], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(added[task], expected + own, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            heads.scores(plain)[task], 1 / (1 + np.exp(-expected)), rtol=1e-4
        )


def test_a_body_that_makes_its_logit_itself_gets_a_bias(rng):
    heads = BinaryHeads(["click", "buy"], logit_alone=True)
    own = rng.normal(size=(2, 3)).astype("float32")
    heads(None, own)
    randomise(heads, rng)
    assert heads.count_params() == 2
    for task, logits in heads(None, own).items():
        np.testing.assert_allclose(logits, own + array(heads.dense[task].bias), rtol=1e-5)


def test_a_body_with_a_logit_alone_has_no_multi_task_network():
    config = small_config("fm", heads=HEADS["mmoe"])
    with pytest.raises(SettingError, match="fm has a logit alone, which 'mmoe' cannot read"):
        check_model(CASES["full"].schema, config)


def test_loss_is_scikit_learns_log_loss(rng):
    logits = rng.normal(0, 3, 200)
    labels = rng.integers(0, 2, 200).astype("float64")
    loss = binary_cross_entropy(labels, logits).numpy()
    expected = log_loss(labels, 1 / (1 + np.exp(-logits)))
    assert loss.mean() == pytest.approx(expected, rel=1e-6)
    heads = BinaryHeads(["click"])
    of_heads = heads.losses_of({"click": logits}, {"click": labels})["click"]
    np.testing.assert_array_equal(of_heads, loss)


def test_loss_of_extreme_logits():
    labels, logits = np.array([1.0, 0.0, 1.0, 0.0]), np.array([500.0, -500.0, -500.0, 500.0])
    np.testing.assert_allclose(binary_cross_entropy(labels, logits), [0, 0, 500, 500], atol=1e-12)
