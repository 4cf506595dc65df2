"""The transformer of the user side against its equations, and its work a request."""

import numpy as np
import pytest

from ctr_tf import registry
from ctr_tf.types import Widths
from tests.cases import CASES, batch, build
from tests.contracts.steps import assert_same, both_ways
from tests.layers.encoder import encoder_oracle
from tests.models.embedded import Embedded, assert_logits
from tests.oracles.blocks import mlp
from tests.weights import activations_of, layer_pair, split_mlp_layers


def oracle(model, features):
    """expected(b, n, task) from the mean of the encoder's output, row by row."""
    numpy = Embedded(model, features)
    (encoder,) = model.body.encoders

    def expected(b, n, task):
        values, mask = numpy.behaviours("history", b)
        x = np.concatenate(list(values.values()), axis=-1)
        encoded = encoder_oracle(encoder, x[None], mask[None])[0]
        interest = encoded[mask].mean(0) if mask.any() else np.zeros(encoder.config.width)
        fields = [*numpy.user(b), interest, *numpy.context(b), *numpy.candidate(b, n)]
        layers = [*split_mlp_layers(model.body.mlp), layer_pair(model.heads.dense[task])]
        acts = activations_of(model.body.mlp)
        return mlp(np.concatenate(fields), layers, acts, final_linear=True).item()

    return expected


@pytest.mark.parametrize(
    "given",
    [{}, {"encoder": {"width": 6, "norm": "pre", "layers": 1}}, {"user_context": ["page"]}],
    ids=["post", "pre", "user_context"],
)
def test_logits_are_those_of_each_row(rng, given):
    model, features = build("transformer", "full", rng, **given), batch("full", rng)
    assert_logits(model, features, oracle(model, features))


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_loss_and_every_gradient_are_those_of_row_wise_training(rng, norm):
    given = {"encoder": {"width": 6, "norm": norm, "use_bias": True}}
    model = build("transformer", "full", rng, **given)
    features = batch("full", rng, requests=9, behaviours=11)
    shaped, row_wise, at = both_ways(model, "full", features, rng)
    (outputs, gradients, _), (row_outputs, row_gradients, _) = shaped, row_wise
    assert_same({t: v[:, 0] for t, v in row_outputs.items()},
                {t: v[at] for t, v in outputs.items()}, 1e-5)  # fmt: skip
    assert_same(row_gradients, gradients, 1e-5)


def test_parameter_count(rng):
    model = build("transformer", "full", rng)
    tables = 4 * sum(CASES["full"].rows.values())
    poster = 5 * 3 + 3 * 4
    block = 6 * 18 + 36 + 6 * 7 + 7 + 7 * 6 + 6 + 24
    encoder = 12 * 6 + 6 + 4 * 6 + 2 * block
    mlp = (9 + 6 + 8 + 17) * 6 + 6 + 6 * 5 + 5
    assert model.count_params() == tables + poster + encoder + mlp + 2 * (5 + 1)


def test_the_state_is_one_vector_a_request(rng):
    model = build("transformer", "full", rng)
    assert model.state_spec() == {"user": ((None, 6), "float32")}


def test_errors():
    entry = registry.get("transformer")
    with pytest.raises(ValueError, match="transformer needs a behaviour sequence"):
        entry.body(entry.config(), Widths(candidate={"item_id": 4}))
    widths = Widths(candidate={"item_id": 4}, sequences={"history": {"item_id": 4}})
    with pytest.raises(ValueError, match="heads: must divide the width, 6; got 4"):
        entry.body(entry.config(encoder={"width": 6, "heads": 4}), widths)
