"""ELECTRA against its oracle: corruption, both losses, samples, the next item."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import chisquare

from ctr_tf.config_base import SettingError
from ctr_tf.layers.sampling import sample_values
from ctr_tf.losses.softmax import NONE
from ctr_tf.models.srp4ctr.config import ElectraConfig
from ctr_tf.models.srp4ctr.electra import Electra
from ctr_tf.models.srp4ctr.transfer import SRP4CTRConfig
from ctr_tf.schema import CANDIDATES_MASK
from tests.cases import CASES, FULL, batch
from tests.models.embedded import Embedded
from tests.models.test_fg_bert import given_sample, longer, masked_batch, values_of
from tests.models.test_srp4ctr import GELU, NORMED, norm_of, one_row_each, self_block
from tests.oracles.blocks import dense
from tests.oracles.srp4ctr.cloze import (
    cloze_logits,
    sampled_softmax_cross_entropy,
    softmax_cross_entropy,
)
from tests.oracles.srp4ctr.electra import corrupt, electra_loss
from tests.oracles.srp4ctr.fg_bert import encoder_streams, fg_bert_input
from tests.oracles.transformer import gelu, layer_norm
from tests.weights import array, layer_pair, randomise

GIVEN = [{"attributes": ["item_id"]}, NORMED]


def make(rng, objective=None, **given):
    keras.utils.set_random_seed(3)
    config = SRP4CTRConfig(**{"encoder": GELU, **given})
    objective = objective or ElectraConfig(generator_width=4)
    return randomise(Electra(FULL, config, objective, CASES["full"].rows), rng)


def known_batch(rng):
    """A batch whose items all have a value of their own, and the seven values' number."""
    features = masked_batch(rng)
    features["history_item_id"] = np.minimum(features["history_item_id"], 7)
    features[CANDIDATES_MASK] = features["history_mask"]
    return features


def encoded(model, features, b, masked, encoder):
    """What an encoder of the model makes of request b, (L, width)."""
    values, mask = Embedded(model, features).behaviours("history", b)
    items = [one_row_each(values[name]) for name in model.items]
    behaviours = [one_row_each(values[name]) for name in model.behaviours]
    masks = [array(weight) for weight in model.masks.values()]
    masks = masks if behaviours else [*masks, None]
    x = fg_bert_input(items, behaviours, np.zeros((len(mask), 6)), mask, *masks, *masked)
    table = array(encoder.positions)
    ages = np.clip(np.cumsum(mask[::-1])[::-1] - 1, 0, len(table) - 1)
    x = (dense(x, *layer_pair(encoder.projection)) if encoder.projection else x) + table[ages]
    x = layer_norm(x, *norm_of(encoder.input_norm)) if encoder.input_norm else x
    return encoder_streams(x, mask, 2, [self_block(block) for block in encoder.blocks], gelu)[-1]


def generator_scores(model, features, b):
    masked = features["masked_items"][b], features["masked_behaviours"][b]
    h = encoded(model, features, b, masked, model.generator)
    head = model.generator_head
    pair = layer_pair(head.projection)
    return cloze_logits(h, pair, values_of(model, "item_id"), array(head.bias))


@pytest.mark.parametrize("given", GIVEN, ids=["ids", "all"])
def test_both_losses_are_those_of_masked_items_and_of_what_took_their_places(
    rng, monkeypatch, given
):
    model = make(rng, ElectraConfig(generator_width=4, discriminator_weight=3.0), **given)
    features = known_batch(rng)
    items, masked = features["history_item_id"], features["masked_items"]
    # Of the masked ones every second is replaced by itself, which is real.
    samples = np.zeros_like(items)
    samples[masked] = rng.integers(1, 8, masked.sum())
    samples[masked] = np.where(np.arange(masked.sum()) % 2, items[masked], samples[masked])
    monkeypatch.setattr(model, "drawn", lambda scores: tf.constant(samples[masked] - 1, tf.int32))
    losses = model.losses_of(features, {"generator": items}, training=False)
    assert list(losses) == model.tasks == ["generator", "discriminator"]

    corrupted, real = corrupt(items, masked, samples)
    assert 0 < (~real).sum() < masked.sum()
    generator, logits = np.zeros(items.shape), np.zeros(items.shape)
    replaced = {**features, "history_item_id": corrupted}
    nothing = [np.zeros(items.shape[1], bool)] * 2
    for b in range(len(items)):
        scores = generator_scores(model, features, b)
        generator[b, masked[b]] = softmax_cross_entropy(scores[masked[b]], items[b, masked[b]] - 1)
        h = encoded(model, replaced, b, nothing, model.encoder)
        logits[b] = dense(h, *layer_pair(model.discriminator_head))[:, 0]
    np.testing.assert_allclose(losses["generator"], generator, rtol=1e-4, atol=1e-5)
    expected = electra_loss(generator, masked, logits, real, features["history_mask"], 3.0)
    found = []
    for task, (counted, _) in model.masked_tasks.items():
        counts = features[counted].astype("float32")
        found.append(float(tf.reduce_sum(counts * losses[task])) / counts.sum())
    np.testing.assert_allclose(found, [expected[1], 3.0 * expected[2]], rtol=1e-4)
    assert sum(found) == pytest.approx(expected[0], rel=1e-4)


def test_samples_are_of_the_generator_s_softmax_and_can_be_drawn_again(rng):
    model, scores = make(rng, attributes=["item_id"]), np.array([0.0, 1.0, -1.0, 2.0, 0.5])
    before = model.samples.state.numpy()
    many = tf.constant(np.tile(scores, (20_000, 1)), tf.float32)
    drawn = model.drawn(many).numpy()
    expected = np.exp(scores) / np.exp(scores).sum()
    assert chisquare(np.bincount(drawn, minlength=5), 20_000 * expected).pvalue > 0.01
    assert (model.drawn(many).numpy() != drawn).any()
    # The state is saved with a model's variables.
    assert any(variable is model.samples.state for variable in model.variables)
    model.samples.state.assign(before)
    np.testing.assert_array_equal(model.drawn(many), drawn)


def test_of_many_items_loss_and_replacements_are_over_a_sample(rng, monkeypatch):
    model = make(rng, ElectraConfig(generator_width=4, sample_above=6, samples=3))
    drawn, expected_count = given_sample(rng, monkeypatch)
    features = known_batch(rng)
    items, masked = features["history_item_id"], features["masked_items"]
    places = []

    def draw(scores):
        """The label, the sample's first, second and third value in turn."""
        places.append(scores.numpy())
        return tf.range(len(scores)) % 4

    monkeypatch.setattr(model, "drawn", draw)
    discriminated, seen = model.discriminated, []

    def look(features, training=False):
        seen.append(features["history_item_id"].numpy())
        return discriminated(features, training)

    monkeypatch.setattr(model, "discriminated", look)
    losses = model.losses_of(features, {"generator": items}, training=False)
    ((corrupted,), (given,)) = seen, places
    np.testing.assert_array_equal(corrupted[~masked], items[~masked])
    for row, (b, at) in enumerate(np.argwhere(masked)):
        label, scores = items[b, at] - 1, generator_scores(model, features, b)[at]
        own = sampled_softmax_cross_entropy(scores, label, drawn, expected_count)
        assert float(losses["generator"][b, at]) == pytest.approx(own, rel=1e-4, abs=1e-5)
        among = np.array([label, *drawn])
        assert corrupted[b, at] == among[row % 4] + 1
        # What a place is drawn by: the label's score, those of the sample less log Q.
        weights = scores[among] - np.log([1.0, *expected_count[drawn]])
        weights[1:][drawn == label] = -1e9
        np.testing.assert_allclose(given[row], weights, rtol=1e-4, atol=1e-5)


def test_replacements_over_a_sample_are_those_of_the_whole_softmax(rng, monkeypatch):
    """However rare the label is: it stays as often as the generator says."""
    values, rows, label = 60, 4000, 50
    model = make(rng, ElectraConfig(sample_above=6, samples=30), attributes=["item_id"])
    scores = rng.normal(size=values).astype("float32")

    def sampled_scores(head, name, h, labels):
        drawn, of_labels, of_drawn = sample_values(labels, head.samples, values, head.seed)
        own = tf.gather(scores, drawn) - tf.math.log(of_drawn)
        own = tf.where(labels[:, None] == drawn, NONE, own)
        return tf.gather(scores, labels), tf.math.log(of_labels), own, drawn

    monkeypatch.setattr(model, "sampled_scores", sampled_scores)
    counts = np.zeros(values)
    for _ in range(50):
        _, replaced = model._generated(None, tf.fill((rows,), label))
        counts += np.bincount(replaced, minlength=values)
    expected = np.exp(scores) / np.exp(scores).sum()
    found = counts / counts.sum()
    # Less its own log Q the label would come some 1 / Q times as often.
    assert abs(found[label] - expected[label]) < 0.5 * expected[label]
    assert np.abs(found - expected).sum() < 0.25


def test_no_gradient_passes_through_the_samples(rng):
    """To what the generator alone has; embeddings are shared."""
    model, features = make(rng), known_batch(rng)
    own = [*model.generator.trainable_variables, *model.generator_head.trainable_variables]
    own = [variable.value for variable in own]
    with tf.GradientTape(persistent=True) as tape:
        losses = model.losses_of(features, {"generator": features["history_item_id"]})
    assert set(map(type, tape.gradient(losses["discriminator"], own))) == {type(None)}
    assert None not in tape.gradient(losses["generator"], own)


def test_every_weight_has_a_gradient(rng):
    model, features = make(rng, **NORMED), known_batch(rng)
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        losses = model.losses_of(features, {"generator": features["history_item_id"]})
        total = tf.add_n([tf.reduce_sum(loss) for loss in losses.values()])
    # All were made before the first step.
    assert len(model.trainable_variables) == len(variables)
    for variable, gradient in zip(variables, tape.gradient(total, [v.value for v in variables])):
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, variable.path


def test_the_next_item_is_asked_of_the_generator(rng):
    model, features = make(rng), batch("full", rng)
    found = model.next_item(features)
    for b, mask in enumerate(features["history_mask"]):
        expected = generator_scores(model, longer(features, b), 0)[mask.sum()]
        np.testing.assert_allclose(found[b], expected, atol=1e-5 * np.abs(expected).max())


def test_a_batch_without_behaviours_has_no_loss(rng):
    model, features = make(rng), known_batch(rng)
    for name in ("history_mask", "masked_items", "masked_behaviours", CANDIDATES_MASK):
        features[name] = np.zeros_like(features[name])
    losses = model.losses_of(features, {"generator": features["history_item_id"]})
    assert not losses["generator"].numpy().any()
    assert np.isfinite(losses["discriminator"]).all()


def test_the_generator_is_half_as_wide_by_default_and_its_heads_divide_it(rng):
    model = make(rng, ElectraConfig(), encoder={**GELU, "width": 12, "feed_forward": None})
    assert (model.generator.config.width, model.generator.blocks[0].inner.units) == (6, 24)
    with pytest.raises(SettingError, match=r"generator_width: .*heads, 2; got 3"):
        make(rng, ElectraConfig(generator_width=3))


def test_an_item_of_several_values_is_refused(rng):
    with pytest.raises(SettingError, match="genres: .*the item's first attribute has one value"):
        make(rng, attributes=["genres"])
