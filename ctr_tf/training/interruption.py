"""SIGTERM as a wish to stop after the current step."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class Interruption:
    """Within it, SIGTERM sets `requested` and does nothing else.

    Python takes signals in its main thread alone; in another one this does nothing.

    Example:
        >>> import os
        >>> with Interruption() as interruption:
        ...     os.kill(os.getpid(), signal.SIGTERM)
        ...     interruption.requested
        True
    """

    def __init__(self):
        self.requested = False
        self._previous = None
        self._main = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> "Interruption":
        if self._main:
            self._previous = signal.signal(signal.SIGTERM, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        if self._main:
            signal.signal(signal.SIGTERM, self._previous or signal.SIG_DFL)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
