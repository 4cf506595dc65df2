"""Each registered model over each kind of log that it is defined for, and each kind of heads."""

import numpy as np
import pytest

from ctr_tf import registry
from tests.cases import CASES, HEADS, VARIANTS, is_defined, make

PAIRS = [
    (name, case)
    for name in registry.entries()
    for case in CASES
    if is_defined(name, CASES[case].schema)
]
PAIRS += [(name, "full") for name in VARIANTS]
# Over bodies without and with a logit of their own, and a log without candidate features.
PAIRS += [("dcn_v2", "full", kind) for kind in HEADS]
PAIRS += [("deepfm", "census", "mmoe")]
PAIRS += [("din", "full", "ple")]
PAIRS += [("deepfm", "full", "esmm")]
_built = {}


@pytest.fixture(params=PAIRS, ids=["-".join(pair) for pair in PAIRS])
def pair(request):
    """(architecture, kind of log), or (architecture, kind of log, kind of heads)."""
    return request.param


@pytest.fixture
def case(pair):
    """The kind of log of the model under test."""
    return pair[1]


@pytest.fixture
def model(pair):
    """A small model with random weights, the same for each test."""
    if pair not in _built:
        made = make(pair, np.random.default_rng(7))
        _built[pair] = made, made.get_weights()
    made, weights = _built[pair]
    made.set_weights(weights)
    return made
