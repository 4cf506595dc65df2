"""AutoInt against the classical, un-split forward."""

import numpy as np
import pytest

from ctr_tf import registry
from ctr_tf.types import Widths
from tests.cases import CASES, batch, build
from tests.models.embedded import Embedded, assert_logits
from tests.oracles.autoint import autoint_forward, autoint_parameters
from tests.weights import activations_of, array, layer_pair, split_mlp_layers


def projections(layer):
    """(query, key, value, residual) of the oracle."""
    parts = np.split(array(layer.kernel), array(layer.kernel).shape[1] // layer.width, axis=1)
    by_head = [np.moveaxis(p.reshape(len(p), layer.heads, -1), 1, 0) for p in parts[:3]]
    return (*by_head, parts[3] if len(parts) == 4 else None)


def oracle(model, features):
    """expected(b, n, task): attention over all fields of a candidate, and an MLP."""
    numpy = Embedded(model, features)
    body, config = model.body, model.config
    layers = [projections(layer) for layer in body.interacting]
    deep = split_mlp_layers(body.deep) if body.deep else []

    def expected(b, n, task):
        kernel, bias = layer_pair(model.heads.dense[task])
        own = len(kernel) - (config.units[-1] if deep else 0)
        return autoint_forward(
            np.array([numpy.every_field(b, n)]),
            layers,
            (kernel[:own], bias),
            [*deep, (kernel[own:], np.zeros(1))] if deep else (),
            config.scaled,
            config.projection,
            activations_of(body.deep) if deep else "relu",
        ).item()

    return expected


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"units": [], "interacting_layers": 1, "residual": False},
        {"units": [], "scaled": True, "projection": "relu", "attention_heads": 3},
        {"activation": "dice", "batch_norm": False},
    ],
    ids=["plus", "one_layer", "scaled", "dice"],
)
def test_logits_are_those_of_the_un_split_form(rng, case, given):
    model, features = build("autoint", case, rng, **given), batch(case, rng)
    assert_logits(model, features, oracle(model, features))


def test_context_in_the_user_tower(rng):
    model = build("autoint", "full", rng, user_context=["page"])
    features = batch("full", rng)
    assert_logits(model, features, oracle(model, features))


@pytest.mark.parametrize("residual", [True, False])
def test_parameter_count(rng, residual):
    model = build("autoint", "criteo", rng, units=[], residual=residual)
    config = model.config
    heads = [config.attention_heads] * config.interacting_layers
    widths = [config.attention_width] * config.interacting_layers
    embeddings = (4 * 6 + 3) * 4
    assert model.count_params() == embeddings + autoint_parameters(7, 4, heads, widths, residual)


def test_errors():
    entry = registry.get("autoint")
    with pytest.raises(ValueError, match="autoint needs a feature that is no behaviour"):
        entry.body(entry.config(), Widths(sequences={"history": {"item_id": 4}}))
