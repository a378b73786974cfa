"""Many browsers while the board updates: a short version of `python -m bench load`."""

from __future__ import annotations

from playwright.sync_api import Browser

from bench import load
from tests.support import figures

MOST_GAP_MS = 2_500  # other processes share the cores: alone, `python -m bench load` measures
CLOSED = {"RemoteDisconnected", "ConnectionResetError", "IncompleteRead"}


def test_twenty_browsers_and_fifty_requests_a_second_do_not_stop_an_update(chromium: Browser) -> None:
    """On a board with room for all of it."""
    found = load.measure(load.Plan(seconds=15, bytes_per_s=20_000, heap_k=256), chromium)
    figures.note("load", "\n    ".join(found.lines()))
    assert found.confirmed != "never" and found.chromium == "1.1.0" and not found.failures
    assert found.errors == {} and found.memory_errors == 0
    assert found.requests > 0.8 * 50 * 15 and found.refused_streams > 0 and found.streams >= 3
    assert found.gaps and max(gap.longest for gap in found.gaps) < MOST_GAP_MS


def test_without_the_memory_for_them_browsers_get_a_clean_503_and_the_board_updates_itself(chromium: Browser) -> None:
    found = load.measure(load.Plan(seconds=15, bytes_per_s=20_000, heap_k=128), chromium)
    figures.note("load in 128k", "\n    ".join(found.lines()))
    assert found.confirmed != "never" and found.chromium == "1.1.0"
    assert {error for error in found.errors if not error.startswith("503")} <= CLOSED
    assert sum(count for error, count in found.errors.items() if error in CLOSED) < 0.1 * found.requests
    assert found.requests > 0.8 * 50 * 15
    assert found.gaps and max(gap.longest for gap in found.gaps) < MOST_GAP_MS
