"""What every registered architecture keeps to, over every kind of log it is defined for."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctr_tf import registry
from ctr_tf.layers.attention.buckets import bucketed
from ctr_tf.layers.packing import padded
from ctr_tf.models.model import CTRModel
from ctr_tf.models.parts import in_parts
from ctr_tf.schema import CANDIDATES_MASK
from tests.cases import CASES, batch, build, feature_axes, labels_of, tile
from tests.contracts.conftest import PAIRS
from tests.contracts.steps import assert_same, both_ways, step

OVER_ALL_FEATURES = pytest.mark.parametrize(
    "pair", [own for own in PAIRS if own[1] == "full"], ids="-".join, indirect=True
)
"""Over the log that has every kind of feature alone, where another one would show no more."""
NEED_SEQUENCE = [name for name, e in registry.entries().items() if e.body.needs_sequence]


def pick(features, specs):
    return {spec.name: features[spec.name] for spec in specs if spec.name in features}


def two_towers(model, features):
    request_mask = np.ones(len(features[CANDIDATES_MASK]), bool)
    state = model.user_tower(pick({**features, "request_mask": request_mask}, model.user_inputs))
    return model.item_tower(
        state, pick(features, model.context_inputs), pick(features, model.item_inputs)
    )


def test_folded_row_wise_and_two_tower_outputs_agree(model, case, rng):
    features = batch(case, rng)
    folded = {task: value.numpy() for task, value in model(features).items()}
    rows, positions = tile(case, features)
    row_wise, towers = model(rows), two_towers(model, features)
    assert list(folded) == list(model.heads.outputs)
    assert list(folded)[: len(model.schema.tasks)] == list(CASES[case].schema.tasks)
    for task, value in folded.items():
        assert value.shape == features[CANDIDATES_MASK].shape
        assert np.ptp(value[features[CANDIDATES_MASK]]) > 1e-2
        np.testing.assert_allclose(row_wise[task][:, 0], value[tuple(positions.T)], atol=1e-5)
        np.testing.assert_allclose(towers[task], value, atol=1e-5)


@OVER_ALL_FEATURES
def test_candidates_in_parts_score_as_all_in_one(model, case, rng):
    """As exports trace it, for requests of any size; parts and requests may have no candidate."""
    features = batch(case, rng)
    specs = {n: tf.TensorSpec((None,) * np.ndim(x), x.dtype) for n, x in features.items()}
    with bucketed(1):
        whole = tf.function(model).get_concrete_function(specs)
    with bucketed(1), in_parts(3):
        in_three = tf.function(lambda own: model(own)).get_concrete_function(specs)
    candidate = {spec.name for spec in model.item_inputs}
    requests, most = features[CANDIDATES_MASK].shape
    for count in (0, 1, most):
        cut = {n: x[:, :count] if n in candidate else x for n, x in features.items()}
        given = {n: tf.constant(x) for n, x in cut.items()}
        found, expected = in_three(given), whole(given)
        assert list(found) == list(expected) == list(model.heads.outputs)
        for task, value in expected.items():
            assert value.shape == (requests, count)
            np.testing.assert_allclose(found[task], value, atol=1e-5)


@OVER_ALL_FEATURES
def test_training_takes_a_batch_as_a_whole(model, case, rng):
    features = batch(case, rng)
    labels = labels_of(case, features, rng)
    expected = step(model, features, labels, training=True)
    with in_parts(2):
        found = step(model, features, labels, training=True)
    for one, other in zip(found, expected):
        assert_same(one, other, 1e-6)


def test_request_shaped_and_row_wise_training_agree(model, case, rng):
    features = batch(case, rng)
    shaped, row_wise, at = both_ways(model, case, features, rng)
    (outputs, gradients, statistics), (row_outputs, row_gradients, row_statistics) = (
        shaped,
        row_wise,
    )
    for task, value in outputs.items():
        np.testing.assert_allclose(row_outputs[task][:, 0], value[at], atol=1e-4)
    assert_same(row_gradients, gradients, 1e-4)
    assert_same(row_statistics, statistics, 1e-4)


def repadded(case, features, labels, rng, longer):
    """The same log with other values at padded positions, and with longer padded axes."""
    case = CASES[case]
    grow = {"N": longer, "L": longer, "M": longer}
    masks = {"N": CANDIDATES_MASK, "L": "history_mask"}

    def lengthen(value, axes):
        return np.pad(value, [(0, grow.get(axis, 0)) for axis in axes])

    made = {}
    for spec in case.schema.inputs:
        axes = feature_axes(case.schema, spec)
        made[spec.name] = lengthen(features[spec.name], axes)
    for spec in case.schema.inputs:
        value, axes = made[spec.name], feature_axes(case.schema, spec)
        if spec.dtype == "bool" or len(axes) < 2 or axes[1] not in masks:
            continue
        valid = made[masks[axes[1]]].reshape(value.shape[:2] + (1,) * (value.ndim - 2))
        if spec.dtype == "float32":
            garbage = rng.normal(0, 1e3, value.shape).astype("float32")
        else:
            encoder = spec.feature and case.schema.encoder(spec.feature, spec.sequence)
            count = case.rows.get(encoder) or len(case.vectors.get(encoder, range(99)))
            garbage = rng.integers(0, count, value.shape).astype("int32")
        made[spec.name] = np.where(valid, value, garbage)
    return made, {task: lengthen(value, ("B", "N")) for task, value in labels.items()}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("longer", [0, 2])
def test_padding_changes_nothing(model, case, rng, training, longer):
    features = batch(case, rng)
    labels = labels_of(case, features, rng)
    expected, gradients, statistics = step(model, features, labels, training)
    made, labels = repadded(case, features, labels, rng, longer)
    outputs, made_gradients, made_statistics = step(model, made, labels, training)
    valid = np.nonzero(features[CANDIDATES_MASK])
    for task, value in expected.items():
        np.testing.assert_allclose(outputs[task][valid], value[valid], atol=1e-5)
    assert_same(made_gradients, gradients, 1e-4)
    assert_same(made_statistics, statistics, 1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_packed_and_padded_forms_agree(model, case, rng, training):
    features = batch(case, rng)
    labels = labels_of(case, features, rng)
    outputs, gradients, statistics = step(model, features, labels, training)
    with padded():
        others = step(model, features, labels, training)
    valid = np.nonzero(features[CANDIDATES_MASK])
    for task, value in outputs.items():
        np.testing.assert_allclose(others[0][task][valid], value[valid], atol=1e-5)
    assert_same(others[1], gradients, 1e-4)
    assert_same(others[2], statistics, 1e-5)


def last_rows(case):
    """The last row of the table of each index input."""
    case, found = CASES[case], {}
    for spec in case.schema.inputs:
        encoder = spec.feature and case.schema.encoder(spec.feature, spec.sequence)
        if encoder in case.rows:
            found[spec.name] = case.rows[encoder] - 1
    return found


def poison_last_rows(model, case):
    """Makes the last row of every table NaN."""
    tables = model.embedder.tables
    for table, (stack, start) in tables.place.items():
        last = start + CASES[case].rows[table.split("/")[0]] - 1
        tables.weights[stack].value[last].assign([np.nan] * tables.specs[table].width)


@pytest.mark.parametrize("training", [False, True])
def test_nan_at_padded_positions_reaches_nothing(model, case, rng, training):
    last = last_rows(case)
    features = batch(case, rng)
    for name, row in last.items():
        features[name] = np.where(features[name] == row, 1, features[name]).astype("int32")
    labels = labels_of(case, features, rng)
    expected, gradients, statistics = step(model, features, labels, training)
    poisoned = dict(features)
    masks = {"N": features[CANDIDATES_MASK], "L": features.get("history_mask")}
    for spec in CASES[case].schema.inputs:
        value, mask = features[spec.name], masks.get("".join(spec.axes[1:2]))
        if mask is None or not (spec.name in last or spec.dtype == "float32"):
            continue
        valid = mask.reshape(value.shape[:2] + (1,) * (value.ndim - 2))
        poisoned[spec.name] = np.where(valid, value, last.get(spec.name, np.nan)).astype(
            value.dtype
        )
    poison_last_rows(model, case)
    outputs, found_gradients, found_statistics = step(model, poisoned, labels, training)
    valid = np.nonzero(features[CANDIDATES_MASK])
    for task, value in expected.items():
        np.testing.assert_allclose(outputs[task][valid], value[valid], atol=1e-5)
    assert_same(found_gradients, gradients, 1e-4)
    for stack in model.embedder.tables.weights:
        # One that is not trained is poisoned itself.
        for own in (found_statistics, statistics):
            own.pop(stack.path, None)
    assert_same(found_statistics, statistics, 1e-5)


def test_where_missing_values_stand_in_a_list_changes_nothing(model, case, rng):
    features = batch(case, rng)
    moved = dict(features)
    for spec in CASES[case].schema.inputs:
        if feature_axes(CASES[case].schema, spec)[-1] == "M":
            moved[spec.name] = features[spec.name][..., ::-1]
    for task, value in model(features).items():
        np.testing.assert_allclose(model(moved)[task], value, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_a_request_without_candidates_counts_for_nothing(model, case, rng, training):
    features = batch(case, rng)
    features[CANDIDATES_MASK][2] = False
    labels = labels_of(case, features, rng)
    outputs, gradients, statistics = step(model, features, labels, training)
    others = np.arange(len(features[CANDIDATES_MASK])) != 2
    left = [{name: v[others] for name, v in part.items()} for part in (features, labels)]
    left_outputs, left_gradients, left_statistics = step(model, *left, training)
    for task, value in outputs.items():
        assert np.isfinite(value).all()
        np.testing.assert_allclose(value[others], left_outputs[task], atol=1e-5)
    assert_same(gradients, left_gradients, 1e-4)
    assert_same(statistics, left_statistics, 1e-5)


def test_a_batch_of_padding_alone_is_finite(model, case, rng):
    features = {name: np.zeros_like(value) for name, value in batch(case, rng).items()}
    labels = labels_of(case, features, rng)
    before = {v.path: v.numpy() for v in model.non_trainable_variables}
    outputs, gradients, statistics = step(model, features, labels, training=True)
    assert all(np.isfinite(value).all() for value in outputs.values())
    for path, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, np.zeros_like(gradient), err_msg=path)
    assert_same(statistics, before, 1e-7)


def test_gradients_reach_every_weight(model, case, rng):
    features = batch(case, rng, requests=24, filled=True)
    # Not of training: batch statistics cancel the bias of the dense layer before them.
    _, gradients, _ = step(model, features, labels_of(case, features, rng), training=False)
    assert len(gradients) == len(model.trainable_variables)
    for path, gradient in gradients.items():
        assert gradient is not None, path
        assert np.abs(gradient).max() > 1e-5, path


def test_state_is_as_its_spec_says(model, case, rng):
    features = batch(case, rng, requests=6, behaviours=7)
    features["request_mask"] = np.ones(6, bool)
    user = pick(features, model.user_inputs)
    state = model.user_tower({name: tf.constant(value) for name, value in user.items()})
    spec = model.state_spec()
    assert state.keys() == spec.keys()
    for name, (shape, dtype) in spec.items():
        part = state[name]
        assert isinstance(part, tf.Tensor) and part.shape[0] == 6
        assert shape[0] is None and len(shape) == len(part.shape)
        assert all(a in (None, b) for a, b in zip(shape, part.shape)), (name, shape)
        assert dtype == part.dtype.name


def test_state_does_not_depend_on_candidates_nor_item_tower_on_users(model):
    names = [
        {spec.name for spec in specs}
        for specs in (model.user_inputs, model.context_inputs, model.item_inputs)
    ]
    assert not (names[0] & names[1] or names[0] & names[2] or names[1] & names[2])
    assert set.union(*names) - {"request_mask"} == {s.name for s in model.schema.inputs}


def test_graph_with_unknown_sizes_agrees(model, case, rng):
    features = batch(case, rng)
    specs = {
        spec.name: tf.TensorSpec(
            [None] * features[spec.name].ndim, features[spec.name].dtype, spec.name
        )
        for spec in model.schema.inputs
    }
    call = tf.function(model, input_signature=[specs])
    for fed in (features, batch(case, rng, requests=2, behaviours=3, values=2)):
        expected = model(fed)
        for task, value in call({k: tf.constant(v) for k, v in fed.items()}).items():
            np.testing.assert_allclose(value, expected[task], atol=1e-5)


def gathers(function, variable):
    """Gathers from a variable in a traced function."""
    graph = tf.function(function).get_concrete_function().graph
    handles = [inner for outer, inner in graph.captures if outer is variable.value.handle]
    return sum(
        op.type == "ResourceGather" and any(op.inputs[0] is handle for handle in handles)
        for op in graph.get_operations()
    )


def tables_of(model, sides):
    """The tables that features of these sides are rows of, behaviours among the user's."""
    schema = model.schema
    encoders = {
        name: schema.encoder(name) for side in sides for name in model.embedder.side_features[side]
    }
    if "user" in sides:
        for n, sequence in schema.sequences.items():
            encoders |= {f"{n}.{a}": schema.encoder(a, n) for a in sequence.attributes}
    found = set(encoders.values())
    for view, names in model.embedder.views.items():
        found |= {f"{encoders[name]}/{view}" for name in names if name in encoders}
    return found & set(model.embedder.tables.specs)


@OVER_ALL_FEATURES
def test_the_model_reads_each_stack_once_and_so_does_each_tower(model, case, rng):
    features = {name: tf.constant(v) for name, v in batch(case, rng).items()}
    features["request_mask"] = tf.ones(5, tf.bool)
    inputs = [
        pick(features, specs)
        for specs in (model.user_inputs, model.context_inputs, model.item_inputs)
    ]
    state = model.user_tower(inputs[0])
    calls = {
        ("user", "context", "candidate"): lambda: model(features, training=True),
        ("user",): lambda: model.user_tower(inputs[0]),
        ("context", "candidate"): lambda: model.item_tower(state, *inputs[1:]),
    }
    tables = model.embedder.tables
    for sides, call in calls.items():
        wanted = {tables.place[name][0] for name in tables_of(model, sides)}
        found = [gathers(call, stack) for stack in tables.weights]
        assert found == [int(number in wanted) for number in range(len(found))], sides


def test_saved_and_loaded_is_equal(model, case, rng, tmp_path):
    features = batch(case, rng)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.schema.fingerprint == model.schema.fingerprint
    assert loaded.config == model.config and loaded.rows == model.rows
    assert [v.path for v in loaded.variables] == [v.path for v in model.variables]
    for task, value in model(features).items():
        np.testing.assert_array_equal(loaded(features)[task], value)


def test_a_config_makes_the_model_anew_with_weights_of_paths_of_their_own(model):
    config = model.get_config()
    again = CTRModel.from_config(config)
    assert again.get_config() == config
    assert [v.shape for v in again.variables] == [v.shape for v in model.variables]
    paths = [variable.path for variable in model.variables]
    assert [variable.path for variable in again.variables] == paths
    assert len(set(paths)) == len(paths)
    assert all(path.startswith(f"{model.name}/") for path in paths)


@OVER_ALL_FEATURES
def test_loss_falls_on_planted_data(model, case, rng):
    for stack in model.embedder.tables.weights:
        stack.assign(0.1 * stack.numpy())
    features = batch(case, rng, requests=64)
    mask = features[CANDIDATES_MASK]
    labels = {
        task: (features["item_id"] % 2 == 0).astype("float32") * mask for task in model.heads.tasks
    }
    weight = mask.astype("float32") / mask.sum()
    optimizer = keras.optimizers.Adam(0.03)
    optimizer.build(model.trainable_variables)

    @tf.function
    def train():
        with tf.GradientTape() as tape:
            losses = model.heads.losses_of(model(features, training=True), labels)
            loss = sum(tf.reduce_sum(value * weight) for value in losses.values())
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        return loss

    history = [float(train()) for _ in range(40)]
    assert history[-1] < 0.4 * history[0]


@pytest.mark.parametrize("name", NEED_SEQUENCE)
@pytest.mark.parametrize("case", ["criteo", "census"])
def test_models_of_sequences_say_so(name, case, rng):
    with pytest.raises(ValueError, match=f"{name} needs a behaviour sequence; the schema has none"):
        build(name, case, rng)


@pytest.mark.parametrize("case, side", [("criteo", "user"), ("census", "candidate")])
def test_a_model_of_both_sides_says_which_one_it_lacks(case, side, rng):
    rule = f"two_tower needs a {side} feature; the schema has none"
    with pytest.raises(ValueError, match=rule):
        build("two_tower", case, rng, heads={"kind": "binary"})


def test_every_entry_says_what_it_is():
    for name, entry in registry.entries().items():
        assert entry.name == name and entry.config().name == name
        assert "eq. " in entry.paper
        assert entry.body.__doc__ and entry.config.__doc__


def test_unknown_model_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="no model 'dcn_v3'; did you mean 'dcn_v2'?"):
        registry.get("dcn_v3")


def test_every_product_of_the_candidates_alone_is_read(model, case, rng, monkeypatch):
    made, read = {}, set()

    class Noting(dict):
        def __getitem__(self, name):
            read.add(name)
            return super().__getitem__(name)

    products = model.body.candidate_products

    def noting(fields, training):
        made.update(products(fields, training))
        return Noting(made)

    monkeypatch.setattr(model.body, "candidate_products", noting)
    model(batch(case, rng))
    assert set(made) == read


def test_candidates_that_were_encoded_before_score_alike(model, case, rng):
    features = batch(case, rng)
    own = pick(features, model.item_inputs)
    request_mask = np.ones(len(features[CANDIDATES_MASK]), bool)
    state = model.user_tower(pick({**features, "request_mask": request_mask}, model.user_inputs))
    context, mask = pick(features, model.context_inputs), features[CANDIDATES_MASK]
    vectors = model.item_encoder(own)
    assert vectors.shape == (*mask.shape, model.item_encoding.width)
    found = model.encoded_item_tower(state, context, vectors, mask)
    for task, value in model.item_tower(state, context, own).items():
        np.testing.assert_allclose(found[task], value, atol=1e-6)
