"""The files of other libraries' outputs: what they are run on, and how they are kept."""

import doctest

import numpy as np
import pytest

from benchmarks.parity import golden
from benchmarks.parity.regenerate import ROOT, update

FILES = sorted((ROOT / "tests" / "golden").glob("*/*.npz"))


def test_examples():
    found = doctest.testmod(golden)
    assert found.attempted and not found.failed


def save(folder, name, value):
    outputs = {"logit/click": np.array([value])}
    golden.save(folder / f"{name}.npz", {}, {"w": np.ones(2)}, outputs, 2, "peer 1.0")


def test_files_of_a_run_take_the_place_of_those_before(tmp_path):
    made, kept = tmp_path / "made", tmp_path / "kept"
    made.mkdir()
    for name in ("same", "other"):
        save(made, name, 1.0)
    assert update(made, kept) == {"written": ["other", "same"], "removed": [], "left": []}
    before = (kept / "same.npz").stat().st_mtime_ns
    for name, value in (("same", 1.0), ("other", 2.0)):
        save(made, name, value)
    save(kept, "gone", 3.0)
    assert update(made, kept) == {"written": ["other"], "removed": ["gone"], "left": ["same"]}
    assert (kept / "same.npz").stat().st_mtime_ns == before
    with np.load(kept / "other.npz") as file:
        assert file["output/logit/click"].tolist() == [2.0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_files_are_small_and_of_these_rows_and_weights(path):
    """A hand-made or stale file fails: all but the outputs follows from names."""
    assert path.stat().st_size < 40_000
    with np.load(path, allow_pickle=False) as file:
        assert str(file["versions"]).startswith(path.parent.name)
        if "input/item" in file:
            for name, value in golden.batch().items():
                np.testing.assert_array_equal(file[f"input/{name}"], value)
        for name in file:
            if not name.startswith("weight/"):
                continue
            own = name.removeprefix("weight/")
            drawn = golden.draw(path.stem, own, file[name].shape)
            # Some are set to zero, and the gates' tables to those of the model.
            set_otherwise = file[name] != drawn
            assert "_ctx_emb" in own or not file[name][set_otherwise].any()
