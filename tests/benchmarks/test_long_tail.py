"""Table 2's page: gaps of the long tail, and which are narrower."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.leaderboard import long_tail, runs, scores
from benchmarks.leaderboard.board import OURS, Board
from tests.benchmarks.test_leaderboard import FACTS, run_of

BOARD = Board(title="A board", configs="configs/movielens", entries=["fm", "din"], seeds=[1, 2])
# Ten items, five of them without rows: 4 and one of these are a fifth; a fifth of 200 occurrences
# is that of 4, three of these, and 3.
ITEMS = np.array([4, 4, 3, 3, 0, 0, 1, 1, 2, 2] * 2)
FREQUENCIES = np.array([40, 25, 17, 15, 3])[ITEMS]
TRAINED = np.array([40, 25, 17, 15, 3, 1, 5, 14, 30, 50])
LABELS = np.array([1, 0] * 10, np.float32)
USERS = np.repeat([0, 1], 10)


def write_scores(folder, entry, seed, right):
    """A run that ranks pairs of the items in `right` correctly, the others wrongly."""
    own = np.where(np.isin(ITEMS, right), LABELS, 1 - LABELS)
    columns = {"score": own, "label": LABELS, "user": USERS, "item": ITEMS}
    columns["frequency"] = FREQUENCIES
    arrays = {
        f"{split}/like/{k}": v for split in ("validation", "test") for k, v in columns.items()
    }
    arrays["trained_items"] = TRAINED
    folder.mkdir(exist_ok=True)
    path = folder / f"{entry}-{OURS}-{entry}{seed}.npz"
    scores.save(path, arrays, FACTS | {"samples_per_second": None})
    return run_of(path, entry=entry, seed=seed)


def rows_of(tmp_path):
    # AUC of scores 0 and 1 is the mean of the shares of either class that are right.
    files = {"din": [[0, 1, 2, 3]] * 2, "fm": [[0, 1, 2, 4], [0, 1, 4]]}
    paths = {}
    for entry, rights in files.items():
        for seed, right in enumerate(rights, start=1):
            write_scores(tmp_path, entry, seed, right)
            paths.setdefault(entry, []).append(tmp_path / f"{entry}-{OURS}-{entry}{seed}.npz")
    return long_tail.read(paths, "like")


def test_gaps_by_hand(tmp_path):
    rows = rows_of(tmp_path)
    assert rows.aucs("din", rows.parts["all"]) == pytest.approx([0.8, 0.8])
    assert rows.aucs("fm", rows.parts["all"]) == pytest.approx([0.8, 0.6])
    assert rows.aucs("din", rows.parts["items"]) == [0.0, 0.0]
    assert rows.aucs("fm", rows.parts["items"]) == [1.0, 1.0]
    # Items 4 and 3: one of the two is right in every run but none of fm's second, where 4 is.
    assert rows.aucs("din", rows.parts["occurrences"]) == pytest.approx([0.5, 0.5])
    assert rows.aucs("fm", rows.parts["occurrences"]) == pytest.approx([0.5, 0.5])
    # din: 0 - 0.8; fm: the mean of 1 - 0.8 and 1 - 0.6. Both users have the same rows.
    found = rows.gap_less_that_of("din", "fm", "items", 50)
    assert (found.value, found.low, found.high) == pytest.approx((1.1, 1.1, 1.1))
    assert rows.gap_less_that_of("din", "fm", "occurrences", 0).value == pytest.approx(0.1)


def test_intervals_are_of_users_resampled_for_both_models(tmp_path):
    """Models that differ on one user alone: as often as he is drawn, or not at all."""
    rows = rows_of(tmp_path)
    rows.scores["fm"] = rows.scores["din"].copy()
    first_tail = (USERS == 0) & (ITEMS == 4)
    rows.scores["fm"][:, first_tail] = LABELS[first_tail]
    found = rows.gap_less_that_of("din", "fm", "items", 400)
    # With both users the tail's AUC is 0.5 for 0, that of all 0.9 for 0.8.
    assert found.value == pytest.approx(0.5 - 0.1)
    # Drawn twice: the tail is all right, 1 for 0, that of all 1 for 0.8; never: no difference.
    assert (found.low, found.high) == pytest.approx((0.0, 0.8))


def test_page(tmp_path, monkeypatch, capsys):
    for entry, rights in (("din", [[0, 1, 2, 3]] * 2), ("fm", [[0, 1, 2, 4], [0, 1, 4]])):
        for seed, right in enumerate(rights, start=1):
            write_scores(tmp_path / "leaderboard", entry, seed, right)

    def train(self, board, entry, stack, point, seed, start=True, tested=False):
        path = tmp_path / "leaderboard" / f"{entry.name}-{OURS}-{entry.name}{seed}.npz"
        return run_of(path, entry=entry.name, seed=seed) if path.exists() else None

    monkeypatch.setattr(runs.Trainer, "train", train)
    monkeypatch.setattr(runs.Trainer, "kept_rates", lambda *_: [])
    monkeypatch.setattr(long_tail, "boards", lambda: {"small": BOARD})
    arguments = ["long_tail", "--workspace", str(tmp_path), "--board", "small", "--models"]
    options = ["--replicates", "50", "--output", str(tmp_path / "results")]
    monkeypatch.setattr(
        "sys.argv", [*arguments, "din", "fm", "--references", "din", "fm", *options]
    )
    long_tail.main()
    path = tmp_path / "results" / "long_tail_small.md"
    assert capsys.readouterr().out == f"{path}\n"
    text = path.read_text(encoding="utf-8")
    assert "4 of 20 impressions, 2 positive." in text
    assert "8 of 20 impressions, 4 positive." in text
    assert (
        "| `din` | 0.8000 ± 0.0000 | 0.0000 ± 0.0000 | -0.8000 ± 0.0000 "
        "|  | -1.1000 [-1.1000, -1.1000] |" in text
    )
    assert (
        "| `fm` | 0.7000 ± 0.1414 | 1.0000 ± 0.0000 | 0.3000 ± 0.1414 "
        "| 1.1000 [1.1000, 1.1000], narrower |  |" in text
    )
    with path.with_suffix(".csv").open(encoding="utf-8") as file:
        found = {(r["model"], r["seed"], r["part"]): float(r["auc"]) for r in csv.DictReader(file)}
    assert found["fm", "2", "all"] == pytest.approx(0.6)
    # Five items in ten groups leave half of the groups without rows.
    assert "| 2 | 4 | 0.0000 | 1.0000 |" in text
    drawn = path.with_suffix(".svg").read_text(encoding="utf-8")
    assert "tenth of the test impressions" in drawn

    monkeypatch.setattr("sys.argv", [*arguments, "din", "fn", *options])
    with pytest.raises(SystemExit):
        long_tail.main()
    assert "small.models: no row 'fn'" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", [*arguments, "din", "--references", "fm", *options])
    with pytest.raises(SystemExit):
        long_tail.main()
    assert "small.references: no model 'fm'; models: din" in capsys.readouterr().err
    (tmp_path / "leaderboard" / f"fm-{OURS}-fm2.npz").unlink()
    monkeypatch.setattr("sys.argv", [*arguments, "din", "fm", *options])
    with pytest.raises(SystemExit):
        long_tail.main()
    assert "fm has not all of its scores here: python -m" in capsys.readouterr().err
    # Of a training that is no more than recorded there are none.
    monkeypatch.setattr(
        runs.Trainer, "train", lambda *given, **_: replace(train(*given), path=None)
    )
    monkeypatch.setattr("sys.argv", [*arguments, "din", *options])
    with pytest.raises(SystemExit):
        long_tail.main()
    assert "din has not all of its scores here: python -m" in capsys.readouterr().err


def test_files_that_cannot_be_compared(tmp_path):
    write_scores(tmp_path, "fm", 1, [0])
    path = tmp_path / f"fm-{OURS}-fm1.npz"
    with np.load(path) as found:
        arrays = {key: found[key] for key in found.files if key != "facts"}
    other = tmp_path / "other.npz"
    scores.save(other, arrays | {"test/like/label": 1 - LABELS}, {})
    with pytest.raises(ValueError, match="other.npz: test/like/label differs from that of the"):
        long_tail.read({"fm": [path, other]}, "like")
    one_class = {"test/like/label": np.where(ITEMS == 4, 1, LABELS)}
    scores.save(other, arrays | one_class, {})
    with pytest.raises(ValueError, match="test/like: the tail of items has no impressions of both"):
        long_tail.read({"fm": [other]}, "like")
    scores.save(other, arrays | {"test/like/user": USERS - 1}, {})
    with pytest.raises(ValueError, match="test/like: users are resampled, and some rows have none"):
        long_tail.read({"fm": [other]}, "like")
    scores.save(other, arrays | {"trained_items": TRAINED[1:]}, {})
    with pytest.raises(
        ValueError, match="`trained` must have the rows' items.* none that occurs 40"
    ):
        long_tail.read({"fm": [other]}, "like")
    del arrays["test/like/item"]
    scores.save(other, arrays, {})
    with pytest.raises(ValueError, match="other.npz: no test/like/item: train it anew"):
        long_tail.read({"fm": [path, other]}, "like")
