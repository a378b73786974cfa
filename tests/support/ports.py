"""TCP ports for what tests start. Each worker has its own, and gives none twice for a long time: a board that outlives its test's
broker for a moment, and looks for it, must not find another test's.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket

_FIRST, _EACH = 10_100, 1_000  # above 10080, which browsers refuse; below those that the system gives to whoever asks for any
_given = itertools.count(os.getpid())


def free_port() -> int:
    """One of 127.0.0.1 that nobody listens on now."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        port = _FIRST + worker * _EACH + next(_given) % _EACH
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
