"""What can go wrong, and the one place that turns it into a line on stderr and an exit code.

0  done
1  refused, or not valid
2  wrong usage (typer's own)
3  a file is missing, or cannot be read or written
"""

from __future__ import annotations

from typing import NamedTuple

from modules.ota.errors import OtaError

REFUSED = 1
FILE = 3


class IotctlError(Exception):
    """A command cannot do what it was asked for; the message is for a person, the code for the shell."""

    def __init__(self, message: str, code: int = REFUSED) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class Report(NamedTuple):
    """How an error ends a command: one line, and the exit code."""

    line: str
    code: int


REPORTED = (IotctlError, OtaError, OSError)


def report(error: Exception) -> Report:
    """The line and the exit code for one of REPORTED."""
    if isinstance(error, IotctlError):
        return Report(f"iotctl: {error.message}", error.code)
    if isinstance(error, OtaError):
        return Report(f"iotctl: {error.reason}: {error.message}", REFUSED)
    if isinstance(error, OSError) and error.filename is not None:
        return Report(f"iotctl: {error.filename}: {error.strerror}", FILE)
    return Report(f"iotctl: {error}", FILE)
