"""FG-BERT against the oracles of section 2.1, masked attribute by masked attribute."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.models.srp4ctr.config import FGBertConfig
from ctr_tf.models.srp4ctr.fg_bert import FGBert
from ctr_tf.models.srp4ctr.transfer import SRP4CTRConfig
from tests.cases import CASES, FULL, batch
from tests.models.embedded import Embedded
from tests.models.test_srp4ctr import GELU, NORMED, norm_of, one_row_each, self_block
from tests.oracles.srp4ctr.cloze import (
    cloze_logits,
    multi_label_cross_entropy,
    sampled_softmax_cross_entropy,
    softmax_cross_entropy,
)
from tests.oracles.srp4ctr.fg_bert import encoder_streams, fg_bert_input
from tests.oracles.transformer import gelu
from tests.weights import array, layer_pair, randomise

ROWS = CASES["full"].rows


def make(rng, objective=None, schema=FULL, **given):
    keras.utils.set_random_seed(3)
    config = SRP4CTRConfig(**{"encoder": GELU, **given})
    return randomise(FGBert(schema, config, objective or FGBertConfig(), ROWS), rng)


def masked_batch(rng):
    features = batch("full", rng)
    mask = features["history_mask"]
    for kind in ("masked_items", "masked_behaviours"):
        features[kind] = mask & (rng.random(mask.shape) < 0.5)
    return features


def rows_of(model, features, b):
    """The encoder's input of request b, (L, W), and its mask."""
    numpy = Embedded(model, features)
    values, mask = numpy.behaviours("history", b)
    items = [one_row_each(values[name]) for name in model.items]
    behaviours = [one_row_each(values[name]) for name in model.behaviours]
    table = array(model.encoder.positions)
    ages = np.clip(np.cumsum(mask[::-1])[::-1] - 1, 0, len(table) - 1)
    masks = [array(weight) for weight in model.masks.values()]
    masks = masks if behaviours else [*masks, None]
    norm = model.encoder.input_norm
    norm = norm_of(norm) if norm else None
    masked = features["masked_items"][b], features["masked_behaviours"][b]
    x = fg_bert_input(items, behaviours, table[ages], mask, *masks, *masked, norm)
    return x, mask


def encoded(model, features, b):
    x, mask = rows_of(model, features, b)
    blocks = [self_block(block) for block in model.encoder.blocks]
    return encoder_streams(x, mask, 2, blocks, gelu)[-1]


def values_of(model, name):
    """The table of an attribute's values, without padding and unknown."""
    table = model.embedder.tables.table(model.schema.encoder(name, "history"))
    return table[1 : 1 + model.values[name]]


def logits(model, features, b, name):
    head = model.heads[name]
    pair = layer_pair(head.projection)
    return cloze_logits(encoded(model, features, b), pair, values_of(model, name), array(head.bias))


def longer(features, b):
    """Request b with one behaviour more, masked in both ways."""
    found = {
        name: np.pad(value[b : b + 1], [(0, 0), (0, 1)] + [(0, 0)] * (value.ndim - 2))
        for name, value in features.items()
        if name.startswith("history_")
    }
    mask = features["history_mask"][b]
    places = np.arange(len(mask) + 1)
    asked = (places == mask.sum())[None]
    found["history_mask"] = (places <= mask.sum())[None]
    return {**features, **found, "masked_items": asked, "masked_behaviours": asked}


@pytest.mark.parametrize(
    "given",
    [{}, NORMED, {"attributes": ["item_id"]}],
    ids=["plain", "norm", "bert4rec"],
)
def test_losses_are_those_of_each_masked_attribute(rng, given):
    model, features = make(rng, **given), masked_batch(rng)
    labels = {name: features[f"history_{name}"] for name in model.tasks}
    losses = model.losses_of(features, labels, training=False)
    assert list(losses) == [*model.items, *model.behaviours]
    seen = 0
    for name, found in losses.items():
        kind = "masked_items" if name in model.items else "masked_behaviours"
        found = found.numpy()
        for b, at in np.ndindex(found.shape):
            label = labels[name][b, at]
            if not features[kind][b, at]:
                assert found[b, at] == 0
                continue
            scores = logits(model, features, b, name)[at]
            if name == "genres":
                own = [value - 1 for value in label if 0 < value <= model.values[name]]
                expected = multi_label_cross_entropy(scores[None], [own])[0]
            elif label <= model.values[name]:
                expected = softmax_cross_entropy(scores[None], [label - 1])[0]
            else:
                continue
            seen += 1
            np.testing.assert_allclose(found[b, at], expected, atol=1e-5 * max(1, expected))
    assert seen >= 4


def test_one_item_attribute_alone_is_bert4rec(rng):
    model = make(rng, attributes=["item_id"])
    assert model.tasks == ["item_id"] and model.behaviours == []
    assert set(model.embedder.tables.specs) == {"item_id"}
    assert list(model.masks) == ["masked_items"]


def given_sample(rng, monkeypatch):
    """Has the sampler draw three of seven values; these, and how often each value is drawn."""
    drawn, expected_count = np.array([4, 0, 2]), rng.uniform(0.1, 0.9, 7).astype("float32")

    def sample(labels, samples, values, seed, ranked):
        assert (samples, values, ranked) == (3, 7, True)
        expected = [tf.gather(expected_count, own) for own in (labels, drawn)]
        return tf.constant(drawn, labels.dtype), *expected

    monkeypatch.setattr("ctr_tf.models.srp4ctr.cloze.sample_values", sample)
    return drawn, expected_count


def test_a_sampled_softmax_tells_the_label_from_the_sample(rng, monkeypatch):
    """Of values by their rank, with the sampler's own expectations."""
    model = make(rng, FGBertConfig(sample_above=6, samples=3))
    assert model.values == {"item_id": 7, "rating": 4, "genres": 5}
    drawn, expected_count = given_sample(rng, monkeypatch)
    features = masked_batch(rng)
    labels = {name: np.minimum(features[f"history_{name}"], 7) for name in model.tasks}
    found = model.losses_of(features, labels, training=False)["item_id"]
    for b, at in np.argwhere(features["masked_items"]):
        scores = logits(model, features, b, "item_id")[at]
        label = labels["item_id"][b, at] - 1
        expected = sampled_softmax_cross_entropy(scores, label, drawn, expected_count)
        np.testing.assert_allclose(found[b, at], expected, atol=1e-5 * max(1, abs(expected)))


def test_the_next_item_is_asked_for_by_one_behaviour_more(rng):
    model, features = make(rng), batch("full", rng)
    found = model.next_item(features)
    for b, mask in enumerate(features["history_mask"]):
        expected = logits(model, longer(features, b), 0, "item_id")[mask.sum()]
        np.testing.assert_allclose(found[b], expected, atol=1e-5 * np.abs(expected).max())


def test_a_full_history_leaves_its_oldest_behaviour_out_for_the_next_item(rng):
    """Training has no window of more behaviours, and so nothing at the position before."""
    history = FULL.sequences["history"].model_copy(update={"max_length": 5})
    model = make(rng, schema=FULL.model_copy(update={"sequences": {"history": history}}))
    features = batch("full", rng)
    found = model.next_item(features)
    for b, mask in enumerate(features["history_mask"]):
        asked = longer(features, b)
        asked["history_mask"][0, 0] &= mask.sum() < 5
        expected = logits(model, asked, 0, "item_id")[mask.sum()]
        np.testing.assert_allclose(found[b], expected, atol=1e-5 * np.abs(expected).max())


def test_every_weight_has_a_gradient(rng):
    model, features = make(rng, **NORMED), masked_batch(rng)
    labels = {name: features[f"history_{name}"] for name in model.tasks}
    with tf.GradientTape() as tape:
        losses = model.losses_of(features, labels, training=True)
        total = tf.add_n([tf.reduce_sum(loss) for loss in losses.values()])
    variables = model.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(total, [v.value for v in variables])):
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, variable.path


def test_items_are_needed():
    config = SRP4CTRConfig(encoder=GELU, attributes=["rating"])
    with pytest.raises(
        ValueError, match=r"history.attributes: .*'rating'.* no attribute of the candidate's"
    ):
        FGBert(FULL, config, FGBertConfig(), ROWS)
