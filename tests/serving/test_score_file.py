"""Scoring a file through a server: an answer for every line, and going on after a kill."""

import asyncio
import gzip
import json

import grpc
import pytest

from serving import score_file
from serving.client import AsyncClient
from tests.data.test_raw_inputs import VALUES
from tests.serving.test_client import SCHEMA, Fake, serving

LINES = [
    {"id": "a", "values": VALUES},
    {"id": 7, "values": {name: value for name, value in VALUES.items() if name != "age"}},
    "no JSON",
    {"values": {**VALUES, "history_time": [1]}},
    {"id": "b", "values": VALUES},
]
EXPECTED = [
    {"line": 1, "id": "a", "scores": {"click": [0.5] * 3}},
    {"line": 2, "id": 7, "error": "missing input 'age'"},
    {"line": 3, "id": None, "error": "Expecting value: line 1 column 1 (char 0)"},
    {
        "line": 4,
        "id": None,
        "error": "input 'history_time': has 1 values, 'history_item_id' has 2",
    },
    {"line": 5, "id": "b", "scores": {"click": [0.5] * 3}},
]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "requests.jsonl"
    path.write_text("".join(f"{x if isinstance(x, str) else json.dumps(x)}\n" for x in LINES))
    return path


def score(fake, source, output, **options):
    async def ask(target):
        async with AsyncClient(target, "films", SCHEMA) as client:
            return await score_file.score_file(
                client, SCHEMA, source, output, "films", progress=False, **options
            )

    with serving(fake) as target:
        return asyncio.run(ask(target))


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("concurrency", [1, 2, 8])
def test_every_line_has_its_answer_in_order(source, tmp_path, concurrency):
    found = score(Fake(), source, tmp_path / "scores.jsonl", concurrency=concurrency)
    assert found == {"scored": 2, "rejected": 3}
    assert read(tmp_path / "scores.jsonl") == EXPECTED
    assert sorted(p.name for p in tmp_path.iterdir()) == ["requests.jsonl", "scores.jsonl"]


def test_gzipped_and_cut_short(source, tmp_path):
    whole = gzip.compress(source.read_bytes())
    packed = tmp_path / "requests.jsonl.gz"
    packed.write_bytes(whole)
    score(Fake(), packed, tmp_path / "scores.jsonl")
    assert read(tmp_path / "scores.jsonl") == EXPECTED
    packed.write_bytes(whole[:-9])
    with pytest.raises(RuntimeError, match=r"requests.jsonl.gz: damaged behind line \d: "):
        score(Fake(), packed, tmp_path / "other.jsonl")
    assert not (tmp_path / "other.jsonl").exists()


def test_a_job_that_was_killed_goes_on(source, tmp_path):
    output = tmp_path / "scores.jsonl"
    fake = Fake()

    def last_is_refused(request, context, predict=fake.predict):
        if len(fake.requests) == 1:
            context.abort(grpc.StatusCode.INTERNAL, "broken")
        return predict(request, context)

    fake.predict = last_is_refused
    with pytest.raises(grpc.RpcError, match="broken"):
        score(fake, source, output, concurrency=1)
    assert not output.exists()
    (partial,) = tmp_path.glob(".scores.jsonl.*.partial")
    assert read(partial) == EXPECTED[:4]
    # Cut within a line, as a kill may.
    partial.write_bytes(partial.read_bytes()[:-10])
    again = Fake()
    assert score(again, source, output) == {"scored": 2, "rejected": 3}
    assert read(output) == EXPECTED and len(again.requests) == 1


def test_another_version_begins_anew(source, tmp_path):
    with serving(Fake()) as target:
        assert score_file.main(arguments(target, source, tmp_path)) == 0
    partial = tmp_path / ".scores.jsonl.of-another-version.partial"
    partial.write_text("whatever\n")
    fake = Fake()
    fake.version = 6
    score(fake, source, tmp_path / "scores.jsonl")
    assert len(fake.requests) == 2
    assert {request.model_spec.version.value for request in fake.requests} == {6}


def arguments(target, source, folder):
    (folder / "schema.json").write_text(SCHEMA.to_json())
    found = ["--target", target, "--model", "films", "--schema", str(folder / "schema.json")]
    return [*found, "--input", str(source), "--output", str(folder / "scores.jsonl")]


def test_command_line(source, tmp_path, capsys):
    with serving(Fake()) as target:
        assert score_file.main(arguments(target, source, tmp_path)) == 0
        assert "2 requests scored; 3 rejected, `error` says why" in capsys.readouterr().out
        source.unlink()
        assert score_file.main(arguments(target, source, tmp_path)) == 2
    assert "requests.jsonl" in capsys.readouterr().err
