"""Two towers and their in-batch softmax, against NumPy from the equations."""

import numpy as np
import pytest

from ctr_tf.config_base import SettingError
from ctr_tf.models.in_batch_softmax import item_feature
from ctr_tf.schema import CANDIDATES_MASK, Schema
from tests.cases import batch, build, labels_of
from tests.models.embedded import Embedded, assert_logits
from tests.weights import array, layer_pair

SOFTMAX = {"kind": "in_batch_softmax"}


def network(dense, x):
    for kernel, bias in dense:
        x = np.maximum(x @ kernel + bias, 0)
    return x


def unit(dense, x):
    kernel, bias = layer_pair(dense)
    x = x @ kernel + bias
    return x / np.linalg.norm(x)


def oracle(model, features):
    """expected(b, n, task): one product of two vectors of length 1, over the temperature."""
    numpy, body = Embedded(model, features), model.body
    query_layers = [layer_pair(body.query_network.split)]
    query_layers += [layer_pair(dense) for dense in body.query_network.rest.dense]
    item_layers = [layer_pair(dense) for dense in body.item_network.dense]

    def expected(b, n, task):
        own = np.concatenate([*numpy.user(b), *numpy.pooled_history(b), *numpy.context(b)])
        query = unit(body.query_vector, network(query_layers, own))
        x = np.concatenate(numpy.candidate(b, n))
        item = unit(body.item_vector, network(item_layers, x))
        bias = array(model.heads.dense[task].bias)[0]
        return query @ item / model.config.temperature + bias

    return expected


def test_logits(rng):
    model, features = build("two_tower", "full", rng), batch("full", rng)
    assert_logits(model, features, oracle(model, features))


def test_an_item_is_its_vector_alone(rng):
    model, features = build("two_tower", "full", rng, width=7), batch("full", rng)
    own = {spec.name: features[spec.name] for spec in model.item_inputs}
    vectors = model.item_encoder(own).numpy()
    assert vectors.shape == (*features[CANDIDATES_MASK].shape, 7)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize("log_q", [False, True])
def test_losses_are_those_of_each_positive_among_the_batch(log_q, rng):
    model = build("two_tower", "full", rng, heads={**SOFTMAX, "log_q": log_q})
    if log_q:
        for weight in model.batch_loss.frequency.weights:
            weight.assign(np.zeros(weight.shape))
    features = batch("full", rng)
    labels = labels_of("full", features, rng)
    mask = features[CANDIDATES_MASK]
    positive = {task: mask & (labels[task] > 0) for task in labels}
    pooled = np.argwhere(positive["click"] | positive["buy"])
    # Every request with every item of the batch, a candidate each.
    requests, shown = len(mask), len(pooled)
    every = dict(features)
    for spec in model.item_inputs:
        own = features[spec.name][tuple(pooled.T)]
        every[spec.name] = np.broadcast_to(own, (requests, *own.shape))
    logits = {task: array(value) for task, value in model(every).items()}
    items = features["item_id"][tuple(pooled.T)]
    # In the first batch every item comes for the first time, after one batch.
    found = model.losses_of(features, labels, training=log_q)
    for task in labels:
        expected = np.zeros(mask.shape)
        for place, (b, n) in enumerate(pooled):
            if positive[task][b, n]:
                others = [j for j in range(shown) if j == place or items[j] != items[place]]
                if log_q:
                    # Each other item once, as it comes first.
                    first = {items[j]: j for j in reversed(others)}
                    others = [place, *(j for item, j in first.items() if item != items[place])]
                scores = logits[task][b]
                expected[b, n] = np.log(np.exp(scores[others]).sum()) - scores[place]
        np.testing.assert_allclose(found[task], expected, rtol=1e-4, atol=1e-4)


def test_log_q_takes_the_frequency_off_in_training_alone(rng):
    model = build("two_tower", "full", rng, heads=SOFTMAX, temperature=1.0)
    frequency = model.batch_loss.frequency
    features = batch("full", rng)
    labels = labels_of("full", features, rng)
    for weight in frequency.weights:
        weight.assign(np.zeros(weight.shape))
    # Item 1 has been in every batch so far, the others in none.
    frequency.batch.assign(99)
    for weight, value in ((frequency.last, 99), (frequency.gaps, 99), (frequency.mean_gap, 1)):
        weight.assign(np.where(np.arange(9) == 1, value, 0))
    features["item_id"] = np.where(features[CANDIDATES_MASK], 2, 0).astype("int32")
    features["item_id"][0, 0] = 1
    labels = {task: np.zeros_like(value) for task, value in labels.items()}
    labels["click"][0, 0] = labels["click"][2, 0] = 1
    trained = model.losses_of(features, labels, training=True)["click"].numpy()
    plain = model.losses_of(features, labels, training=False)["click"].numpy()
    assert frequency.batch.numpy() == 100
    # Of 1: e^s1 / (e^s1 + e^s2 / 0.01); of 2 the other way round.
    against = np.expm1([plain[0, 0], plain[2, 0]])
    np.testing.assert_allclose(trained[0, 0], np.log1p(100 * against[0]), rtol=1e-4)
    np.testing.assert_allclose(trained[2, 0], np.log1p(against[1] / 100), rtol=1e-3)


def test_no_positive_has_no_loss_and_no_gradient(rng):
    model, features = build("two_tower", "full", rng), batch("full", rng)
    labels = {t: np.zeros_like(v) for t, v in labels_of("full", features, rng).items()}
    for value in model.losses_of(features, labels, training=True).values():
        np.testing.assert_array_equal(value, 0)


@pytest.mark.parametrize("feature", [{"kind": "numeric"}, {"kind": "categorical", "multi": True}])
def test_items_are_told_apart_by_one_id(feature):
    schema = Schema(
        keys={"item": "item_id"},
        features={"item_id": feature},
        tasks={"click": {"column": "click"}},
    )
    with pytest.raises(SettingError, match="by the candidate feature of keys.item; there is none"):
        item_feature(schema)
