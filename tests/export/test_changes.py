"""What lower precision changes: by hand, and what is refused."""

import numpy as np
import pytest
from rich.console import Console

from ctr_tf.export.changes import change, check_changes
from ctr_tf.export.config import ChangeTolerances
from ctr_tf.export.self_check import ExportError
from ctr_tf.export.table import _changes

LABELS = np.array([0, 1, 0, 1, 1.0])
WEIGHTS = np.array([1, 1, 1, 1, 0.0])
BEFORE = np.array([0.25, 0.5, 0.25, 0.75, 0.5])
# The first pair of classes changes places; the last row, which is masked, does not count.
AFTER = np.array([0.5, 0.25, 0.25, 0.75, 0.9])
UNITS = np.array([0, 0, 1, 1, 2])


def test_of_four_rows_by_hand():
    found = change(LABELS, WEIGHTS, BEFORE, AFTER, UNITS)
    assert found["rows"] == 4
    # Of 2 * 2 pairs before all are in order, after it one is not and one is a tie.
    assert found["auc"]["before"]["value"] == 1.0
    assert found["auc"]["after"]["value"] == 0.625
    assert found["auc"]["change"]["value"] == -0.375
    # Of the two units drawn both are the second: nothing has changed; or both the first.
    assert (found["auc"]["change"]["low"], found["auc"]["change"]["high"]) == (-1.0, 0.0)
    losses = np.log([[0.75, 0.5, 0.75, 0.75], [0.5, 0.25, 0.75, 0.75]])
    before, after = -losses.mean(axis=1)
    assert found["log_loss"]["before"]["value"] == pytest.approx(before, rel=1e-12)
    assert found["log_loss"]["change"]["value"] == pytest.approx(after - before, rel=1e-12)
    assert found["score"] == {"largest": 0.25, "mean": 0.125}


def test_one_class_has_no_auc_and_is_not_checked_for_it():
    found = change(np.ones(2), np.ones(2), np.array([0.5, 0.5]), np.array([0.5, 0.5]), np.arange(2))
    assert found["auc"]["change"]["value"] is None
    check_changes({"click": found}, ChangeTolerances(auc=0, log_loss=0, score=0, mean_score=0))
    console = Console(record=True, width=120)
    console.print(_changes("click", found))
    assert console.export_text().count("undefined") == 3


def test_each_tolerance():
    found = {"click": change(LABELS, WEIGHTS, BEFORE, AFTER, UNITS)}
    wide = dict(auc=0.375, log_loss=0.3, score=0.25, mean_score=0.125)
    check_changes(found, ChangeTolerances(**wide))
    # log(2 * 1.5) / 4 is 0.2746...
    for key, said in {
        "auc": "the AUC falls by 0.375",
        "log_loss": "the log loss rises by 0.275",
        "score": "a score changes by 0.25",
        "mean_score": "scores change on average by 0.125",
    }.items():
        tolerances = ChangeTolerances(**{**wide, key: 0.1})
        with pytest.raises(ExportError) as error:
            check_changes(found, tolerances)
        assert str(error.value) == (
            f"precision: task 'click': {said} on 4 rows; export.changes.{key} allows 0.1"
        )


def test_what_rises_is_no_loss():
    found = {"click": change(LABELS, WEIGHTS, AFTER, BEFORE, UNITS)}
    assert found["click"]["auc"]["change"]["value"] == 0.375
    check_changes(found, ChangeTolerances(auc=0, log_loss=0, score=1, mean_score=1))


def test_a_score_that_is_not_finite_is_an_error():
    with pytest.raises(ExportError, match="a score in lower precision is not finite"):
        change(LABELS, WEIGHTS, BEFORE, np.where(AFTER == 0.75, np.nan, AFTER), UNITS)
