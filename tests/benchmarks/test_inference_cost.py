"""The table of inference costs."""

import doctest

import pytest

from benchmarks import inference_cost
from benchmarks.inference_cost import LINES, measure


def test_examples():
    found = doctest.testmod(inference_cost)
    assert found.attempted and not found.failed


@pytest.mark.parametrize("title", ["DIN", "DIN, split", "SRP4CTR"])
def test_a_call_is_the_sum_of_its_parts(title):
    (line,) = (each for each in LINES if each.title == title)
    row = measure(line, 7)
    user, each = row["user_flops"], row["candidate_flops"]
    if line.folded:
        # What is left is of context and of weights alone.
        assert 0 <= row["inference_flops"] - (user + 7 * each) < 0.001 * row["efficiency_flops"]
    else:
        assert row["inference_flops"] == row["efficiency_flops"] + 6 * each
        assert user == 0


def test_the_forms_of_a_model_are_of_one_model():
    tiled, split = (measure(line, 3) for line in LINES[:2])
    assert tiled["efficiency_flops"] == split["efficiency_flops"]
    assert tiled["inference_flops"] > split["inference_flops"]
