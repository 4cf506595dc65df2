"""Self-checks of SRP4CTR's oracles against numbers worked out by hand and against enumeration."""

from itertools import combinations, permutations, product

import numpy as np
import pytest

from .blocks import sigmoid
from .bst import Block
from .counts import encoder_flops, mlp_flops, size
from .srp4ctr.cloze import (
    cloze_logits,
    fg_bert_loss,
    multi_label_cross_entropy,
    sampled_softmax_cross_entropy,
    softmax_cross_entropy,
    unique_expected,
)
from .srp4ctr.cross import CrossBlock, cross_block
from .srp4ctr.electra import corrupt, electra_loss
from .srp4ctr.fg_bert import Attribute, attribute_sum, encoder_streams, fg_bert_input
from .srp4ctr.flops import (
    cross_count,
    cross_flops,
    patch_count,
    querying_flops,
    shares,
    srp4ctr_flops,
)
from .srp4ctr.head import head_input, masked_mean
from .srp4ctr.masking import (
    case_rates,
    last_masked,
    masked_count,
    overlap_moments,
)
from .srp4ctr.model import mp_forward, srp4ctr_forward
from .srp4ctr.patch import model_patch, patched_block
from .srp4ctr.querying import initial_queries, querying_transformer
from .srp4ctr.ranking import next_item_metrics, target_ranks
from .srp4ctr.s3_rec import attribute_loss, pairwise, s3_rec_loss, scores, segment_inputs
from .srp4ctr.uni_attention import layer_keys_values, tied, uni_attention, uni_attention_unfolded
from .transformer import encoder_block, gelu, layer_norm

LN2, LN3 = np.log(2.0), np.log(3.0)
WIDTH, HIDDEN, HEADS, LENGTH = 4, 6, 2, 5
MASK = np.array([True, True, True, False, False])


def array(*values):
    return np.array(values, np.float64)


def layer(rng, inputs, outputs):
    return rng.normal(size=(inputs, outputs)), rng.normal(size=outputs)


def norms(rng):
    return [(rng.normal(size=WIDTH), rng.normal(size=WIDTH), 1e-3) for _ in range(2)]


def feed_forward(rng):
    return [layer(rng, WIDTH, HIDDEN), layer(rng, HIDDEN, WIDTH)]


def block(rng):
    return Block(
        layer(rng, WIDTH, 3 * WIDTH), layer(rng, WIDTH, WIDTH), feed_forward(rng), norms(rng)
    )


def crossing(rng):
    return CrossBlock(
        layer(rng, WIDTH, WIDTH), layer(rng, WIDTH, WIDTH), feed_forward(rng), norms(rng)
    )


def behaviours(rng):
    """Rows whose padding is NaN."""
    x = rng.normal(size=(LENGTH, WIDTH))
    x[~MASK] = np.nan
    return x


def plain(width):
    """A feed-forward part of zeros, and norms without scale or offset."""
    zero = np.zeros((width, width)), np.zeros(width)
    return [zero, zero], [(1.0, 0.0, 0.0)] * 2


def test_attribute_sum_pools_values():
    one, many = array([1], [2], [4]), array([10], [30], [80])
    attributes = [Attribute(one, [[0], [2], [1]]), Attribute(many, [[0, 1], [2], []])]
    np.testing.assert_array_equal(attribute_sum(attributes), [[21], [84], [2]])
    np.testing.assert_array_equal(attribute_sum(attributes, "sum"), [[41], [84], [2]])
    with pytest.raises(ValueError, match="'max'"):
        attribute_sum(attributes, "max")


def fg_input(first=1, rating=1, **changed):
    """Five elements: the four cases and padding."""
    given = {
        "items": [
            Attribute(array([1], [2]), [[0], [first], [0], [1], [0]]),
            Attribute(array([10], [20]), [[0], [1], [0], [1], [0]]),
        ],
        "behaviours": [Attribute(array([100], [200]), [[0], [0], [rating], [1], [0]])],
        "positions": array([0.1], [0.2], [0.3], [0.4], [np.nan]),
        "mask": [True] * 4 + [False],
        "item_mask": array(1000),
        "behaviour_mask": array(5000),
        "masked_items": [False, True, False, True, True],
        "masked_behaviours": [False, False, True, True, True],
    }
    return fg_bert_input(**{**given, **changed})


def test_input_has_four_cases():
    expected = [[111.1], [1100.2], [5011.3], [6000.4], [0]]
    np.testing.assert_allclose(fg_input(), expected)
    # What is masked is not seen, in any of its attributes.
    np.testing.assert_array_equal(fg_input(first=0, rating=0), fg_input())


def test_input_of_bert4rec_has_no_behaviours():
    x = fg_input(behaviours=(), behaviour_mask=None, masked_behaviours=None)
    np.testing.assert_allclose(x, [[11.1], [1000.2], [11.3], [1000.4], [0]])


def test_input_may_be_normalised():
    table, positions = array([0, 1], [2, 5]), array([1, 2], [0, 0])
    items = [Attribute(table, [[0], [1]])]
    masks = (array(9, 9), None, [False, False], None)
    x = fg_bert_input(items, (), positions, [True, False], *masks, norm=(1.0, 0.0, 0.0))
    np.testing.assert_array_equal(x, [[-1, 1], [0, 0]])


def test_mask_rows_of_the_tables_are_one_mask_embedding():
    # Third rows stand for the mask; together they are 5 + 70.
    tables = array([1], [2], [5]), array([10], [20], [70])
    values = [[0], [2]], [[1], [2]]
    rows = attribute_sum([Attribute(t, v) for t, v in zip(tables, values)])
    items = [Attribute(t, [v[0], [0]]) for t, v in zip(tables, values)]
    masked = (array(75), None, [False, True], None)
    x = fg_bert_input(items, (), np.zeros((2, 1)), [True, True], *masked)
    np.testing.assert_array_equal(x, rows)


@pytest.mark.parametrize("pre", [False, True])
def test_encoder_streams(rng, pre):
    blocks, x = [block(rng), block(rng)], behaviours(rng)
    streams = encoder_streams(x, MASK, HEADS, blocks, pre=pre)
    assert len(streams) == 3
    expected = x[MASK]
    for weights, stream in zip(blocks, streams):
        np.testing.assert_allclose(stream[MASK], expected)
        expected = encoder_block(expected, [True] * 3, HEADS, *weights, gelu, pre)
    np.testing.assert_allclose(streams[2][MASK], expected)
    np.testing.assert_array_equal(streams[2][~MASK], 0)
    np.testing.assert_array_equal(encoder_streams(x, MASK & False, HEADS, blocks)[-1], 0)


def test_masked_count():
    assert [masked_count(n, 0.15) for n in (0, 1, 5, 14, 200)] == [0, 1, 1, 2, 30]
    assert masked_count(3, 1.0) == 3


def test_both_masks_are_independent():
    rates = case_rates(0.2, 0.5)
    assert sum(rates.values()) == pytest.approx(1)
    assert rates[True, True] + rates[True, False] == pytest.approx(0.2)
    assert rates[True, True] + rates[False, True] == pytest.approx(0.5)
    overlaps = [
        len(set(items) & set(behaviours))
        for items in combinations(range(5), 2)
        for behaviours in combinations(range(5), 3)
    ]
    found = overlap_moments(5, 2, 3)
    assert found == pytest.approx((np.mean(overlaps), np.var(overlaps)))
    # The mean is what independent elements would have.
    assert found[0] == pytest.approx(5 * case_rates(2 / 5, 3 / 5)[True, True])


def test_last_masked():
    np.testing.assert_array_equal(last_masked(MASK), [False, False, True, False, False])
    assert not last_masked(MASK & False).any()


def test_cloze_logits_are_tied():
    table, bias = array([1, 0], [0, 2], [3, 1]), array(0.5, 0, -1)
    h, projection = array([1, 2]), (array([1, 0], [1, 1]), array(0, -3))
    # [3, -1] before the activation; ReLU leaves [3, 0].
    found = cloze_logits(h, projection, table, bias, activation="relu")
    np.testing.assert_array_equal(found, [[3.5, 0, 8]])
    # GELU of 1 is the normal distribution's share below 1.
    one = cloze_logits(array([1]), (array([1]), array(0)), array([1]), array(0))
    np.testing.assert_allclose(one, [[0.8413447460685429]])
    # [3, -1] normalised is [1, -1].
    normed = cloze_logits(h, projection, table, bias, (1.0, 0.0, 0.0), None)
    np.testing.assert_allclose(normed, [[1.5, -2, 1]])


def test_softmax_cross_entropy():
    logits = array([0, LN2, np.log(5)])
    np.testing.assert_allclose(softmax_cross_entropy(logits, [1]), [np.log(4)])
    allowed = [True, True, False]
    np.testing.assert_allclose(softmax_cross_entropy(logits, [1], allowed), [np.log(1.5)])
    np.testing.assert_allclose(softmax_cross_entropy(logits + 1e4, [1]), [np.log(4)])
    with pytest.raises(ValueError, match=r"allowed values; got \[2\]"):
        softmax_cross_entropy(logits, [2], allowed)


def test_multi_label_cross_entropy():
    logits = array([0, LN3, LN3], [0, -LN3, 0])
    # Two labels, at 0 and ln 3; then none.
    found = multi_label_cross_entropy(logits, [[0, 1], []])
    np.testing.assert_allclose(found, [LN2 + np.log(4 / 3) + np.log(4), 2 * LN2 + np.log(4 / 3)])
    found = multi_label_cross_entropy(logits, [[0, 1], []], [True, True, False])
    np.testing.assert_allclose(found, [LN2 + np.log(4 / 3), LN2 + np.log(4 / 3)])


def test_sampled_softmax_by_hand():
    logits, expected = np.log(array(2, 3, 5, 7)), array(1, 0.5, 0.25, 2)
    # Label 2 of weight 5 / 0.25 = 20; 3 / 0.5 = 6 and twice 7 / 2; the label's own is left out.
    sampled = [1, 3, 2, 3]
    found = sampled_softmax_cross_entropy(logits, 2, sampled, expected)
    assert found == pytest.approx(np.log(33 / 20))
    found = sampled_softmax_cross_entropy(logits, 2, sampled, expected, "certain")
    assert found == pytest.approx(np.log(18 / 5))
    assert sampled_softmax_cross_entropy(logits, 2, [2], expected) == 0
    with pytest.raises(ValueError, match="'free'"):
        sampled_softmax_cross_entropy(logits, 2, sampled, expected, "free")


@pytest.mark.parametrize("positive", ["corrected", "certain"])
def test_sampled_softmax_of_every_value_is_the_full_one(rng, positive):
    logits = rng.normal(size=6)
    found = sampled_softmax_cross_entropy(logits, 4, range(6), np.ones(6), positive)
    assert found == pytest.approx(softmax_cross_entropy(logits[None], [4])[0])


def test_corrected_sampled_softmax_is_least_at_the_true_distribution():
    # Expected loss over labels and all samples in which value j is with probability Q_j.
    truth, rates = array(0.5, 0.3, 0.2), array(0.9, 0.4, 0.2)

    def expected_loss(logits, rates_of_loss):
        total = 0.0
        for there in product((False, True), repeat=3):
            chance = np.prod(np.where(there, rates, 1 - rates))
            for label in range(3):
                loss = sampled_softmax_cross_entropy(
                    logits, label, np.flatnonzero(there), rates_of_loss
                )
                total += truth[label] * chance * loss
        return total

    def slope(rates_of_loss):
        steps = 1e-5 * np.eye(3)
        at = [(np.log(truth) + step, np.log(truth) - step) for step in steps]
        found = [expected_loss(a, rates_of_loss) - expected_loss(b, rates_of_loss) for a, b in at]
        return np.array(found) / 2e-5

    np.testing.assert_allclose(slope(rates), 0, atol=1e-9)
    # Without the correction a value often sampled is pushed down.
    assert slope(np.ones(3))[0] > 0.05


def test_certain_sampled_softmax_has_the_full_denominator_on_average():
    logits, chances, draws, label = array(0.3, -1, 2), array(0.5, 0.3, 0.2), 2, 0
    mean = 0.0
    for sampled in product(range(3), repeat=draws):
        loss = sampled_softmax_cross_entropy(logits, label, sampled, draws * chances, "certain")
        mean += np.prod(chances[list(sampled)]) * np.exp(loss + logits[label])
    assert mean == pytest.approx(np.exp(logits).sum())


def test_unique_expected_by_enumeration():
    chances, draws = array(0.5, 0.3, 0.2), 3
    found = np.zeros(3)
    for drawn in product(range(3), repeat=draws):
        found[list(set(drawn))] += np.prod(chances[list(drawn)])
    np.testing.assert_allclose(unique_expected(chances, draws), found)


def test_fg_bert_loss():
    nan = np.nan
    items, ratings = array([1, 3, nan], [8, nan, nan]), array([nan, 5, nan], [nan, nan, nan])
    masked = [~np.isnan(items), ~np.isnan(ratings)]
    total, means = fg_bert_loss([items, ratings], masked, [1, 10])
    np.testing.assert_allclose(means, [4, 5])
    assert total == 54
    # Means of 2 and 8; the second sequence has no masked rating.
    total, means = fg_bert_loss([items, ratings], masked, reduction="sequences")
    np.testing.assert_allclose(means, [5, 5])
    assert total == 10
    assert fg_bert_loss([items, ratings], masked, reduction="sum")[0] == 17
    nothing = [np.zeros((2, 3), bool)] * 2
    assert fg_bert_loss([items, ratings], nothing, reduction="sequences")[0] == 0
    assert fg_bert_loss([items, ratings], nothing)[0] == 0
    with pytest.raises(ValueError, match="'mean'"):
        fg_bert_loss([items], masked[:1], reduction="mean")


def test_fg_bert_loss_is_equation_1():
    # One masked item of id 1/4 and genre 1/2, two masked ratings of 1/3 and 1/6.
    losses = [
        -np.log(array([1 / 4, 1])),
        -np.log(array([1 / 2, 1])),
        -np.log(array([1 / 3, 1 / 6])),
    ]
    masked = [[[True, False]], [[True, False]], [[True, True]]]
    total, _ = fg_bert_loss(losses, masked, reduction="sum")
    assert np.exp(-total) == pytest.approx(1 / 8 * 1 / 18)


def test_electra():
    items, masked = [[5, 6, 7, 0]], [[True, False, True, False]]
    corrupted, real = corrupt(items, masked, [[5, 1, 9, 1]])
    assert corrupted.tolist() == [[5, 6, 9, 0]]
    # The right item by chance is a real one.
    assert real.tolist() == [[True, True, False, True]]
    generator = array([2, np.nan, 4, np.nan])
    logits, mask = array([LN3, LN3, LN3, np.nan]), [[True, True, True, False]]
    found = electra_loss(generator, masked, logits, real, mask, weight=30)
    discriminator = (2 * np.log(4 / 3) + np.log(4)) / 3
    assert found == pytest.approx((3 + 30 * discriminator, 3, discriminator))
    found = electra_loss(generator, masked, logits, real, mask, 1, "sum")
    assert found == pytest.approx((6 + 3 * discriminator, 6, 3 * discriminator))
    assert electra_loss(generator, [[False] * 4], logits, real, [[False] * 4]) == (0, 0, 0)
    with pytest.raises(ValueError, match="'mean'"):
        electra_loss(generator, masked, logits, real, mask, reduction="mean")


def test_s3_scores():
    # x W + b = [3, 1]; times [1, -3] and [0, 2].
    projection = (array([1, 0], [1, 1]), array(0, -1))
    embeddings = array([1, -3], [0, 2])
    np.testing.assert_array_equal(scores(array(1, 2), projection, embeddings, None), [0, 2])
    found = scores(array(1, 2), projection, embeddings)
    np.testing.assert_allclose(found, [0.5, sigmoid(2)])


def test_s3_contrasts():
    assert pairwise(0.25, 0.25) == pytest.approx(LN2)
    # What f in (0, 1) can reach.
    assert pairwise(1, 0) == pytest.approx(np.log1p(np.exp(-1)))


def test_s3_attribute_loss():
    logits = array(0, LN3, LN3, -LN3)
    bce = LN2 + np.log(4 / 3) + np.log(4) + np.log(4 / 3)
    assert attribute_loss(logits, [0, 1]) == pytest.approx(bce)
    assert attribute_loss(logits, []) == pytest.approx(LN2 + 2 * np.log(4) + np.log(4 / 3))


def test_s3_segments_and_sum():
    context, segment, other = segment_inputs([1, 2, 3, 4], 2, [7, 8], -1)
    assert (context, segment, other) == ([1, 2, -1, -1], [-1, -1, 3, 4], [-1, -1, 7, 8])
    assert s3_rec_loss(1, 2, 3, 4) == pytest.approx(7.2)
    assert s3_rec_loss(1, 2, 3, 4, (0, 1, 0, 0)) == 2


def test_cross_block_by_hand():
    identity, (feed, normal) = (np.eye(2), None), plain(2)
    cross = CrossBlock(identity, (np.eye(2), array(0.5, 0)), feed, normal)
    # [3, 1] normalised is [1, -1]; scores ln 3 and 0 share 3 : 1: [3, 6] is added, and the bias.
    keys = array([np.sqrt(2) * LN3, 0], [0, 0], [np.nan, 9])
    values = array([4, 8], [0, 0], [np.nan, 9])
    mask = [True, True, False]
    found = cross_block(array([3, 1]), keys, values, mask, 1, cross, pre=True)
    np.testing.assert_allclose(found, [[6.5, 7]])
    # After the residual, [1, -1] + [3, 6] + [0.5, 0] = [4.5, 5]; normalised twice.
    found = cross_block(array([1, -1]), keys, values, mask, 1, cross)
    np.testing.assert_allclose(found, [[-1, 1]])
    # Nothing valid: the bias alone.
    found = cross_block(array([3, 1]), keys, values, [False] * 3, 1, cross, pre=True)
    np.testing.assert_array_equal(found, [[3.5, 1]])


def uni_case(rng, pre):
    blocks, own = [block(rng), block(rng)], [crossing(rng), crossing(rng)]
    x, candidates = behaviours(rng), rng.normal(size=(3, WIDTH))
    streams = encoder_streams(x, MASK, HEADS, blocks, pre=pre)
    return blocks, own, x, candidates, streams


@pytest.mark.parametrize("pre", [False, True])
def test_uni_attention_is_a_candidate_that_attends_one_way(rng, pre):
    blocks, own, x, candidates, streams = uni_case(rng, pre)
    folded = layer_keys_values(streams, blocks, pre)
    found = uni_attention(candidates, folded, MASK, HEADS, own, pre=pre)
    for candidate, expected in zip(candidates, found):
        rows, last = uni_attention_unfolded(candidate, x, MASK, HEADS, blocks, own, pre=pre)
        np.testing.assert_allclose(last, expected)
        # The behaviours come out as without a candidate.
        np.testing.assert_allclose(rows, streams[-1])
    with pytest.raises(ValueError, match="zip"):
        uni_attention(candidates, folded, MASK, HEADS, own[:1])


@pytest.mark.parametrize("pre", [False, True])
def test_tied_candidate_like_a_behaviour_comes_out_as_it(rng, pre):
    blocks, own, x, _, streams = uni_case(rng, pre)
    folded = layer_keys_values(streams, blocks, pre)
    same = [tied(b) for b in blocks]
    found = uni_attention(x[MASK], folded, MASK, HEADS, same, pre=pre)
    np.testing.assert_allclose(found, streams[-1][MASK])
    assert not np.allclose(uni_attention(x[MASK], folded, MASK, HEADS, own, pre=pre), found)


def test_keys_and_values_are_of_the_layers_input(rng):
    blocks, _, x, _, streams = uni_case(rng, pre=False)
    (first, _), (second, values) = layer_keys_values(streams, blocks)
    kernel, bias = blocks[0].projection
    expected = x[0] @ kernel[:, WIDTH : 2 * WIDTH] + bias[WIDTH : 2 * WIDTH]
    np.testing.assert_allclose(first[0], expected)
    kernel, bias = blocks[1].projection
    after = encoder_block(x[MASK], [True] * 3, HEADS, *blocks[0], gelu, False)
    expected = after @ kernel[:, WIDTH:] + bias[WIDTH:]
    np.testing.assert_allclose(np.hstack([second, values])[MASK], expected)


def test_uni_attention_without_behaviours(rng):
    _, own, _, candidates, _ = uni_case(rng, pre=False)
    nothing = [(np.full((LENGTH, WIDTH), np.nan),) * 2] * 2
    found = uni_attention(candidates, nothing, MASK & False, HEADS, own)
    expected = candidates
    for cross in own:
        expected = layer_norm(expected + cross.output[1], *cross.norms[0])
        fed = gelu(expected @ cross.feed_forward[0][0] + cross.feed_forward[0][1])
        fed = fed @ cross.feed_forward[1][0] + cross.feed_forward[1][1]
        expected = layer_norm(expected + fed, *cross.norms[1])
    np.testing.assert_allclose(found, expected)


def test_initial_queries():
    free = array([1, 2], [3, 4])
    kernel = array([1, 0, 0, 0], [0, 0, 0, 1], [0, 5, 0, 0])
    found = initial_queries(free, [array(10), array(20, 1)], kernel)
    np.testing.assert_array_equal(found, [[11, 7], [3, 24]])
    np.testing.assert_array_equal(initial_queries(free), free)
    np.testing.assert_array_equal(initial_queries(free, [np.zeros(3)], kernel), free)


def test_querying_transformer(rng):
    encoded, queries = behaviours(rng), rng.normal(size=(3, WIDTH))
    blocks = [(layer(rng, WIDTH, 2 * WIDTH), crossing(rng)) for _ in range(2)]
    found = querying_transformer(queries, encoded, MASK, HEADS, blocks)
    assert np.isfinite(found).all()
    # Queries do not see each other, behaviours have no order of their own, padding is not read.
    order = [2, 0, 1]
    again = querying_transformer(queries[order], encoded[MASK][::-1], [True] * 3, HEADS, blocks)
    np.testing.assert_allclose(again, found[order])
    # The second layer reads the encoder's output again, by projections of its own.
    (kernel, bias), cross = blocks[1]
    keys, values = np.split(encoded @ kernel + bias, 2, axis=1)
    first = querying_transformer(queries, encoded, MASK, HEADS, blocks[:1])
    np.testing.assert_allclose(cross_block(first, keys, values, MASK, HEADS, cross), found)
    nobody = querying_transformer(queries, encoded, MASK & False, HEADS, blocks)
    other = querying_transformer(queries, encoded + 1, MASK & False, HEADS, blocks)
    assert np.isfinite(nobody).all()
    np.testing.assert_array_equal(nobody, other)


def test_model_patch():
    # 2 + relu(2 * 3 - 1) * 10 + 0.5; nothing of relu(-2 * 3 - 1).
    down, up = (array([3]), array(-1)), (array([10]), array(0.5))
    found = model_patch(array([2], [-2]), down, up, "relu")
    np.testing.assert_array_equal(found, [[52.5], [-1.5]])


def test_patched_block_starts_as_the_block(rng):
    weights, x = block(rng), rng.normal(size=(LENGTH, WIDTH))
    down = layer(rng, WIDTH, 2)
    zero = np.zeros((2, WIDTH)), np.zeros(WIDTH)
    expected = encoder_block(x, MASK, HEADS, *weights, gelu, False)
    for patches in ([None, None], [(down, zero)] * 2):
        found = patched_block(x, MASK, HEADS, weights, patches)
        np.testing.assert_array_equal(found, expected)
    assert size((down, zero)) == patch_count(WIDTH, 2)


def test_patches_stand_before_the_normalisation():
    # Attention of zeros, a first patch that adds [2, 0], a feed-forward part of zeros and a second
    # patch that adds [0, 8]: [1, 2] + [2, 0] is [1, -1], and [1, 7] is [-1, 1].
    feed, normal = plain(2)
    weights = Block((np.zeros((2, 6)), None), (np.zeros((2, 2)), None), feed, normal)
    nothing = np.zeros((2, 1)), np.zeros(1)
    first, second = ((nothing, (np.zeros((1, 2)), array(*b))) for b in ((2, 0), (0, 8)))
    x = array([1, 2])
    found = patched_block(x, [True], 1, weights, [first, None])
    np.testing.assert_allclose(found, [[1, -1]])
    found = patched_block(x, [True], 1, weights, [first, second])
    np.testing.assert_allclose(found, [[-1, 1]])


def test_head_input():
    encoded, mask = array([1], [3], [np.nan]), [True, True, False]
    fields = ([array(10), array(11)], [array(20)], [array(30)])
    uni, queries = array(100), array([200], [300])
    full = head_input(encoded, mask, *fields, uni, queries)
    assert full.tolist() == [100, 200, 300, 10, 11, 20, 30]
    assert head_input(encoded, mask, *fields, queries=queries).tolist() == [
        200,
        300,
        10,
        11,
        20,
        30,
    ]
    assert head_input(encoded, mask, *fields, uni).tolist() == [100, 2, 10, 11, 20, 30]
    assert head_input(encoded, mask, *fields).tolist() == [2, 10, 11, 20, 30]
    assert masked_mean(encoded, [False] * 3).tolist() == [0]


def head_case(rng, interest):
    """Fields of three candidates, a user and a context, and an MLP of their joint width."""
    fields = [[row] for row in rng.normal(size=(3, 2))], [rng.normal(size=3)], [rng.normal(size=1)]
    return fields, [layer(rng, interest + 2 + 3 + 1, 4), layer(rng, 4, 1)]


@pytest.mark.parametrize("pre", [False, True])
def test_srp4ctr_folded_and_unfolded(rng, pre):
    blocks, own, x, candidates, _ = uni_case(rng, pre)
    first, layers = rng.normal(size=(2, WIDTH)), [(layer(rng, WIDTH, 2 * WIDTH), crossing(rng))]
    (each, user, context), mlp_layers = head_case(rng, WIDTH + 2 * WIDTH)
    weights = (HEADS, blocks, own, (first, layers), mlp_layers)
    fields = each, user, context
    found = srp4ctr_forward(x, MASK, candidates, fields, *weights, pre=pre)
    for n, candidate in enumerate(candidates):
        rows, last = uni_attention_unfolded(candidate, x, MASK, HEADS, blocks, own, pre=pre)
        queries = querying_transformer(first, rows, MASK, HEADS, layers, pre=pre)
        joined = np.concatenate([last, queries.reshape(-1), each[n][0], user[0], context[0]])
        (kernel, bias), (last_kernel, last_bias) = mlp_layers
        hidden = np.maximum(joined @ kernel + bias, 0)
        np.testing.assert_allclose(found[n], (hidden @ last_kernel + last_bias)[0])
        alone = ([each[n]], user, context)
        one = srp4ctr_forward(x, MASK, candidates[[n]], alone, *weights, pre=pre)
        np.testing.assert_allclose(one, found[[n]])


def test_mp_without_patches_is_the_model_without_both(rng):
    blocks, _, x, candidates, _ = uni_case(rng, pre=False)
    fields, mlp_layers = head_case(rng, WIDTH)
    weights = (HEADS, blocks)
    expected = srp4ctr_forward(x, MASK, candidates, fields, *weights, None, None, mlp_layers)
    start = [[(layer(rng, WIDTH, 2), (np.zeros((2, WIDTH)), np.zeros(WIDTH)))] * 2] * 2
    found = mp_forward(x, MASK, fields, *weights, start, mlp_layers)
    np.testing.assert_allclose(found, expected)
    moved = [[(layer(rng, WIDTH, 2), layer(rng, 2, WIDTH)), None]] * 2
    assert not np.allclose(mp_forward(x, MASK, fields, *weights, moved, mlp_layers), expected)


def test_next_item_metrics_by_hand():
    found = next_item_metrics([[0.9, 0.5, 0.5, 0.1], [0.1, 0.2, 0.3, 0.4]], [1, 0], 2)
    # Ranks 2 or 3, and 4.
    assert found["hr"] == pytest.approx((1 / 2 + 0) / 2)
    assert found["ndcg"] == pytest.approx((1 / np.log2(3)) / 2 / 2)
    assert found["mrr"] == pytest.approx(((1 / 2 + 1 / 3) / 2 + 1 / 4) / 2)


def test_a_model_of_equal_scores_is_as_good_as_chance():
    found = next_item_metrics(np.zeros((1, 8)), [5], 2)
    assert found["hr"] == pytest.approx(2 / 8)
    assert found["ndcg"] == pytest.approx((1 + 1 / np.log2(3)) / 8)
    assert found["mrr"] == pytest.approx(sum(1 / r for r in range(1, 9)) / 8)


def test_next_item_metrics_over_all_orders_of_ties():
    values, target, k = [3, 1, 2, 1, 1], 3, 4
    ranks = [
        sum(
            values[i] > values[target] or (values[i] == values[target] and p[i] < p[target])
            for i in range(5)
        )
        + 1
        for p in permutations(range(5))
    ]
    ranks = np.array(ranks)
    found = next_item_metrics([values], [target], k)
    assert found["hr"] == pytest.approx(np.mean(ranks <= k))
    assert found["ndcg"] == pytest.approx(np.mean(np.where(ranks <= k, 1 / np.log2(ranks + 1), 0)))
    assert found["mrr"] == pytest.approx(np.mean(1 / ranks))


def test_catalogue():
    row, allowed = [np.nan, 0.9, 0.5], [False, True, True]
    assert target_ranks(row, 2, allowed) == range(2, 3)
    assert next_item_metrics([row], [2], 1, [[False, False, True]])["hr"] == 1
    with pytest.raises(ValueError, match="catalogue; got 0"):
        target_ranks(row, 0, allowed)
    with pytest.raises(ValueError, match="finite"):
        target_ranks(row, 1)


def test_flops_by_hand():
    # L = 3, W = 2, F = 4. Encoder: 3 rows of 4 * 8 + 32, and twice 3 * 12.
    assert encoder_flops(3, 2, 4) == 3 * 64 + 2 * 36
    assert cross_flops(1, 3, 2, 4) == 2 * 8 + 2 * 12 + 32
    assert querying_flops(3, 2, 4, 5, layers=2) == 2 * (3 * 16 + 5 * 72)
    # Two layers; 5 queries of 2, user 3, candidate 4, MLP [6, 1].
    user, candidate = srp4ctr_flops(3, 2, 4, 2, 3, 4, [6, 1], queries=5)
    assert user == 2 * 264 + 408 + 2 * (10 + 3) * 6
    assert candidate == 2 * 72 + 2 * (2 + 4) * 6 + 2 * 6
    # Another querying layer, and queries of features of width 7.
    more, same = srp4ctr_flops(3, 2, 4, 2, 3, 4, [6, 1], 5, query_layers=2, query_features=7)
    assert (more - user, same) == (408 + 2 * 7 * 10, candidate)


@pytest.mark.parametrize("queries", [None, 5])
@pytest.mark.parametrize("uni", [False, True])
def test_flops_of_both_parts_are_the_unsplit_models(queries, uni):
    user, candidate = srp4ctr_flops(3, 2, 4, 2, 7, 4, [6, 1], queries=queries, uni=uni)
    interest = 2 if queries is None else 2 * queries
    pooled = 2 * 3 * 2 if queries is None else querying_flops(3, 2, 4, queries)
    whole = 2 * encoder_flops(3, 2, 4) + pooled + uni * 2 * cross_flops(1, 3, 2, 4)
    whole += mlp_flops(uni * 2 + interest + 4 + 7, [6, 1])
    assert user + candidate == whole


def test_counts(rng):
    assert cross_count(WIDTH, HIDDEN) == size(crossing(rng))


def test_shares_of_table_4():
    # In millions of FLOPs; the ratios are the table's.
    table = {
        "DIN": (10.01, 989.59, 98.86),
        "DIN folded": (8.96, 51.22, 5.72),
        "CAN": (10.12, 1002.21, 99.03),
        "CAN folded": (8.99, 59.64, 6.63),
        "SRP4CTR": (26.88, 64.56, 2.40),
    }
    for single, folded, ratio in table.values():
        assert folded / single == pytest.approx(ratio, abs=0.005)
        user, candidate = shares(single, folded)
        assert user + candidate == pytest.approx(single)
        assert user + 100 * candidate == pytest.approx(folded)
    # The candidate's part of SRP4CTR is smaller than that of the others.
    assert shares(*table["SRP4CTR"][:2])[1] < shares(*table["DIN folded"][:2])[1]
