"""Parity as a job: a server and its reference agree, or the feature that differs is named."""

import json
import re
import shlex
import shutil
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console
from tensorflow_serving.apis import prediction_log_pb2

import serving.model
from ctr_tf.data.records import RecordWriter
from ctr_tf.evaluation.predictions import write_shard
from ctr_tf.export.self_check import score_in_process
from ctr_tf.schema import Keys, Schema
from serving.config import ServeConfig
from serving.parity.__main__ import main
from serving.parity.differences import Comparison, compare
from serving.parity.logged import Logged, PreparedRequests
from serving.parity.report import explained, make_report, print_report, write_report
from serving.parity.suspects import find_suspects
from serving.server import Server
from tests.export.samples import SCHEMAS, build, request
from tests.prepared import write_prepared
from tests.serving.test_server import write_version

SCHEMA = SCHEMAS["both"]
COUNT = 12
ROOT = Path(__file__).parents[2]


def logged(seed):
    """A request of a log, of 4 candidates but for the last one's 5."""
    raw = request(SCHEMA, seed, candidates=5 if seed == COUNT - 1 else 4)
    masks = {spec.name for spec in SCHEMA.inputs if spec.dtype == "bool"}
    features = {name: value[0].tolist() for name, value in raw.items() if name not in masks}
    count = len(features["item_id"])
    return {
        "id": f"r{seed}",
        "user": str(features["user_id"]),
        "time": features.pop("request_time"),
        "items": [str(item) for item in features["item_id"]],
        "labels": {"click": [1.0] * count, "like": [0.0] * count},
        "features": features,
    }


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """Server and reference of one folder share its model, which takes seconds to load."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving.model, "SavedModel", cache(serving.model.SavedModel))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    requests = [logged(seed) for seed in range(COUNT)]
    write_prepared(folder, SCHEMA, {"train": requests[:1], "test": requests})
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build(tmp_path_factory.mktemp("vocabularies"), "din", SCHEMA)


@pytest.fixture(scope="module")
def version(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    write_version(folder, 3, *model)
    return folder / "3"


@pytest.fixture(scope="module")
def predictions(model, data, tmp_path_factory):
    """Such as `ctr-tf predict` writes, in another order than that of the requests."""
    rows = []
    for each in reversed(list(PreparedRequests(data, "test"))):
        scores = score_in_process(*model, each.inputs)
        for candidate, item in enumerate(each.items):
            row = {"request_id": each.request, "user_id": each.user, "item_id": item}
            for task in SCHEMA.tasks:
                row |= {f"label.{task}": 0.0, f"weight.{task}": 1.0}
                row[f"score.{task}"] = float(scores[task][0, candidate])
            rows.append(row)
    folder = tmp_path_factory.mktemp("predictions")
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    write_shard(folder / "predictions-00000-of-00001.parquet", columns)
    return folder


def with_swapped_lines(version, folder, *vocabularies):
    """A copy of a version whose vocabularies have their second and third line swapped."""
    shutil.copytree(version, folder / "3")
    for name in vocabularies:
        path = folder / "3" / "assets" / f"{name}.txt"
        first, second, third, *rest = path.read_text().splitlines()
        path.write_text("".join(f"{line}\n" for line in [first, third, second, *rest]))
    return folder


@contextmanager
def running(folder, **limits):
    server = Server("films", folder, ServeConfig(port=0, **limits))
    server.start()
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        server.stop()


@pytest.fixture(scope="module")
def served(version):
    with running(version.parent) as target:
        yield target


@pytest.fixture(scope="module")
def changed(version, tmp_path_factory):
    """A server whose `genres` are not those of the export."""
    with running(with_swapped_lines(version, tmp_path_factory.mktemp("c"), "genres")) as target:
        yield target


@pytest.fixture
def job(tmp_path, data):
    """Runs the job; gives its exit status and its report."""

    def run(target, reference, *options, source=("--data", str(data))):
        path = tmp_path / "parity.json"
        arguments = ["--target", target, "--model", "films", "--quiet", "--report", str(path)]
        status = main([*arguments, "--reference", str(reference), *source, *options])
        return status, json.loads(path.read_text()) if path.exists() else None

    return run


def test_a_server_agrees_with_its_own_export(job, served, version, data, capsys):
    status, report = job(served, version)
    assert (status, report["agrees"], report["requests"]) == (0, True, COUNT)
    assert (report["version"], report["source"]) == (3, f"{data}/test")
    for task in ("click", "like"):
        found = report["tasks"][task]
        assert (found["scores"], found["beyond"], found["share_beyond"]) == (4 * COUNT + 1, 0, 0.0)
        assert 0 <= found["mean"] <= found["largest"] <= 1e-6
    assert report["features"] == [] and report["explanation"] is None
    assert "12 requests of" in " ".join(capsys.readouterr().out.split())


def test_a_changed_vocabulary_is_found_and_named(job, changed, version, data, model, capsys):
    status, report = job(changed, version, "--worst", "5")
    assert (status, report["agrees"]) == (1, False)
    (named,) = [each for each in report["features"] if each["named"]]
    assert named["feature"] == "genres" == report["features"][0]["feature"]
    assert named["inputs"] == ["history_genres", "genres"]
    assert named["without"] <= 1e-6
    assert all(each["without"] > 1e-4 for each in report["features"][1:])
    assert report["explanation"] == (
        "the difference comes from genres (read by history_genres, genres)"
    )
    assert report["explanation"] in " ".join(capsys.readouterr().out.split())
    differences = [row["difference"] for row in report["worst"]]
    assert len(differences) == 5 and differences == sorted(differences, reverse=True)
    # The worst is where it says, and scores offline as it says.
    worst = report["worst"][0]
    (found,) = [
        each
        for each in PreparedRequests(data, "test")
        if (each.file, each.index) == (worst["file"], worst["index"])
    ]
    assert (found.request, found.user) == (worst["request"], worst["user"])
    assert found.items[worst["candidate"]] == worst["item"]
    offline = score_in_process(*model, found.inputs)[worst["task"]]
    assert worst["offline"] == pytest.approx(offline[0, worst["candidate"]], abs=1e-6)
    assert worst["difference"] == pytest.approx(abs(worst["online"] - worst["offline"]))
    assert worst["difference"] == max(task["largest"] for task in report["tasks"].values()) > 1e-3


def test_two_changed_vocabularies_are_both_named(job, version, tmp_path):
    folder = with_swapped_lines(version, tmp_path / "changed", "genres", "item_id")
    with running(folder) as target:
        status, report = job(target, version)
    assert status == 1
    named = [each["feature"] for each in report["features"] if each["named"]]
    assert sorted(named) == ["genres", "item_id"]
    # Neither is enough alone.
    assert all(each["without"] > 1e-4 for each in report["features"])


def test_other_weights_are_no_feature(job, version, model, tmp_path):
    bias = next(v for v in model[0].variables if v.path.endswith("heads/like/bias"))
    kept = bias.numpy()
    try:
        bias.assign(kept + 0.5)
        write_version(tmp_path, 3, *model)
    finally:
        bias.assign(kept)
    with running(tmp_path) as target:
        status, report = job(target, version)
    assert status == 1
    assert report["tasks"]["click"]["beyond"] == 0
    assert report["tasks"]["like"]["share_beyond"] == 1.0
    assert not any(each["named"] for each in report["features"])
    assert report["explanation"].endswith("other weights, or other statistics of age or price")


def test_predictions_are_a_reference(job, served, changed, version, predictions):
    assert job(served, predictions)[0] == 0
    status, report = job(changed, predictions)
    assert (status, report["features"], report["explanation"]) == (1, [], None)
    status, report = job(changed, predictions, "--explain", str(version))
    assert status == 1
    assert [each["feature"] for each in report["features"] if each["named"]] == ["genres"]


def test_the_commands_of_the_readme(served, version, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    readme = (ROOT / "serving" / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^    python -m serving\.parity (.*)$", readme, re.MULTILINE)
    # Before a version is deployed, and where it is the canary.
    assert len(found) == 2
    for options in found:
        options = re.sub(r"\$FILMS/\d", str(version), options).replace("$DATA", str(data))
        assert main([*shlex.split(options), "--target", served]) == 0
        assert json.loads(Path("parity.json").read_text())["requests"] == COUNT


def test_predictions_of_other_requests(job, served, predictions, tmp_path, capsys):
    table = {"request_id": ["r0"], "user_id": ["nobody"]}
    for task in SCHEMA.tasks:
        table |= {f"{kind}.{task}": [0.0] for kind in ("label", "weight", "score")}
    write_shard(tmp_path / "predictions-00000-of-00001.parquet", table)
    status, _ = job(served, tmp_path)
    assert status == 2
    said = capsys.readouterr().err
    assert "request 0: 4 candidates, but 0 rows of request 'r0', user" in said


def write_log(path, *logs):
    with RecordWriter(path, "none") as writer:
        for log in logs:
            writer.write(log.SerializeToString())
    return str(path)


def test_a_request_log_is_replayed(job, served, changed, version, tmp_path):
    warmup = version / "assets.extra" / "tf_serving_warmup_requests"
    other = prediction_log_pb2.PredictionLog()
    other.classify_log.request.model_spec.name = "films"
    source = ("--log", str(warmup), write_log(tmp_path / "others", other))
    status, report = job(served, version, source=source)
    # One call of each signature; a state is no score.
    assert (status, report["requests"]) == (0, 2)
    assert report["skipped"] == {"user_tower": 1, "classify_log": 1}
    status, report = job(changed, version, source=source)
    assert status == 1
    assert [each["feature"] for each in report["features"] if each["named"]] == ["genres"]
    worst = report["worst"][0]
    assert (worst["file"], worst["request"], worst["item"]) == (str(warmup), None, None)
    assert {row["index"] for row in report["worst"]} == {0, 2}
    users = {row["index"]: row["user"] for row in report["worst"]}
    assert users == {0: str(request(SCHEMA)["user_id"][0]), 2: None}


def test_what_is_no_request_log(job, served, version, predictions, tmp_path, capsys):
    text = tmp_path / "text"
    text.write_text("no records")
    warmup = version / "assets.extra" / "tf_serving_warmup_requests"
    other = prediction_log_pb2.PredictionLog()
    other.predict_log.request.inputs["prize"].CopyFrom(tf.make_tensor_proto([1.0]))
    foreign = write_log(tmp_path / "foreign", other)
    for path, reference, message in (
        (text, version, "text: record 0: truncated"),
        (warmup, predictions, "a request log holds no request ids"),
        (foreign, version, "foreign: request 0: input 'age' is not in both the request and"),
        (tmp_path / "absent", version, "No such file"),
    ):
        assert job(served, reference, source=("--log", str(path))) == (2, None)
        assert message in capsys.readouterr().err


def test_refused_requests_are_counted(job, version, data, capsys):
    with running(version.parent, max_candidates=4) as target:
        status, report = job(target, version)
        assert (status, report["agrees"], report["requests"]) == (1, False, COUNT - 1)
        (refused,) = report["refused"].values()
        assert refused["requests"] == 1 and "5 candidates" in refused["details"]
        place, _, index = refused["first"].partition(": request ")
        (found,) = [
            each
            for each in PreparedRequests(data, "test")
            if each.inputs["item_id"].shape == (1, 5)
        ]
        assert (place, int(index)) == (found.file, found.index)
        assert all(task["beyond"] == 0 for task in report["tasks"].values())
        assert "1 requests refused with INVALID_ARGUMENT" in capsys.readouterr().out
    with running(version.parent, max_candidates=3) as target:
        assert job(target, version, "--requests", "2")[0] == 2
        assert "nothing was compared; INVALID_ARGUMENT: test/" in capsys.readouterr().err


def test_what_cannot_be_compared(job, served, version, data, tmp_path, capsys):
    schema = SCHEMA.model_copy(update={"keys": Keys(user="user_id", time="time")})
    write_prepared(tmp_path / "other", schema, {"train": [logged(0)], "test": [logged(1)]})
    other = ("--data", str(tmp_path / "other"))
    for message, arguments in (
        ("--version: version 9 is not available; versions: {3: 'AVAILABLE'}", ["--version", "9"]),
        ("NOT_FOUND: no model 'books'", ["--model", "books"]),
        ("error: no server at 127.0.0.1:1", ["--target", "127.0.0.1:1"]),
        ("split 'validation' is empty|no split 'validation'", ["--split", "validation"]),
        ("but the schema in use has", other),
    ):
        source = () if arguments is other else ("--data", str(data))
        status, _ = job(served, version, *arguments, source=source)
        said = capsys.readouterr().err
        assert status == 2 and any(part in said for part in message.split("|")), said
    assert job(served, tmp_path)[0] == 2
    assert "no prediction file" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        job(served, version, "--tolerance", "-1")
    assert "--tolerance: Input should be greater than or equal to 0" in capsys.readouterr().err


def of(place, **scores):
    return Logged("log", place, "serving_default", {}), {n: np.array(v) for n, v in scores.items()}


def test_differences_are_summed_by_task():
    comparison = Comparison(tolerance=0.125, most=2)
    for online, offline in (
        (of(0, click=[[0.5, 0.25]], buy=[[0.5, 0.5]]), of(0, click=[[0.5, 0.5]], buy=[[0.5, 0.5]])),
        (of(1, click=[[0.5]], buy=[[1.0]]), of(1, click=[[0.375]], buy=[[0.25]])),
        (of(2, click=[[np.nan]], buy=[[0.5]]), of(2, click=[[0.5]], buy=[[0.5]])),
    ):
        comparison.add(*online, offline[1])
    click, buy = comparison.tasks["click"], comparison.tasks["buy"]
    # 0, 0.25, 0.125 and 1 for what is not finite; 0, 0, 0.75 and 0.
    assert (click.scores, click.beyond, click.total, click.largest) == (4, 2, 1.375, 1.0)
    assert (buy.scores, buy.beyond, buy.total, buy.largest) == (4, 1, 0.75, 0.75)
    assert [(each.request.index, each.task, each.index) for each in comparison.worst] == [
        (2, "click", (0, 0)),
        (1, "buy", (0, 0)),
    ]
    # A request without candidates has no difference.
    request, scores = of(4, click=[[]], buy=[[]])
    comparison.add(request, scores, scores)
    assert comparison.requests == 4 and len(comparison.worst) == 2
    request, scores = of(3, click=[[0.5]])
    with pytest.raises(ValueError, match="log: request 3: .*is it another model"):
        comparison.add(request, scores, {"buy": np.array([[0.5]])})


def test_a_score_that_is_not_finite_is_reported(tmp_path, capsys):
    comparison = Comparison(tolerance=0.125, most=2)
    comparison.add(*of(2, click=[[np.nan]]), of(2, click=[[0.5]])[1])
    asked = dict.fromkeys(("model", "version", "target", "source", "reference"), "any")
    report = make_report(comparison, asked, None)
    write_report(tmp_path / "parity.json", report)
    (worst,) = json.loads((tmp_path / "parity.json").read_text())["worst"]
    assert (worst["online"], worst["offline"], worst["difference"]) == (None, 0.5, 1.0)
    print_report(report, Console())
    assert "not finite" in capsys.readouterr().out


class Gone(grpc.RpcError):
    """What a client raises where there is no server."""

    def code(self):
        return grpc.StatusCode.UNAVAILABLE

    def details(self):
        return "gone"


class Fixed:
    """A reference, and a model without features, that scores every request alike."""

    schema = Schema(features={"n": {"kind": "numeric"}}, tasks={"click": {"column": "click"}})

    def scores(self, requests):
        return [{"click": np.array([[0.5]])} for _ in requests]


def test_a_server_that_ends():
    def gone(request):
        raise Gone()

    requests = [of(number)[0] for number in range(3)]
    with pytest.raises(Gone):
        compare(gone, Fixed(), iter(requests), 1e-5, 10)
    # What was compared before is reported all the same.
    answer = lambda request: {"click": np.array([[0.25 * (1 + request.index)]])}
    comparison = compare(answer, Fixed(), iter(requests), 1e-5, 2)
    assert [each.request.index for each in comparison.worst] == [0, 2]
    report = explained({"requests": 3}, comparison, gone, Fixed())
    assert report == {"requests": 3, "explanation": "no feature was found: UNAVAILABLE: gone"}


def test_features_are_named_by_what_brings_the_difference_back():
    schema = Schema(
        features={name: {"kind": "categorical"} for name in ("a", "b", "c")}
        | {"n": {"kind": "numeric"}},
        tasks={"click": {"column": "click"}},
    )
    inputs = {name: np.array([["x", "y"]], object) for name in "abc"} | {"n": np.ones((1, 2))}
    asked = Logged("log", 0, "serving_default", inputs)

    def model(numbers, scale=1.0):
        """The numbers of the values that are there, halved without `c`, and `n` scaled."""

        def score(request):
            total = np.zeros((1, 2))
            for name, number in numbers.items():
                total = total + number * (request.inputs[name] != "")
            total = total * np.where(request.inputs["c"] == "", 0.5, 1.0)
            return {"click": total + scale * request.inputs["n"] + 0.1 * (scale - 1)}

        return score

    def names(online, offline):
        found = find_suspects(schema, [asked], online, offline, 1e-6)
        assert {each.feature for each in found} == {"a", "b", "c", "n"}
        return [each.feature for each in found if each.named]

    same = model({"a": 0.1, "b": 0.2})
    assert names(model({"a": 0.1, "b": 0.25}), same) == ["b"]
    assert names(model({"a": 0.125, "b": 0.25}), same) == ["b", "a"]
    # The other feature hides half of the difference, and still is not named.
    found = find_suspects(schema, [asked], model({"a": 0.1, "b": 0.25}), same, 1e-6)
    assert {each.feature: round(each.without, 6) for each in found} == {
        "b": 0.0, "c": 0.025, "a": 0.05, "n": 0.05,
    }  # fmt: skip
    # A number's statistics differ at every value of it.
    assert names(model({"a": 0.1, "b": 0.2}, scale=2.0), same) == []
