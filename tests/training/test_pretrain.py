"""What every objective of pre-training has in common."""

import typing

import numpy as np
import pytest
import tensorflow as tf

from ctr_tf.models.srp4ctr.config import AnyObjective, FGBertConfig
from ctr_tf.models.srp4ctr.transfer import SRP4CTRConfig
from ctr_tf.schema import Schema
from ctr_tf.training.pretrain import MODELS, pretraining_model
from ctr_tf.training.pretrain_config import PretrainConfig
from ctr_tf.training.train import dtype_policy
from tests.cases import CASES, FULL
from tests.models.test_electra import known_batch
from tests.models.test_srp4ctr import GELU

UNION = typing.get_args(typing.get_args(AnyObjective)[0])
OBJECTIVES = {objective().name: objective for objective in UNION}


def test_every_objective_has_a_model():
    assert MODELS.keys() == OBJECTIVES.keys() == {"fg_bert", "electra", "s3_rec"}


def make(name, schema=FULL, objective=None, **encoder):
    config = SRP4CTRConfig(encoder={**GELU, "use_bias": True, "dropout": 0.1, **encoder})
    pretrain = PretrainConfig(objective=objective or OBJECTIVES[name]())
    return pretraining_model(schema, config, pretrain, CASES["full"].rows)


def with_parts(features=(), attributes=()):
    """The full schema with other features and attributes of behaviours."""
    schema = FULL.model_dump(exclude_unset=True)
    schema["features"] |= features
    schema["sequences"]["history"]["attributes"] |= attributes
    return Schema(**schema)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_padding_and_what_stands_there_change_no_loss(rng, name):
    """Draws aside, which follow the shape of a batch."""
    model, features = make(name), known_batch(rng)
    labels = labels_of(model, features)
    padded = {
        key: np.pad(value, [(0, 0), (0, 2)] + [(0, 0)] * (value.ndim - 2))
        for key, value in features.items()
        if key.startswith(("history", "masked", "candidates_mask"))
    }
    for key in ("history_item_id", "history_rating", "history_genres"):
        padded[key][~padded["history_mask"]] = 3
    tasks = {"fg_bert": model.tasks, "electra": ["generator"], "s3_rec": ["aap", "map"]}[name]
    own = model.losses_of(features, labels, training=False)
    wider = model.losses_of(padded, labels_of(model, padded), training=False)
    for task in tasks:
        counted = features["history_mask"]
        np.testing.assert_allclose(
            own[task].numpy()[counted], wider[task].numpy()[padded["history_mask"]], rtol=1e-4
        )


def labels_of(model, features):
    return {
        task: features[f"history_{attribute}"]
        for task, (_, attribute) in model.masked_tasks.items()
        if attribute
    }


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_losses_and_next_items_in_mixed_precision_are_finite_and_float32(rng, name, precision):
    features = known_batch(rng)
    with dtype_policy(precision):
        model = make(name, input_norm=True)
    losses = tf.function(model.losses_of)(features, labels_of(model, features))
    assert list(losses) and set(losses) == set(model.tasks)
    for loss in (*losses.values(), model.next_item(features)):
        assert loss.dtype == tf.float32 and np.isfinite(loss).all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_user_s_feature_that_has_an_item_s_table_is_no_input(rng, name):
    schema = with_parts({"favourite": {"kind": "categorical", "side": "user", "share": "item_id"}})
    model, other, features = make(name, schema), make(name), known_batch(rng)
    model.set_weights(other.get_weights())
    np.testing.assert_array_equal(model.next_item(features), other.next_item(features))


def test_an_attribute_of_a_user_s_table_is_told_as_any_other(rng):
    model = make("fg_bert", with_parts(attributes={"town": {"like": "city"}}))
    assert model.behaviours == ["rating", "town"] and model.values["town"] == 2
    features = known_batch(rng)
    features["history_town"] = np.full_like(features["history_rating"], 2)
    features["masked_behaviours"] = features["history_mask"]
    loss = model.losses_of(features, labels_of(model, features), training=False)["town"].numpy()
    # Of two values, by weights that are small yet.
    np.testing.assert_allclose(loss[features["history_mask"]], np.log(2), atol=0.1)


def test_values_without_an_order_are_drawn_evenly():
    hashed = {"kind": "categorical", "encoding": "hashed", "size": 8}
    sampled = FGBertConfig(sample_above=3, samples=3)
    model = make("fg_bert", with_parts({"item_id": hashed}), sampled)
    assert (model.heads["item_id"].ranked, model.heads["item_id"].samples) == (False, 3)
    # Of four ratings each has its number, but no rank.
    assert (model.heads["rating"].ranked, model.heads["rating"].samples) == (False, 3)
    model = make("fg_bert", objective=sampled)
    assert (model.heads["item_id"].ranked, model.heads["item_id"].samples) == (True, 3)
    # Of several values each is told by itself.
    assert model.heads["genres"].samples == 0
