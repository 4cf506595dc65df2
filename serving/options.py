"""Options of a command line that are the keys of a configuration."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from ctr_tf.config_base import Config

C = TypeVar("C", bound=Config)


def read_options(parser: argparse.ArgumentParser, kind: type[C], given: Mapping[str, object]) -> C:
    """A configuration of what a command line says; ends the program where it is wrong.

    Args:
        parser: of the command line, whose error names the option.
        kind: of the configuration.
        given: values by key, texts as they were typed.

    Example:
        >>> from serving.config import ServeConfig
        >>> read_options(argparse.ArgumentParser(), ServeConfig, {"port": "0"}).port
        0
    """
    try:
        # Options are text; only files have to be of the right type as they stand.
        return kind.model_validate(given, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        if first["loc"]:
            option = str(first["loc"][0]).replace("_", "-")
            message = f"--{option}: {message}, got {first['input']!r}"
        parser.error(message)
