"""Version swaps without TensorFlow: the model of a version is its folder's text."""

import pytest

from serving.versions import VersionNotFound, Versions


def write(folder, version, text):
    (folder / str(version)).mkdir(parents=True)
    (folder / str(version) / "saved_model.pb").write_text(text)


def load(path):
    text = (path / "saved_model.pb").read_text()
    if text == "broken":
        raise OSError("broken model")
    return text


@pytest.fixture
def loaded(tmp_path):
    write(tmp_path, 1, "one")
    versions = Versions(tmp_path, load)
    versions.refresh()
    return versions


def test_an_old_version_lives_until_its_calls_end(loaded, tmp_path):
    with loaded.use() as (number, model):
        write(tmp_path, 2, "two")
        loaded.refresh()
        assert (number, model) == (1, "one")
        assert loaded.statuses() == {2: ("AVAILABLE", ""), 1: ("UNLOADING", "")}
        with loaded.use() as newer:
            assert newer == (2, "two")
        with pytest.raises(VersionNotFound, match="version 1 is not served; served: 2"):
            with loaded.use(1):
                pass
    assert loaded.statuses() == {2: ("AVAILABLE", ""), 1: ("END", "")}


def test_a_broken_version_leaves_the_old_one_serving(loaded, tmp_path):
    write(tmp_path, 2, "broken")
    loaded.refresh()
    assert loaded.current == 1
    assert loaded.statuses()[2] == ("END", "OSError: broken model")
    (tmp_path / "2").rename(tmp_path / ".away")
    loaded.refresh()
    assert loaded.statuses() == {1: ("AVAILABLE", "")}


@pytest.mark.parametrize("late", ["saved_model.pb", "variables/variables.index"])
def test_a_version_that_failed_is_tried_again_once_a_file_changed(tmp_path, late):
    tried = []

    def load(path):
        tried.append(path.name)
        if (path / late).read_text() != "whole":
            raise OSError("half a model")
        return path.name

    write(tmp_path, 2, "whole")
    (tmp_path / "2" / "variables").mkdir()
    (tmp_path / "2" / late).write_text("half")
    versions = Versions(tmp_path, load)
    for _ in range(3):
        versions.refresh()
    assert versions.current is None and tried == ["2"]
    (tmp_path / "2" / late).write_text("whole")
    for _ in range(3):
        versions.refresh()
    assert versions.current == 2 and tried == ["2", "2"]


def test_a_folder_that_is_being_filled_is_no_version_yet(loaded, tmp_path):
    (tmp_path / "2" / "variables").mkdir(parents=True)
    loaded.refresh()
    assert loaded.statuses() == {1: ("AVAILABLE", "")}
    (tmp_path / "2" / "saved_model.pb").write_text("two")
    loaded.refresh()
    assert loaded.current == 2


def test_removing_the_newest_goes_back(loaded, tmp_path):
    write(tmp_path, 2, "two")
    loaded.refresh()
    (tmp_path / "2").rename(tmp_path / ".gone")
    loaded.refresh()
    with loaded.use() as found:
        assert found == (1, "one")


def test_an_empty_folder_goes_on_serving(loaded, tmp_path):
    (tmp_path / "1").rename(tmp_path / ".gone")
    loaded.refresh()
    with loaded.use(1) as found:
        assert found == (1, "one")


def test_no_version():
    with pytest.raises(VersionNotFound):
        with Versions("absent", load).use():
            pass
