"""FiBiNET against the classical, un-split forward."""

import numpy as np
import pytest

from ctr_tf import registry
from ctr_tf.types import Widths
from tests.cases import CASES, batch, build
from tests.models.embedded import Embedded, assert_logits
from tests.models.pairs import kernels_of, rows_of_pairs
from tests.oracles.fibinet import fibinet_forward, fibinet_parameters
from tests.weights import activations_of, array, layer_pair, split_mlp_layers

KINDS = ["all", "each", "interaction"]


def oracle(model, features):
    """expected(b, n, task): bilinear products of all pairs, plain and weighted."""
    numpy = Embedded(model, features)
    body, config = model.body, model.config
    width = config.embedding.width
    (first, bias), *rest = split_mlp_layers(body.deep)
    pairs = len(body.plain.pairs) * width
    rows = rows_of_pairs(body.plain, width)
    first = np.concatenate([first[:pairs][rows], first[pairs:][rows]])
    acts = activations_of(body.deep)

    def expected(b, n, task):
        view = "/linear"
        weights = [*numpy.user(b, view), *numpy.context(b, view), *numpy.candidate(b, n, view)]
        kernel, head_bias = layer_pair(model.heads.dense[task])
        return fibinet_forward(
            np.array([numpy.every_field(b, n)]),
            np.array([[weight.item() for weight in weights]]),
            head_bias.item(),
            array(body.senet.reduce.kernel),
            array(body.senet.expand.kernel),
            kernels_of(body.plain),
            kernels_of(body.weighted),
            config.bilinear,
            [(first, bias), *rest, (kernel, np.zeros(1))],
            acts,
        ).item()

    return expected


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_un_split_form(rng, case, kind):
    model, features = build("fibinet", case, rng, bilinear=kind), batch(case, rng)
    assert_logits(model, features, oracle(model, features))


@pytest.mark.parametrize("kind", KINDS)
def test_context_in_the_user_tower(rng, kind):
    given = {"user_context": ["page"], "activation": "dice", "batch_norm": False}
    model = build("fibinet", "full", rng, bilinear=kind, **given)
    features = batch("full", rng)
    assert_logits(model, features, oracle(model, features))


@pytest.mark.parametrize("kind", KINDS)
def test_parameter_count(rng, kind):
    model = build("fibinet", "criteo", rng, bilinear=kind, batch_norm=False)
    embeddings = (4 * 6 + 3) * (4 + 1)
    expected = embeddings + fibinet_parameters(7, 4, 3, kind, [6, 5])
    # The paper counts a matrix for the last field too, which no pair has on its left.
    unread = 2 * 4 * 4 if kind == "each" else 0
    # w_0 and the bias of the network's last layer are one weight here.
    assert model.count_params() == expected - unread - 1


def test_without_importance_the_weighted_half_is_nothing(rng):
    model = build("fibinet", "full", rng)
    expand = model.body.senet.expand
    expand.kernel.assign(np.zeros(expand.kernel.shape))
    features = batch("full", rng)
    before = model(features)
    kernel = model.body.weighted.kernel
    kernel.assign(rng.normal(size=kernel.shape))
    for task, logits in model(features).items():
        np.testing.assert_array_equal(logits, before[task])


def test_errors():
    entry = registry.get("fibinet")
    with pytest.raises(ValueError, match="fibinet needs a feature that is no behaviour"):
        entry.body(entry.config(), Widths(sequences={"history": {"item_id": 4}}))
    with pytest.raises(ValueError, match="fibinet needs two fields; the schema has one"):
        entry.body(entry.config(), Widths(candidate={"item_id": 4}))
