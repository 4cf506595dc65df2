"""PNN against the classical, un-split forward."""

import numpy as np
import pytest

from tests.cases import CASES, batch, build
from tests.layers.sides import signal_pairs
from tests.models.embedded import Embedded, assert_logits
from tests.oracles.interaction import pair_list
from tests.oracles.pnn import (
    inner_products,
    kernel_parameters,
    kernel_products,
    outer_products,
    pnn_forward,
    pnn_parameters,
    product_sizes,
)
from tests.weights import field_matrices, layer_pair, split_mlp_layers

PRODUCTS = ["inner", "outer", "both", "kernel"]


def oracle(model, features):
    """expected(b, n, task): an MLP over all fields and the products of all pairs."""
    numpy, body = Embedded(model, features), model.body
    (kernel, bias), *rest = split_mlp_layers(body.deep)
    count = sum(body.counts.values())
    fields, products = np.split(kernel, [4 * count])
    kernels = []
    if body.pairs is not None:
        pairs = signal_pairs(body.counts)
        kernels.append(products[[pairs.index(pair) for pair in pair_list(count)]])
    if body.outer:
        kernels.append(products[-16:])
    assert sum(map(len, kernels)) == len(products)

    def expected(b, n, task):
        x, signals = np.array(numpy.every_field(b, n))[None], []
        if model.config.product == "kernel":
            signals = [kernel_products(x, np.stack(field_matrices(body.pairs.kernels)))]
        elif body.pairs is not None:
            signals = [inner_products(x, "upper")]
        if body.outer:
            signals.append(outer_products(x))
        layers = [*rest, layer_pair(model.heads.dense[task])]
        activation = model.config.activation
        return pnn_forward(x, signals, fields, kernels, bias, layers, activation).item()

    return expected


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("case", list(CASES))
def test_logits_are_those_of_the_un_split_form(rng, case, product):
    model = build("pnn", case, rng, product=product, batch_norm=False)
    features = batch(case, rng)
    assert_logits(model, features, oracle(model, features))


@pytest.mark.parametrize("product", PRODUCTS)
def test_context_in_the_user_tower(rng, product):
    given = {"user_context": ["page"], "activation": "tanh", "batch_norm": False}
    model, features = build("pnn", "full", rng, product=product, **given), batch("full", rng)
    assert_logits(model, features, oracle(model, features))


@pytest.mark.parametrize("product", PRODUCTS)
def test_parameter_count(rng, product):
    model = build("pnn", "criteo", rng, product=product, batch_norm=False)
    sizes = product_sizes(7, 4)
    signals = {
        "inner": sizes["inner_upper"],
        "outer": sizes["outer"],
        "both": sizes["inner_upper"] + sizes["outer"],
        "kernel": sizes["kernel"],
    }[product]
    kernels = kernel_parameters(7, 4, "full") if product == "kernel" else 0
    embeddings = (4 * 6 + 3) * 4
    assert model.count_params() == embeddings + kernels + pnn_parameters(7, 4, signals, [6, 5])
