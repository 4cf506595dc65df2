"""Checks what a job names of Beam before the job starts."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import create_runner


def check_runner(runner: str, options: Sequence[str]) -> None:
    """Checks that there is such a runner and that Beam knows the options.

    Args:
        runner: by name or class path.
        options: as `--direct_num_workers=2`.

    Raises:
        ValueError: starts with `runner` or `runner_options`, and names the value.
    """
    try:
        create_runner(runner)
    except (ValueError, ImportError, AttributeError) as error:
        raise ValueError(f"runner: {runner!r}: {error}") from None
    # Beam itself only warns of an option that no runner knows, and goes on without it.
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for found in PipelineOptions.__subclasses__():
        found._add_argparse_args(parser)
    known = [text for action in parser._actions for text in action.option_strings]
    for option in options:
        name = option.split("=")[0]
        if name.startswith("--") and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"runner_options: no option {name!r}{hint}")
