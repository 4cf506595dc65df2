"""A long stage shows life, and standard error comes back when it ends."""

import os
import time

from pipelines.progress import quiet, stage


def test_standard_error_goes_to_the_log_and_comes_back(tmp_path, capfd):
    (tmp_path / "data").write_bytes(bytes(3 << 20))
    with quiet(tmp_path / "log", tmp_path, every=0.02):
        os.write(2, b"a worker's noise\n")
        time.sleep(0.2)
    os.write(2, b"afterwards\n")
    shown = capfd.readouterr().err
    assert "3 MiB written" in shown and shown.endswith("afterwards\n") and "noise" not in shown
    assert (tmp_path / "log").read_text() == "a worker's noise\n"


def test_a_stage_says_what_it_counted(capsys):
    with stage("rows") as say:
        say("7 rows read")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["rows ...", "  7 rows read"] and lines[2].endswith(" s")
