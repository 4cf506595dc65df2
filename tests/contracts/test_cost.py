"""The cost of every model: counted whole, and linear in candidates and users."""

from ctr_tf.analysis.cost import model_cost, tower_flops
from ctr_tf.analysis.operations import Flops
from ctr_tf.analysis.sizes import Sizes

SIZES = {"length": 4, "values": 2, "words": 3, "session": 2}


def test_candidates_add_up(model):
    """What one more than three candidates cost, two more than one have cost twice; a tiled call."""
    cost = model_cost(model, Sizes(1, 3, **SIZES))
    assert cost.candidate.total > 0
    assert cost.single == cost.user + cost.once + cost.candidate
    assert cost.once.products >= 0 and cost.once.others >= 0
    assert cost.folded == cost.single + 2 * cost.candidate
    tiled = sum(tower_flops(model, Sizes(3, 1, **SIZES)), Flops())
    assert cost.row_wise == tiled
    assert cost.folded.products <= cost.row_wise.products
    assert cost.folded.total <= cost.row_wise.total


def test_users_add_up(model):
    """Tiled requests cost what as many calls do, less what is of weights alone."""
    for one, two, three in zip(*(tower_flops(model, Sizes(b, 1, **SIZES)) for b in (1, 2, 3))):
        of_weights = 2 * one - two
        assert of_weights.products >= 0 and of_weights.others >= 0
        assert three + 2 * of_weights == 3 * one
