"""What can be wrong with a job and with a row."""

from __future__ import annotations


class PrepareError(ValueError):
    """The job cannot run, or its input as a whole is unusable."""


class RejectError(ValueError):
    """One row is unusable.

    Args:
        reason: the column and the rule, without the value, so that reasons can be counted.
        value: what was received.
    """

    def __init__(self, reason: str, value: object = None):
        super().__init__(reason)
        self.reason = reason
        self.value = value
