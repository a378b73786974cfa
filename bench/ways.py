"""The same tree updated in different ways, each on a fresh board: what one way of updating costs.

The reference tree is what the releases hold. The platform itself lies beside it on the flash and belongs to no release, as it
would if it were part of the firmware: so the archive is the tree's 42 files, as it is with the updaters that are compared.
"""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import reference
from bench.lab import DEVICE, Failed, Lab, Release, Update, all_modules, platform_files, usual_archive
from bench.link import Weather
from iotctl.tree import Files
from sim.board import BoardError, Counters

PACED = Weather(bytes_per_s=64 * 1024, request_ms=80)
TRICKLE = Weather(bytes_per_s=4 * 1024)
_TICKER = "modules/ticker/__init__.py"
_OURS = ("serial_log", "wifi", "ota", "ticker")
_TAR = 512  # bytes of a member's header, and what its data is padded to
_ROOM = "192k"  # where it is not memory that is measured: beside everything else, so in the ordinary boot


@dataclass(frozen=True)
class Way:
    """One way to update: which modules run, what is typed, and which line of the console says that it is committed.

    :param every_file: all files change, and not one line of one.
    :param behind: so many releases lie between the board's and the new one, each with another such line.
    """

    name: str
    modules: tuple[str, ...] = _OURS
    command: str = "ota check"
    committed: str = r"ota: committed"
    end: str = ""
    latest: bool = False
    every_file: bool = False
    behind: int = 0
    heap: str = "160k"


LEGACY = Way(
    "legacy",
    ("serial_log", "wifi", "overwrite", "ticker"),
    "overwrite",
    r"overwrite: done",
    r"ticker: first tick of",
    latest=True,
)
LATEST = Way("latest", latest=True, heap=_ROOM)
SMALL = Way("small")
SMALL_FIVE = Way("small_five", behind=4)
FULL = Way("full", every_file=True)
ALL = (LEGACY, LATEST, SMALL, SMALL_FIVE, FULL)


@contextmanager
def prepared(way: Way, heap: str | None = None, meter: bool = False) -> Iterator[tuple[Lab, Release, Release]]:
    """A board that runs the old version and has nothing to do, and the new version, which its server offers."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        key = not way.latest  # the `latest` protocol is unsigned
        with Lab(Path(folder), modules=way.modules, heap=heap or way.heap, key=key) as lab:
            if meter:
                lab.board.env["SIMULATOR_METER"] = "1"
            files = _tree(lab)
            old = lab.release("1.0.0", files)
            lab.flash(old, lab.platform("ticker"))
            _offer(lab, way, old)
            lab.power_on()
            for n in range(1, way.behind + 1):  # releases that this board never hears of
                _offer(lab, way, lab.release(f"1.0.{n}", reference.updated(files, seconds=45 + n)))
            changed = reference.rewritten(files) if way.every_file else reference.updated(files)
            new = lab.release("1.1.0", changed)
            _offer(lab, way, new)
            yield lab, old, new


def run(way: Way, weather: Weather | None = None, heap: str | None = None) -> Update:
    """One update from beginning to end."""
    with prepared(way, heap) as (lab, _old, new):
        lab.link.weather = weather or Weather()
        return lab.update(way.command, new, way.committed, way.end)


@dataclass(frozen=True)
class Work:
    """What an update has read, inflated and hashed, beside what booting both versions takes anyway.

    `needed`: bytes of the files that are not yet there; `listed`: of the list, which is needed too; `framed`: both with the
    headers and padding of a tar. `reads` and `read`: operations of the flash and their bytes, until the restart; `apply_reads`,
    `apply_read`: in the boot that puts the files in place, the trial and the clean-up.
    """

    reads: int
    read: int
    apply_reads: int
    apply_read: int
    needed: int
    listed: int
    framed: int
    inflated: int
    hashed: int


def work(way: Way) -> Work:
    """Counts what one update does. A board with room, so that nothing is loaded twice for want of memory."""
    update, booted, _sizes = _measured(way, meter=False)
    metered, idle, (needed, listed, framed) = _measured(way, meter=True)
    first, last = update.flash[0] - booted[0], _sum(update.flash[1:]) - booted[1]
    meter = _sum(metered.flash) - _sum(idle)
    return Work(first.reads, first.read, last.reads, last.read, needed, listed, framed, meter.inflated, meter.hashed)


def _measured(way: Way, meter: bool) -> tuple[Update, tuple[Counters, Counters], tuple[int, int, int]]:
    """The update, what a boot of the old version and one of the new one do; and the sizes that Work has."""
    with prepared(way, _ROOM, meter) as (lab, old, new):
        before = lab.restart()
        update = lab.update(way.command, new, way.committed, way.end)
        lab.wait_idle()
        after = lab.restart()
        needed = [len(data) for path, data in new.files.items() if old.files.get(path) != data]
        listed = len(new.bundle.listing)
        framed = [*needed, listed, len(new.bundle.signature or b"")]
        padded = sum(_TAR + -(-size // _TAR) * _TAR for size in framed)
        return update, (before, after), (sum(needed), listed, padded)


def _sum(lives: tuple[Counters, ...]) -> Counters:
    return sum(lives, Counters())


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


def install() -> dict[str, float]:
    """An empty tree gets all of its files: bytes received, as a part of one gzip stream of the same files.

    Once with the reference tree, whose files are sources, and once with those of the platform, most of which are compiled.
    """
    found: dict[str, float] = {}
    platform = {f"copy/{path}": data for path, data in platform_files(all_modules()).items()}
    for name, make in (("", _tree), ("platform_", lambda _lab: platform)):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, Lab(Path(folder), modules=_OURS, heap=_ROOM) as lab:
            empty, whole = lab.release("1.0.0", {}), lab.release("1.1.0", make(lab))
            lab.settled(empty, whole, lab.platform())
            wire = lab.update("ota check", whole).wire_in
            stream = len(gzip.compress(gzip.decompress(usual_archive(whole.files)), 9, mtime=0))
            found |= {f"{name}wire_in": wire, f"{name}gzip": stream, f"{name}ratio": round(wire / stream, 3)}
    return found


def poll() -> dict[str, int]:
    """A check that finds nothing new: bytes in and out, flash bytes programmed."""
    with prepared(FULL) as (lab, _old, _new):
        _offer(lab, FULL, lab.release("1.0.0", _tree(lab)))  # the old one again: a channel file with a new counter
        _ask(lab, r"ota: up to date")
        lab.restart()
        before = len(lab.link.connections)
        _ask(lab, r"ota: up to date")
        used = lab.link.connections[before:]
        return {
            "wire_in": sum(c.wire_in for c in used),
            "wire_out": sum(c.wire_out for c in used),
            "programmed": lab.restart().programmed,
        }


def resume() -> float:
    """A full download that breaks off half-way: what the second try brings, as a part of what the whole would."""
    whole = run(FULL).wire_in
    with prepared(FULL) as (lab, _old, new):
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


def _offer(lab: Lab, way: Way, release: Release) -> None:
    if way.latest:
        lab.offer_latest(release)
    else:
        lab.offer(release)
