"""Log lines for people or for machines."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Literal

CALLS = logging.getLogger("serving.calls")
"""A line a call, at level DEBUG; its facts are the record's `facts`."""


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the facts of a call.

    Example:
        >>> record = logging.makeLogRecord({"levelname": "INFO", "name": "x", "msg": "call",
        ...                                 "created": 0.5, "facts": {"status": "OK"}})
        >>> print(JsonLines().format(record))
        {"time": "1970-01-01T00:00:00.500+00:00", "level": "INFO", "logger": "x",
         "message": "call", "status": "OK"}
    """

    def format(self, record: logging.LogRecord) -> str:
        """One record's line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def start_logging(format: Literal["text", "json"]) -> None:
    """Logs to standard error; as JSON every call has a line."""
    handler = logging.StreamHandler()
    if format == "json":
        handler.setFormatter(JsonLines())
        CALLS.setLevel(logging.DEBUG)
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
