"""Version swaps without TensorFlow: the model of a version is its folder's text."""

import weakref

import pytest

from serving.versions import LabelNotFound, Policy, VersionNotFound, Versions


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
        with pytest.raises(VersionNotFound, match="version 1 is not served; served: 2$"):
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


def served(versions):
    return [number for number, (state, _) in versions.statuses().items() if state == "AVAILABLE"]


@pytest.fixture
def four(loaded, tmp_path):
    for number, text in ((2, "two"), (3, "broken"), (4, "four")):
        write(tmp_path, number, text)
    loaded.refresh()
    return loaded


@pytest.mark.parametrize(
    "policy, expected",
    [
        (Policy(), [4]),
        # The newest that load: 3 is broken.
        (Policy(latest=2), [4, 2]),
        (Policy(latest=None), [4, 2, 1]),
        (Policy(latest=None, specific=frozenset({1, 2})), [2, 1]),
    ],
)
def test_policies(four, policy, expected):
    four.configure(policy, {})
    assert served(four) == expected and four.current == expected[0]
    four.refresh()
    assert served(four) == expected


def test_back_to_an_older_version_and_on_again(four):
    assert four.swaps == 1
    four.configure(Policy(None, frozenset({1})), {})
    with four.use() as found:
        assert found == (1, "one")
        four.configure(Policy(), {})
        assert four.statuses()[1] == ("UNLOADING", "")
        # Its model is still there: it is taken up again, not loaded twice.
        four.configure(Policy(None, frozenset({1})), {})
        assert four.statuses()[1] == ("AVAILABLE", "")
    assert served(four) == [1]
    assert four.swaps == 4 and four.load_failures == 0


def test_labels(four):
    four.configure(Policy(latest=2), {"stable": 2, "canary": 4})
    for label, expected in (("stable", (2, "two")), ("canary", (4, "four"))):
        with four.use(label=label) as found:
            assert found == expected
    with pytest.raises(LabelNotFound, match="unknown version label 'old'; labels: canary, stable"):
        with four.use(label="old"):
            pass
    # The folder moves on, the label does not.
    write(four.folder, 5, "five")
    four.refresh()
    with pytest.raises(VersionNotFound, match="version 2 is not served; served: 5, 4"):
        with four.use(label="stable"):
            pass


@pytest.mark.parametrize(
    "policy, labels, message",
    [
        (Policy(None, frozenset({2, 3})), {}, "version 3 is not loaded.*; OSError: broken model"),
        (Policy(None, frozenset({2, 7})), {}, "version 7 is not loaded.*; loaded: 2$"),
        (Policy(None, frozenset({2})), {"canary": 4}, "version 4 is not loaded.*; loaded: 2$"),
    ],
)
def test_what_cannot_be_kept_changes_nothing(four, policy, labels, message):
    four.configure(Policy(latest=1), {"stable": 4})
    with pytest.raises(VersionNotFound, match=message):
        four.configure(policy, labels)
    assert served(four) == [4] and four.labelled("stable") == 4
    four.refresh()
    assert served(four) == [4]


def test_the_versions_named_go_on_where_their_folders_are_gone(four, tmp_path):
    four.configure(Policy(None, frozenset({2})), {})
    (tmp_path / "2").rename(tmp_path / ".gone")
    four.refresh()
    assert served(four) == [2]


def test_versions_that_are_gone_are_forgotten(four, tmp_path):
    assert list(four.statuses()) == [4, 1]
    (tmp_path / "1").rename(tmp_path / ".gone")
    four.refresh()
    assert list(four.statuses()) == [4]


def test_a_version_that_has_gone_is_freed_at_the_next_look(tmp_path):
    class Cycle:
        def __init__(self, path):
            self.own = self
            made[path.name] = weakref.ref(self)

    made = {}
    versions = Versions(tmp_path, Cycle)
    for number in ("1", "2"):
        (tmp_path / number).mkdir()
        (tmp_path / number / "saved_model.pb").touch()
        versions.refresh()
    assert made["1"]() is None and made["2"]() is not None
