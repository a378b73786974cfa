"""What all tests share: more workers than cores, and the figures that a reader wants to see at the end.

Most tests wait for a board's clock (settling, pauses, watchdogs) and not for a core, so `-n auto` starts four workers a core.
"""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path

import hypothesis
import pytest

import iotctl  # noqa: F401 (stands in for what device code imports of MicroPython)

FIGURES = Path(__file__).resolve().parent.parent / ".build" / "figures"

hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")  # so many workers: how long an example takes says nothing


def pytest_xdist_auto_num_workers() -> int:
    return 4 * (os.cpu_count() or 1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="everything of what is otherwise evenly sampled")


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--full"))


def pytest_sessionstart(session: pytest.Session) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would what tests start
    if not hasattr(session.config, "workerinput"):
        for path in FIGURES.glob("*.txt"):
            path.unlink()


def pytest_runtest_setup() -> None:
    """Device code collects often, because a board's heap is small: what is here before a test has no part in that."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the sweeps and the power cuts have counted: see figures.note."""
    for path in sorted(FIGURES.glob("*.txt")):
        terminalreporter.write_line(path.read_text().rstrip())
