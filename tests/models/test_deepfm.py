"""DeepFM against the classical, un-split forward."""

import numpy as np
import pytest

from tests.cases import CASES, batch, build, small_config
from tests.models.embedded import Embedded, assert_logits
from tests.oracles.deepfm import deepfm_forward
from tests.weights import activations_of, layer_pair, split_mlp_layers


def oracle(model, features):
    """expected(b, n, task): FM and MLP over all fields of a candidate."""
    numpy = Embedded(model, features)
    deep = split_mlp_layers(model.body.deep)

    def expected(b, n, task):
        kernel, bias = layer_pair(model.heads.dense[task])
        return deepfm_forward(
            numpy.first_order(b, n),
            numpy.every_field(b, n),
            bias.item(),
            [*deep, (kernel, np.zeros(1))],
            activations_of(model.body.deep),
        )

    return expected


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize(
    "given", [{}, {"activation": "dice", "batch_norm": False}], ids=["batch_norm", "dice"]
)
def test_logits_are_those_of_the_un_split_form(rng, case, given):
    model, features = build("deepfm", case, rng, **given), batch(case, rng)
    assert_logits(model, features, oracle(model, features))


def test_context_in_the_user_tower(rng):
    model = build("deepfm", "full", rng, user_context=["hour", "page"])
    features = batch("full", rng)
    assert_logits(model, features, oracle(model, features))


def test_orthogonal_embeddings_have_no_second_order(rng):
    model = build("deepfm", "criteo", rng)
    (wide,) = (stack for stack in model.embedder.tables.weights if stack.shape[-1] == 4)
    # Field c_n lies along axis n, and numbers are embedded as zero.
    table = np.zeros(wide.shape)
    for n in range(4):
        start = model.embedder.tables.place[f"c{n}"][1]
        table[start : start + 6, n] = rng.normal(size=6)
    wide.assign(table)
    for n in range(3):
        kernel = model.embedder.projections[f"i{n}"].kernel
        kernel.assign(np.zeros(kernel.shape))
    for dense in model.heads.dense.values():
        dense.kernel.assign(np.zeros(dense.kernel.shape))
    features = batch("criteo", rng)
    numpy = Embedded(model, features)

    def expected(b, n, task):
        first_order = sum(weight.item() for weight in numpy.candidate(b, n, "/linear"))
        return first_order + layer_pair(model.heads.dense[task])[1].item()

    assert_logits(model, features, expected)


def test_parameter_count(rng):
    model = build("deepfm", "criteo", rng, batch_norm=False)
    fields = 3 + 4
    embeddings = (4 * 6 + 3) * (4 + 1)
    deep = fields * 4 * 6 + 6 + 6 * 5 + 5
    assert model.count_params() == embeddings + deep + 5 + 1


def test_one_width_is_checked(rng):
    tables = {"width": 4, "tables": {"c1": {"width": 3}}}
    with pytest.raises(ValueError, match="tables.c1.width: .* needs one width, 4, got 3"):
        build("deepfm", "criteo", rng, embedding=tables)
    assert small_config("deepfm").embedding.width == 4
