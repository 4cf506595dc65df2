"""Blobs by key and by reference."""

from pipelines.transforms import spill
from pipelines.transforms.spill import Pile, Spill, read_piles, read_spill


def test_blobs_come_in_the_order_of_their_keys(tmp_path):
    written = Spill(tmp_path / "users")
    blobs = {b"%03d" % (n * 37 % 101): b"x" * (n * 7 % 50) for n in range(101)}
    for key, blob in blobs.items():
        written.append(key, blob)
    assert not (tmp_path / "users").exists()
    written.close()
    assert list(read_spill(tmp_path / "users")) == sorted(blobs.items())
    assert [path.name for path in tmp_path.iterdir()] == ["users"]


def test_a_spill_of_nothing_and_one_that_is_not_there(tmp_path):
    Spill(tmp_path / "empty").close()
    assert list(read_spill(tmp_path / "empty")) == []
    assert list(read_spill(tmp_path / "missing")) == []


def test_references_are_read_from_more_piles_than_are_held_open(tmp_path, monkeypatch):
    monkeypatch.setattr(spill, "MOST_OPEN", 2)
    piles = [Pile(tmp_path) for _ in range(5)]
    references = [(n, *piles[n % 5].append(b"%d" % n * n)) for n in range(20)]
    for pile in piles:
        pile.close()
    assert list(read_piles(tmp_path, references)) == [(n, b"%d" % n * n) for n in range(20)]
    assert len(list(tmp_path.iterdir())) == 5
