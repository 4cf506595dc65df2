import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss, roc_auc_score

from ctr_tf.data.config import InputConfig
from ctr_tf.data.input import Input
from ctr_tf.data.records import CorruptRecordError
from ctr_tf.models.interaction.deepfm import DeepFMConfig
from ctr_tf.models.model import CTRModel
from ctr_tf.optimizers.build import build_optimizer
from ctr_tf.schema import Schema
from ctr_tf.training.checkpoints import CheckpointError, restore
from ctr_tf.training.config import TrainConfig
from ctr_tf.training.progress import Mean, Progress
from ctr_tf.training.result import TrainingDivergedError
from ctr_tf.training.step import TrainStep
from ctr_tf.training.strategy import training_batches
from ctr_tf.training.train import train
from tests.prepared import write_prepared
from tests.training.memory_input import ITEMS, SCHEMA, MemoryInput, dcn, din
from tests.training.processes import history

SGD = {"name": "sgd"}


def run(factory, data, config, folder, **kwargs):
    """Trains; returns the result and the model's final weights."""
    models = []
    result = train(
        lambda: models.append(factory()) or models[0],
        data, config, folder, progress=False, **kwargs,
    )  # fmt: skip
    return result, [variable.numpy() for variable in models[0].variables]


def test_the_first_loss_is_the_mean_over_the_batch_s_candidates(tmp_path):
    data = MemoryInput(requests=8, validation=0)
    run(dcn, data, TrainConfig(seed=3, task_weights={"click": 2.0}), tmp_path)
    keras.utils.set_random_seed(3)
    model = dcn()
    batch = next(iter(data.training(0)))
    kept = batch["weights"]["click"].numpy() > 0
    scores = model.scores(model(batch["features"]))["click"].numpy()[kept]
    labels = batch["labels"]["click"].numpy()[kept]
    record = history(tmp_path)[0]
    assert kept.sum() == 20
    assert record["loss"] == pytest.approx(2 * log_loss(labels, scores), abs=1e-6)


def test_a_checkpoint_of_before_tasks_had_losses_of_their_own_is_read():
    old = json.loads(Progress(step=3, recent={"loss": Mean(1.5, 2)}).to_json())
    old["recent"] = old["recent"]["loss"]
    found = Progress.from_json(json.dumps(old))
    assert (found.step, found.recent["loss"].value) == (3, 0.75)


def test_training_takes_the_inputs_training_split(tmp_path):
    data = MemoryInput(requests=24, validation=6, batch_size=4)
    data.training_split = "validation"
    result, _ = run(dcn, data, TrainConfig(epochs=2), tmp_path)
    # Two batches an epoch, of four and of two requests; `train` has six.
    assert result.steps == 4 and result.epochs == 2


def test_accumulated_batches_equal_one_large_batch(tmp_path):
    config = {"learning_rate": 0.3, "dense": SGD, "epochs": 2, "log_every": 1}
    factory = lambda: dcn(l2=0.01)
    # 28 requests: the large batches hold 8, 8, 8 and 4, the small ones 4 each.
    large, expected = run(
        factory, MemoryInput(28, 0, batch_size=8), TrainConfig(**config), tmp_path / "large"
    )
    small, found = run(
        factory,
        MemoryInput(28, 0, batch_size=4),
        TrainConfig(**config, accumulate_steps=2, steps_per_call=3),
        tmp_path / "small",
    )
    assert small.steps == large.steps == 8
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    losses = [[r["loss"] for r in history(tmp_path / name)] for name in ("small", "large")]
    np.testing.assert_allclose(*losses, rtol=0, atol=1e-6)


def test_steps_are_traced_once_whatever_the_shapes_and_their_number():
    data, model = MemoryInput(30, batch_size=3), dcn()
    optimizer = build_optimizer(model, TrainConfig().optimizers(10))
    step = TrainStep(model, optimizer, tf.distribute.get_strategy(), {})
    shapes = {tuple(b["features"]["item_id"].shape) for b in data.training(0)}
    assert len(shapes) > 1
    for epoch, steps in ((0, 4), (0, 1), (1, 2)):
        iterator = training_batches(data, tf.distribute.get_strategy(), epoch, skip=6)
        stats = step(iterator, steps)
        assert stats.losses.shape == (steps,)
    assert step.traces == 1
    assert not stats.stop and step(iterator, 1, stop=True).stop


@pytest.mark.parametrize("rows", ["touched", "all"])
def test_the_rows_of_a_batch_alone_are_regularised_and_the_norm_is_reported(rows):
    data, model = MemoryInput(8), dcn(l2=0.5)
    config = TrainConfig(learning_rate=0.1, tables={"name": "sgd", "rows": rows})
    optimizer = build_optimizer(model, config.optimizers(1))
    (batch,) = data.training(0)
    features = batch["features"]
    touched = np.unique(np.concatenate([features["item_id"], features["history_item_id"]], axis=1))
    before = model.embedder.tables.table("item_id")
    with tf.GradientTape() as tape:
        losses = model.heads.losses_of(model(features, training=True), batch["labels"])
        loss = tf.reduce_sum(losses["click"] * batch["weights"]["click"]) / 20
    gradient = tape.gradient(loss, model.embedder.tables.weights[0].value)
    gradient = tf.convert_to_tensor(gradient).numpy()
    strategy = tf.distribute.get_strategy()
    stats = TrainStep(model, optimizer, strategy, {})(training_batches(data, strategy, 0, 0), 1)
    assert 0 < len(touched) < ITEMS and stats.impressions[0] == 20
    norm = np.square(before[touched]).sum()
    assert stats.regularisation[0] == pytest.approx(0.5 * norm, rel=1e-5)
    gradient[touched] += 2 * 0.5 * before[touched]
    np.testing.assert_allclose(
        model.embedder.tables.table("item_id"), before - 0.1 * gradient, atol=1e-6
    )


def test_validation_metrics_and_the_best_checkpoint(tmp_path):
    data = MemoryInput()
    config = TrainConfig(epochs=3, learning_rate=0.03, validate_every=4)
    result, final = run(dcn, data, config, tmp_path)
    validations = [r for r in history(tmp_path) if r["split"] == "validation"]
    assert [r["step"] for r in validations] == [4, 8, 12, 16, 18]
    best = max(validations, key=lambda r: r["click_auc"])
    assert result.metric == "click_auc" and result.best_value == best["click_auc"]
    assert result.validation["loss"] == validations[-1]["loss"]
    model = dcn()
    assert restore(model, tmp_path) == result.best_step == best["step"]
    rows = data.rows["validation"]
    kept = rows["weights"]["click"] > 0
    scores = model.scores(model(rows["features"]))["click"].numpy()
    labels = rows["labels"]["click"]
    assert roc_auc_score(labels[kept], scores[kept]) == pytest.approx(best["click_auc"], abs=1e-9)
    assert log_loss(labels[kept], scores[kept]) == pytest.approx(best["loss"], abs=1e-6)
    areas, counts = [], []
    for user in np.unique(rows["ids"]["user"]):
        own = kept & (rows["ids"]["user"] == user)[:, None]
        if len(set(labels[own])) == 2:
            areas.append(roc_auc_score(labels[own], scores[own]))
            counts.append(own.sum())
    assert np.average(areas, weights=counts) == pytest.approx(best["click_gauc"], abs=1e-9)
    assert restore(model, tmp_path, "last") == 18
    for a, b in zip([v.numpy() for v in model.variables], final, strict=True):
        np.testing.assert_array_equal(a, b)


def test_restore_names_what_is_wrong(tmp_path):
    with pytest.raises(CheckpointError, match="no best checkpoint; train first"):
        restore(dcn(), tmp_path)
    with pytest.raises(ValueError, match="best or last, not 'first'"):
        restore(dcn(), tmp_path, "first")
    run(dcn, MemoryInput(8, 0), TrainConfig(), tmp_path)
    with pytest.raises(CheckpointError, match="the model's"):
        restore(dcn(width=6), tmp_path)
    with pytest.raises(CheckpointError, match="variables, the model has"):
        restore(din(), tmp_path)


def test_early_stopping(tmp_path):
    early = {"metric": "loss", "patience": 2, "min_delta": 100.0}
    result, _ = run(dcn, MemoryInput(16), TrainConfig(epochs=9, early_stopping=early), tmp_path)
    assert result.stopped_early and result.epochs == 3 and result.best_step == 2
    # A stopped run stays stopped.
    again, _ = run(dcn, MemoryInput(16), TrainConfig(epochs=9, early_stopping=early), tmp_path)
    assert again.steps == 6


def test_early_stopping_on_gauc(tmp_path):
    early = {"metric": "gauc", "patience": 1}
    config = TrainConfig(epochs=40, learning_rate=0.1, early_stopping=early)
    result, _ = run(dcn, MemoryInput(16), config, tmp_path)
    found = [r["click_gauc"] for r in history(tmp_path) if r["split"] == "validation"]
    # The last one alone is no better than all before it.
    best = [max(found[: i + 1]) for i in range(len(found))]
    assert all(a < b for a, b in zip(best[:-2], best[1:-1])) and found[-1] <= best[-2]
    assert result.stopped_early and result.metric == "click_gauc"
    assert result.best_value == best[-2] and result.best_step == 2 * (len(found) - 1)


def test_without_a_defined_metric_the_latest_weights_are_the_best(tmp_path):
    data = MemoryInput(16, 4)
    data.rows["validation"]["labels"]["click"][:] = 0
    result, _ = run(dcn, data, TrainConfig(epochs=2), tmp_path)
    assert result.best_value is None and result.best_step == 4
    assert restore(dcn(), tmp_path) == 4


def test_a_validation_split_without_labels_has_no_loss(tmp_path):
    data = MemoryInput(8, 4)
    data.rows["validation"]["weights"]["click"][:] = 0
    result, _ = run(dcn, data, TrainConfig(), tmp_path / "a")
    assert result.validation == {"loss": None, "click_auc": None, "click_gauc": None}
    config = TrainConfig(early_stopping={"metric": "loss"})
    with pytest.raises(ValueError, match="loss is undefined at step 1: no labelled candidate"):
        run(dcn, data, config, tmp_path / "b")


def test_an_undefined_gauc_is_none_and_stops_no_training_on_it(tmp_path):
    data = MemoryInput(16, users=False)
    config = TrainConfig(early_stopping={"metric": "gauc"})
    with pytest.raises(ValueError, match="click_gauc is undefined at step 2: no user id"):
        run(dcn, data, config, tmp_path / "b")


def test_what_a_config_asks_for_must_exist(tmp_path):
    with pytest.raises(ValueError, match="early_stopping needs a validation split"):
        run(dcn, MemoryInput(8, 0), TrainConfig(early_stopping={}), tmp_path)
    with pytest.raises(ValueError, match="no metric 'buy_auc'; did you mean 'auc'"):
        config = TrainConfig(early_stopping={"metric": "buy_auc"})
        run(dcn, MemoryInput(8), config, tmp_path)
    with pytest.raises(ValueError, match="train.task_weights.buy: no task 'buy'; tasks: click"):
        run(dcn, MemoryInput(8), TrainConfig(task_weights={"buy": 1}), tmp_path)


def test_keras_callbacks_work(tmp_path):
    seen = []
    callbacks = [
        keras.callbacks.EarlyStopping("val_click_auc", mode="max", patience=1, min_delta=1.0),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.25 / (epoch + 1)),
        keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: seen.append(f"begin {epoch}"),
            on_train_batch_end=lambda batch, logs: seen.append(batch),
            on_epoch_end=lambda epoch, logs: seen.append(sorted(logs)),
        ),
    ]
    result, _ = run(
        dcn, MemoryInput(24), TrainConfig(epochs=9, log_every=3), tmp_path, callbacks=callbacks
    )
    rates = ["learning_rate_dense", "learning_rate_tables"]
    logs = [*rates, "loss", "val_click_auc", "val_click_gauc", "val_loss"]
    assert seen == ["begin 0", 0, 1, 2, logs, "begin 1", 0, 1, 2, logs]
    assert result.stopped_early and result.steps == 6
    trained = [r for r in history(tmp_path) if r["split"] == "train"]
    assert [r["learning_rate"] for r in trained] == [0.25, 0.125]
    assert [r["tables_learning_rate"] for r in trained] == [0.25, 0.125]


def test_each_group_has_its_own_optimiser(tmp_path):
    config = TrainConfig(
        learning_rate=0.1, dense={**SGD, "warmup_steps": 4}, tables={"name": "adagrad"},
        log_every=1, max_steps=2,
    )  # fmt: skip
    _, weights = run(dcn, MemoryInput(), config, tmp_path)
    records = [r for r in history(tmp_path) if r["split"] == "train"]
    # The rate of the next update: (s + 1) / 4 of the peak after s = 1 and s = 2 updates.
    assert [r["learning_rate"] for r in records] == pytest.approx([0.05, 0.075])
    assert [r["tables_learning_rate"] for r in records] == pytest.approx([0.1, 0.1])
    assert records[-1]["step"] == 2


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains(tmp_path, precision):
    config = TrainConfig(precision=precision, epochs=2, learning_rate=0.03)
    models = []
    result, weights = run(
        lambda: models.append(din()) or models[0], MemoryInput(16, 8), config, tmp_path
    )
    assert models[0].body.mlp.compute_dtype == precision.removeprefix("mixed_")
    assert all(w.dtype != np.float16 and np.isfinite(w.astype("float32")).all() for w in weights)
    assert keras.config.dtype_policy().name == "float32"
    keras.utils.set_random_seed(config.seed)
    moved = [np.abs(a - b.numpy()).max() for a, b in zip(weights, din().variables)]
    assert max(moved) > 0.01
    assert result.steps == 4


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    data = MemoryInput(24)
    order = np.random.default_rng((data.seed, 1)).permutation(24)
    config = TrainConfig(epochs=3, steps_per_call=3, validate_every=100)
    # The second batch of the second epoch holds a number that is none.
    data.rows["train"]["features"]["age"][order[8]] = np.nan
    clean = np.random.default_rng((data.seed, 0)).permutation(24).tolist().index(order[8]) // 8
    with pytest.raises(TrainingDivergedError) as error:
        run(dcn, data, config, tmp_path)
    assert error.value.step == clean + 1 and error.value.checkpoint is None
    data.rows["train"]["features"]["age"][order[8]] = 0.0
    run(dcn, data, config.model_copy(update={"epochs": 1}), tmp_path)
    data.rows["train"]["features"]["age"][order[8]] = np.nan
    with pytest.raises(TrainingDivergedError, match="the loss nan is not finite") as error:
        run(dcn, data, config, tmp_path)
    assert error.value.step == 5
    assert error.value.requests == [f"r{i}" for i in order[8:13]]
    assert error.value.checkpoint.endswith("checkpoints/last/ckpt-1")
    model = dcn()
    assert restore(model, tmp_path, "last") == 3
    assert all(np.isfinite(v.numpy()).all() for v in model.variables)


def test_a_gradient_that_is_not_finite_stops_at_its_own_step(tmp_path):
    data = MemoryInput(24)
    order = np.random.default_rng((data.seed, 0)).permutation(24)
    data.rows["train"]["features"]["age"] = np.full(24, 4.0, "float32")
    data.rows["train"]["features"]["age"][order[8]] = 0.0

    def factory():
        """The root of an age of 0 is finite, its gradient is not."""
        model = dcn()
        user, bias = model.embedder.user, model.heads.dense["click"].bias

        def rooted(features, weight):
            age = keras.ops.sqrt(features["age"] * (1 + bias[0]))
            return user({**features, "age": age}, weight)

        model.embedder.user = rooted
        return model

    with pytest.raises(TrainingDivergedError, match="step 2: the gradient is not finite") as error:
        run(factory, data, TrainConfig(steps_per_call=3), tmp_path)
    assert error.value.requests == [f"r{i}" for i in order[8:13]]


def test_an_exploding_loss_and_weights_that_are_not_finite_stop_the_run(tmp_path):
    with pytest.raises(TrainingDivergedError, match="step 1: .*exceeds max_loss 0.01"):
        run(dcn, MemoryInput(16), TrainConfig(max_loss=0.01), tmp_path)
    config = TrainConfig(max_steps=1, learning_rate=3e38, dense=SGD)
    with pytest.raises(TrainingDivergedError, match="step 1: weight .* is not finite"):
        run(lambda: dcn(l2=100.0), MemoryInput(16), config, tmp_path)
    assert not list((tmp_path / "checkpoints").glob("*/ckpt*"))


def test_a_prepared_folder_trains_every_request(tmp_path):
    schema = Schema(**SCHEMA.model_dump())
    rng = np.random.default_rng(0)
    requests = [
        {
            "id": f"r{i}", "user": f"u{i % 5}", "time": i,
            "features": {
                "age": float(i),
                "item_id": [f"i{x}" for x in rng.integers(0, 9, 1 + i % 3)],
                "history_item_id": [f"i{x}" for x in rng.integers(0, 9, i % 4)],
            },
            "labels": {"click": [float(x) for x in rng.integers(0, 2, 1 + i % 3)]},
        }
        for i in range(40)
    ]  # fmt: skip
    write_prepared(tmp_path / "data", schema, {"train": requests[:30], "validation": requests[30:]})
    data = Input(tmp_path / "data", schema, InputConfig(batch_size=8), seed=1)
    config = DeepFMConfig(embedding={"width": 4}, units=[8])
    factory = lambda: CTRModel(schema, config, data.preprocessor.rows)
    result, _ = run(factory, data, TrainConfig(epochs=2, log_every=2), tmp_path / "run")
    assert result.steps == 2 * data.batches("train") and result.epochs == 2
    assert 0 < result.validation["click_auc"] < 1 and 0 < result.validation["click_gauc"] < 1
    assert ITEMS > data.preprocessor.rows["item_id"] >= 9


def test_a_corrupt_record_met_in_training_is_named(tmp_path):
    schema = Schema(
        features={"item_id": {"kind": "categorical"}}, tasks={"click": {"column": "click"}}
    )
    requests = [
        {"id": f"r{i}", "features": {"item_id": ["a", "b"]}, "labels": {"click": [0.0, 1.0]}}
        for i in range(8)
    ]
    write_prepared(tmp_path / "data", schema, {"train": requests}, 1, "none")
    data = Input(tmp_path / "data", schema, InputConfig(batch_size=4), seed=1)
    path = next((tmp_path / "data/train").iterdir())
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    config = DeepFMConfig(embedding={"width": 4}, units=[8])
    factory = lambda: CTRModel(schema, config, data.preprocessor.rows)
    with pytest.raises(CorruptRecordError, match="tfrecord: record 0: .*checksum"):
        with data.naming_corruption("train"):
            run(factory, data, TrainConfig(), tmp_path / "run")
