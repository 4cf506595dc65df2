"""S3-Rec against its oracle: four losses, their proportion, negatives and segments."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import chisquare

from ctr_tf.layers.packing import Packing
from ctr_tf.models.srp4ctr.config import S3RecConfig
from ctr_tf.models.srp4ctr.s3_rec import S3Rec
from ctr_tf.models.srp4ctr.transfer import SRP4CTRConfig
from ctr_tf.schema import CANDIDATES_MASK
from tests.cases import CASES, FULL, batch
from tests.models.test_electra import encoded, known_batch
from tests.models.test_fg_bert import longer, values_of
from tests.models.test_srp4ctr import GELU, NORMED
from tests.oracles.srp4ctr.s3_rec import (
    WEIGHTS,
    attribute_loss,
    pairwise,
    s3_rec_loss,
    scores,
    segment_inputs,
)
from tests.weights import layer_pair, randomise

IDS = {"attributes": ["item_id"]}
TASKS = ["aap", "mip", "map", "sp"]


def make(rng, objective=None, **given):
    keras.utils.set_random_seed(3)
    config = SRP4CTRConfig(**{"encoder": GELU, **IDS, **given})
    model = S3Rec(FULL, config, objective or S3RecConfig(), CASES["full"].rows)
    return randomise(model, rng)


def f(model, task, x, e):
    """The oracle's scores of one row."""
    return scores(x, layer_pair(model.projections[task]), np.atleast_2d(e))


def own_encoder(model, features, b, masked):
    nothing = np.zeros_like(masked)
    return encoded(model, features, b, (masked, nothing), model.encoder)


def of_items(model, features, b, row):
    """What the encoder makes of request b with other items, -1 where one is masked."""
    items = features["history_item_id"].copy()
    items[b, : len(row)] = row
    return own_encoder(model, {**features, "history_item_id": items}, b, items[b] == -1)


def test_losses_are_the_oracle_s_in_the_code_s_proportion(rng, monkeypatch):
    """With given negatives and segments."""
    model, features = make(rng, **NORMED), known_batch(rng)
    items, mask, masked = (
        features[name] for name in ("history_item_id", "history_mask", "masked_items")
    )
    lengths, row = mask.sum(axis=1), items[mask]
    negatives = rng.integers(1, 8, items.shape).astype("int32")
    size = np.array([1 + b % max(1, n // 2) for b, n in enumerate(lengths)])
    start = np.array([max(0, n - s) // 2 for n, s in zip(lengths, size)])
    other = rng.integers(0, len(row) - size.max() + 1, len(items))
    offset = np.arange(items.shape[1]) - start[:, None]
    inside = (offset >= 0) & (offset < size[:, None])
    source = np.where(inside, other[:, None] + offset, 0).astype("int32")
    monkeypatch.setattr(model, "negatives", lambda own: (negatives, np.ones((len(own), 1), bool)))
    monkeypatch.setattr(model, "segments", lambda packing: (inside[mask], source[mask]))
    losses = {task: loss.numpy() for task, loss in model.losses_of(features, {}, False).items()}
    assert list(losses) == model.tasks == TASKS

    item_table, genre_table = values_of(model, "item_id"), values_of(model, "genres")
    expected = {task: np.zeros(items.shape) for task in TASKS}
    for b, at in np.argwhere(mask):
        h = own_encoder(model, features, b, masked[b])[at]
        genres = [g - 1 for g in features["history_genres"][b, at] if 0 < g <= 5]
        task = "map" if masked[b, at] else "aap"
        logits = scores(h, layer_pair(model.projections[task]), genre_table, None)
        # Of an item without a known genre nothing is said.
        expected[task][b, at] = attribute_loss(logits, genres) if genres else 0.0
        if masked[b, at]:
            pair = item_table[[items[b, at] - 1, negatives[b, at] - 1]]
            expected["mip"][b, at] = pairwise(*f(model, "mip", h, pair))
    for b, length in enumerate(lengths):
        if length < 2:
            continue
        taken = row[other[b] : other[b] + size[b]]
        parts = segment_inputs(items[b, :length].tolist(), start[b], taken.tolist(), -1)
        context, own, negative = (of_items(model, features, b, part)[length - 1] for part in parts)
        pair = f(model, "sp", context, [own, negative])
        expected["sp"][b, length - 1] = pairwise(*pair)
    for task, weight in zip(TASKS, WEIGHTS):
        assert expected[task].any()
        np.testing.assert_allclose(losses[task], weight * expected[task], rtol=1e-4, atol=1e-5)
    # What the training step makes of them: the code's sum, over the number of behaviours.
    total = 0.0
    for task, (counted, attribute) in model.masked_tasks.items():
        counts = features[counted]
        assert attribute is None
        total += (counts * losses[task]).sum() / counts.sum()
    sums = [expected[task].sum() for task in TASKS]
    assert total == pytest.approx(s3_rec_loss(*sums) / mask.sum(), rel=1e-4)


def test_negatives_are_of_what_the_window_has_not_each_as_likely(rng):
    model = make(rng)
    items = np.tile([3, 7, 3, 0, 1], (8_000, 1)).astype("int32")
    found, there = model.negatives(items)
    assert there.numpy().all()
    # Of seven items 2, 4, 5 and 6 are left.
    counts = np.bincount(found.numpy().ravel(), minlength=8)
    assert counts[[0, 1, 3, 7]].tolist() == [0, 0, 0, 0]
    assert chisquare(counts[[2, 4, 5, 6]]).pvalue > 0.01
    every = np.arange(1, 8, dtype="int32")[None]
    found, there = model.negatives(every)
    assert not there.numpy().any() and found.numpy().max() <= 7


def test_a_window_with_all_items_has_no_masked_item_s_loss(rng):
    """There is no negative; one of it is missing and the loss is there."""
    model, features = make(rng), known_batch(rng)
    for name in ("history_mask", "masked_items", CANDIDATES_MASK):
        features[name] = np.ones((1, 7), bool)
    features["masked_behaviours"] = np.zeros((1, 7), bool)
    features["history_item_id"] = np.arange(1, 8, dtype="int32")[None]
    features["history_genres"] = np.ones((1, 7, 1), "int32")
    assert not model.losses_of(features, {})["mip"].numpy().any()
    features["history_item_id"][0, 0] = 2
    assert model.losses_of(features, {})["mip"].numpy().all()


def test_segments_are_of_one_to_half_a_window_and_others_from_anywhere(rng):
    model, lengths = make(rng), np.array([6, 1, 0, 3, 6] * 800)
    mask = np.arange(6) < lengths[:, None]
    packing = Packing.of(tf.constant(mask))
    inside, source = (np.array(packing.unpack(x)) for x in model.segments(packing))
    size, start = inside.sum(axis=1), inside.argmax(axis=1)
    long = lengths == 6
    assert set(size[lengths == 3]) == {1}
    # 1, 2 and 3 as often, and of each size all starts.
    assert chisquare(np.bincount(size[long], minlength=4)[1:]).pvalue > 0.01
    for own in (1, 2, 3):
        assert chisquare(np.bincount(start[long & (size == own)], minlength=7 - own)).pvalue > 0.01
    total = mask.sum()
    for b in np.flatnonzero(lengths > 1):
        assert (np.diff(np.flatnonzero(inside[b])) == 1).all() and not inside[b][~mask[b]].any()
        assert (np.diff(source[b][inside[b]]) == 1).all() and source[b].max() < total
        assert not source[b][~inside[b]].any()
    first = source[lengths > 1][np.arange((lengths > 1).sum()), start[lengths > 1]]
    assert chisquare(np.bincount(first * 8 // total, minlength=8)).pvalue > 0.01


def test_draws_follow_from_a_state_that_is_saved(rng):
    model, features = make(rng), known_batch(rng)
    before = model.seed.state.numpy()
    losses = [sum(loss.numpy().sum() for loss in model.losses_of(features, {}).values())]
    model.seed.state.assign(before)
    for _ in range(2):
        losses.append(sum(loss.numpy().sum() for loss in model.losses_of(features, {}).values()))
    assert losses[0] == losses[1] != losses[2]
    assert any(variable is model.seed.state for variable in model.variables)


def test_every_weight_has_a_gradient(rng):
    model, features = make(rng, **NORMED), known_batch(rng)
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        total = tf.add_n([tf.reduce_sum(loss) for loss in model.losses_of(features, {}).values()])
    # All were made before the first step.
    assert len(model.trainable_variables) == len(variables)
    for variable, gradient in zip(variables, tape.gradient(total, [v.value for v in variables])):
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0, variable.path


def test_the_next_item_is_ranked_by_the_scores_of_masked_items(rng):
    model, features = make(rng), batch("full", rng)
    found = model.next_item(features)
    for b, mask in enumerate(features["history_mask"]):
        asked = longer(features, b)
        h = own_encoder(model, asked, 0, asked["masked_items"][0])[mask.sum()]
        pair = layer_pair(model.projections["mip"])
        expected = scores(h, pair, values_of(model, "item_id"), None)
        np.testing.assert_allclose(found[b], expected, atol=1e-5 * np.abs(expected).max())


def test_weights_are_given_and_tables_of_attributes_are_as_wide_as_the_encoder(rng):
    given = S3RecConfig(aap_weight=2.0, mip_weight=3.0, map_weight=4.0, sp_weight=5.0)
    features = known_batch(rng)
    found = []
    for objective in (given, S3RecConfig()):
        model = make(np.random.default_rng(1), objective)
        losses = model.losses_of(features, {}, False)
        found.append([float(tf.reduce_sum(loss)) for loss in losses.values()])
    np.testing.assert_allclose(np.divide(*found), [10.0, 3.0, 4.0, 10.0], rtol=1e-5)
    specs = model.embedder.tables.specs
    assert {name: spec.width for name, spec in specs.items()} == {"item_id": 6, "genres": 6}
    with pytest.raises(ValueError, match=r"tables.genres.width: .*encoder's, 6; got 3"):
        make(rng, embedding={"tables": {"genres": {"width": 3}}})


def test_items_without_other_attributes_are_refused(rng):
    own = FULL.sequences["history"]
    kept = {name: spec for name, spec in own.attributes.items() if name != "genres"}
    alone = FULL.model_copy(
        update={"sequences": {"history": own.model_copy(update={"attributes": kept})}}
    )
    config = SRP4CTRConfig(encoder=GELU, **IDS)
    with pytest.raises(ValueError, match="history.attributes: .*none besides item_id"):
        S3Rec(alone, config, S3RecConfig(), CASES["full"].rows)
