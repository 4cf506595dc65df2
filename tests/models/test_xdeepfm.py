"""xDeepFM against the classical, un-split forward."""

import numpy as np
import pytest

from ctr_tf import registry
from ctr_tf.types import Widths
from tests.cases import CASES, batch, build
from tests.models.embedded import Embedded, assert_logits
from tests.oracles.xdeepfm import cin_parameters, xdeepfm_forward
from tests.weights import activations_of, array, layer_pair, split_mlp_layers


def oracle(model, features):
    """expected(b, n, task): linear part, interaction network and MLP over all fields."""
    numpy = Embedded(model, features)
    config, width = model.config, model.body.cin.width
    cin = [(array(kernel), None) for kernel in model.body.cin.kernels]

    def expected(b, n, task):
        view = "/linear"
        weights = [*numpy.user(b, view), *numpy.context(b, view), *numpy.candidate(b, n, view)]
        kernel, bias = layer_pair(model.heads.dense[task])
        return xdeepfm_forward(
            np.array([numpy.every_field(b, n)]),
            np.array([[weight.item() for weight in weights]]),
            bias.item(),
            cin,
            kernel[:width, 0],
            [*split_mlp_layers(model.body.deep), (kernel[width:], np.zeros(1))],
            activations_of(model.body.deep),
            config.cin_activation,
            config.cin_split_half,
        ).item()

    return expected


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"cin_units": [3]},
        {"cin_units": [4, 6, 3], "cin_split_half": True, "cin_activation": "relu"},
        {"activation": "dice", "batch_norm": False},
    ],
    ids=["two_layers", "one_layer", "split", "dice"],
)
def test_logits_are_those_of_the_un_split_form(rng, case, given):
    model, features = build("xdeepfm", case, rng, **given), batch(case, rng)
    assert_logits(model, features, oracle(model, features))


def test_context_in_the_user_tower(rng):
    model = build("xdeepfm", "full", rng, user_context=["page"])
    features = batch("full", rng)
    assert_logits(model, features, oracle(model, features))


@pytest.mark.parametrize("split", [False, True])
def test_parameter_count(rng, split):
    given = {"cin_units": [6, 4], "cin_split_half": split, "batch_norm": False}
    model = build("xdeepfm", "criteo", rng, **given)
    fields = 3 + 4
    embeddings = (4 * 6 + 3) * (4 + 1)
    deep = fields * 4 * 6 + 6 + 6 * 5 + 5
    cin = cin_parameters(fields, [6, 4], split)  # with its weights of the head
    assert model.count_params() == embeddings + deep + 5 + 1 + cin


def test_errors():
    entry = registry.get("xdeepfm")
    widths = Widths(sequences={"history": {"item_id": 4}})
    with pytest.raises(ValueError, match="xdeepfm needs a feature that is no behaviour"):
        entry.body(entry.config(), widths)
    widths = Widths(candidate={"item_id": 4})
    with pytest.raises(ValueError, match="cin_units.0: must be even to be split in half, got 3"):
        entry.body(entry.config(cin_units=[3, 5], cin_split_half=True), widths)
    assert entry.body(entry.config(cin_units=[3, 5]), widths).cin.width == 8
