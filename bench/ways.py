"""The same update of the reference tree in different ways, each on a fresh board: what one way of updating costs.

The reference tree is what the releases hold. The platform itself lies beside it on the flash and belongs to no release, as it
would if it were part of the firmware: so the archive is the tree's 42 files, as it is with the updaters that are compared.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import reference
from bench.lab import DEVICE, Failed, Lab, Release, Update
from bench.link import Weather
from iotctl.tree import Files
from sim.board import BoardError

PACED = Weather(bytes_per_s=64 * 1024, request_ms=80)
TRICKLE = Weather(bytes_per_s=4 * 1024)
_TICKER = "modules/ticker/__init__.py"


@dataclass(frozen=True)
class Way:
    """One way to update: which modules run, what is typed, and which line of the console says that it is committed."""

    name: str
    modules: tuple[str, ...]
    command: str
    committed: str = r"ota: committed"
    end: str = ""
    latest: bool = False
    deltas: int = 0
    heap: str = "160k"


LEGACY = Way(
    "legacy",
    ("serial_log", "wifi", "overwrite", "ticker"),
    "overwrite",
    r"overwrite: done",
    r"ticker: first tick of",
    latest=True,
)
LATEST = Way("latest", ("serial_log", "wifi", "ota", "ticker"), "ota check", latest=True, heap="192k")
FULL = Way("full", ("serial_log", "wifi", "ota", "ticker"), "ota check")
DELTA = Way("delta", ("serial_log", "wifi", "ota", "ticker"), "ota check", deltas=1)


@contextmanager
def prepared(way: Way, heap: str | None = None) -> Iterator[tuple[Lab, Release]]:
    """A board that runs the old version and has nothing to do, and the new version, which its server offers."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        key = way is not LATEST  # the `latest` protocol is unsigned
        with Lab(Path(folder), modules=way.modules, heap=heap or way.heap, key=key) as lab:
            files = _tree(lab)
            old, new = lab.release("1.0.0", files), lab.release("1.1.0", reference.updated(files))
            lab.flash(old, lab.platform("ticker"))
            _offer(lab, way, old, 0)
            lab.power_on()
            _offer(lab, way, new, way.deltas)
            yield lab, new


def run(way: Way, weather: Weather | None = None, heap: str | None = None) -> Update:
    """One update from beginning to end."""
    with prepared(way, heap) as (lab, new):
        lab.link.weather = weather or Weather()
        return lab.update(way.command, new, way.committed, way.end)


def succeeds(way: Way, log: Callable[[str], None]) -> Callable[[int], bool]:
    """For a bisection: does an update work in so many kilobytes of heap?"""

    def attempt(heap_k: int) -> bool:
        try:
            run(way, heap=f"{heap_k}k")
        except (Failed, BoardError) as error:
            log(f"{way.name} in {heap_k}k: no: {str(error).splitlines()[0]}")
            return False
        log(f"{way.name} in {heap_k}k: yes")
        return True

    return attempt


def poll() -> tuple[int, int]:
    """Bytes in and out of a check that finds nothing new."""
    with prepared(FULL) as (lab, _new):
        _offer(lab, FULL, lab.release("1.0.0", _tree(lab)), 0)  # the old one again: a channel file with a new counter
        _ask(lab, r"ota: up to date")
        before = len(lab.link.connections)
        _ask(lab, r"ota: up to date")
        used = lab.link.connections[before:]
        return sum(c.wire_in for c in used), sum(c.wire_out for c in used)


def resume() -> float:
    """A full download that breaks off half-way: what the second try brings, as a part of what the whole would."""
    whole = run(FULL).wire_in
    with prepared(FULL) as (lab, new):
        lab.link.weather = Weather(break_after=len(new.archive) // 2)
        _ask(lab, r"ota: check failed: .*\(connection_lost\)")
        second = lab.update("ota check", new)
        return second.wire_in / whole


def _ask(lab: Lab, answer: str) -> None:
    since = lab.line()
    lab.board.send("ota check")
    lab.board.expect(answer, since=since)
    lab.wait_idle()


def _tree(lab: Lab) -> Files:
    ticker = (DEVICE / "ticker" / "__init__.py").read_bytes()
    return {**reference.tree(len(lab.profile().raw) + len("1.0.0\n") + len(ticker)), _TICKER: ticker}


def _offer(lab: Lab, way: Way, release: Release, deltas: int) -> None:
    if way.latest:
        lab.offer_latest(release)
    else:
        lab.offer(release, deltas)
