"""The shared bottom against its equation, and what all multi-task heads keep to."""

import numpy as np
import pytest
from pydantic import ValidationError

from ctr_tf import registry
from ctr_tf.config import load
from ctr_tf.models.model import CTRModel
from tests.cases import HEADS, batch, build, small_config
from tests.models.tasks import assert_outputs, heads_on, networks, towers
from tests.oracles.multitask import shared_bottom_forward, shared_bottom_parameters


@pytest.mark.parametrize("given", [{}, {"tower_units": []}, {"activation": "tanh"}])
def test_logits_are_those_of_each_tower_alone(rng, given):
    heads, vector, own = heads_on("shared_bottom", rng, **given)
    network = heads.network
    (bottom,) = networks(network.bottom)
    activation = given.get("activation", "relu")
    expected = shared_bottom_forward(vector.reshape(6, 7), bottom, towers(network), activation)
    assert_outputs(heads(vector, own), expected, own)


def test_parameter_count(rng):
    plain = build("dcn_v2", "full", rng)
    model = build("dcn_v2", "full", rng, heads=HEADS["shared_bottom"])
    width = plain.heads.dense["click"].kernel.shape[0]
    expected = shared_bottom_parameters(width, [6, 5], 2, [4])
    assert model.count_params() - plain.count_params() == expected - 2 * (width + 1)


def test_the_bodys_own_logit_is_added(rng):
    model = build("deepfm", "full", rng, heads=HEADS["shared_bottom"])
    for layer in (model.heads.network.logits,):
        for variable in layer.weights:
            variable.assign(np.zeros(variable.shape))
    logits = model(batch("full", rng))
    np.testing.assert_array_equal(logits["click"], logits["buy"])
    assert np.ptp(logits["click"].numpy()) > 1e-2


def test_default_heads_are_not_written_out_and_others_are():
    assert "heads" not in small_config("dcn_v2").model_dump(mode="json")
    config = small_config("dcn_v2", heads=HEADS["shared_bottom"])
    again = registry.get("dcn_v2").config(**config.model_dump(mode="json"))
    assert again == config and again.heads.kind == "shared_bottom"


def test_a_model_saved_before_heads_had_a_name_is_read(rng):
    config = build("dcn_v2", "criteo", rng).get_config()
    assert "heads" not in config["model"]
    names = [v.path for v in CTRModel.from_config(config).heads.variables]
    assert names == ["dcn_v2/heads/click/kernel", "dcn_v2/heads/click/bias"]


def test_mistakes(tmp_path):
    with pytest.raises(ValidationError, match="unit"):
        small_config("dcn_v2", heads={"kind": "shared_bottom", "unit": [3]})
    path = tmp_path / "x.yaml"
    text = "schema:\n  features: {item: {kind: categorical}}\n  tasks: {click: {column: c}}\n"
    path.write_text(
        text + "model:\n  name: dcn_v2\n  heads:\n    kind: shared_bottom\n    unit: [3]\n"
    )
    with pytest.raises(ValueError, match=r"yaml:8: model.heads.unit: unknown key; .*'units'"):
        load(path)
    path.write_text(text + "model:\n  name: dcn_v2\n  heads:\n    kind: shared\n")
    with pytest.raises(ValueError, match=r"yaml:6: model.heads: .*'shared'.*'shared_bottom'"):
        load(path)
