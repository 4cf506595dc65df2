"""The table of what each choice of the step is worth."""

from benchmarks import choices, training


def run(workload, model, side, rate=None, repeat=1):
    found = dict.fromkeys(choices.COLUMNS, 1) | {"workload": workload, "model": model, "side": side}
    found |= {"machine": "2 cores of X", "repeat": repeat, "outcome": "done"}
    return found | ({"samples_per_second": rate} if rate else {"outcome": "out of memory"})


def test_rates_by_the_base(tmp_path):
    runs = [run("w1", "deepfm", "base", rate, i) for i, rate in enumerate((9e3, 2e4, 1e4), 1)]
    runs += [run("w1", "deepfm", "one_step", 8e3), run("w1", "deepfm", "no_onednn")]
    page = choices.write(tmp_path, runs).read_text(encoding="utf-8")
    assert "medians of 3 interleaved runs" in page
    assert "| all: ten steps a call, XLA, oneDNN | 10,000 (1.00) | – | – |" in page
    assert "| one step a call, not ten | 8,000 (0.80) | – | – |" in page
    assert "`TF_ENABLE_ONEDNN_OPTS=0` | – | – | – |" in page
    assert (tmp_path / "choices.csv").read_text(encoding="utf-8").count("\n") == 6


def test_a_side_is_told_its_variables(monkeypatch, tmp_path):
    """They reach its process, and a run of others is another run."""
    seen = {}

    def process(command, env, **_):
        seen.update(env)
        return type("Done", (), {"returncode": 1, "stderr": "bad_alloc", "stdout": ""})

    monkeypatch.setattr(training.subprocess, "run", process)
    monkeypatch.setattr(training, "path", lambda *_: tmp_path)
    options = type("Options", (), {"workspace": tmp_path, "seconds": 1.0, "limit": 1.0})
    comparison = training.Comparison(options, choices.SIDES)
    result = comparison.run("w1", "deepfm", "no_onednn", 1)
    assert seen["TF_ENABLE_ONEDNN_OPTS"] == "0" and result["outcome"] == "out of memory"
    assert result["variables"] == {"TF_ENABLE_ONEDNN_OPTS": "0"}
    assert "variables" not in comparison.run("w1", "deepfm", "base", 1)
