"""How heap and time grow with the release: from 10 files to 1,000, from 50 KB to 5 MB, on a larger flash.

One line of one file changes: the whole list is fetched and compared with what is there, of the files only what differs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import reference
from bench.heap import smallest
from bench.lab import Failed, Lab
from sim.board import BoardError

FLASH = 24 * 1024 * 1024
_MODULES = ("serial_log", "wifi", "ota")
_CHANGED = "assets/0/part5.py"
_MOST_MORE = 24  # kilobytes above which a large release is said to need another kind of board


@dataclass(frozen=True)
class Point:
    """A release of `files` files and `size` bytes, and what it took: kilobytes of heap, milliseconds."""

    files: int
    size: int
    heap_k: int
    ms: float


def update(files: int, size: int, heap: str) -> float:
    """Milliseconds of one update that changes one file."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        Lab(Path(folder), modules=_MODULES, heap=heap, size=FLASH) as lab,
    ):
        tree = reference.scaled(files, size)
        old = lab.release("1.0.0", tree)
        new = lab.release("1.1.0", {**tree, _CHANGED: tree[_CHANGED].replace(b"import gc", b"import io", 1)})
        lab.settled(old, new, lab.platform())
        return lab.update("ota check", new).ms


def measure(points: tuple[tuple[int, int], ...], log: Callable[[str], None]) -> dict[str, Any]:
    """Heap and time of each point. The first one's heap is found by bisection, that of the others by going up from there."""
    base = smallest(lambda heap_k: _attempt(*points[0], heap_k, log) is not None)
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(_climb, files, size, base, log) for files, size in points[1:]]
        found = [_climb(*points[0], base, log), *(job.result() for job in jobs)]
    heaps = [point.heap_k for point in found]
    return {"heap_spread_k": max(heaps) - min(heaps), "points": [_row(point) for point in found]}


def _row(point: Point) -> dict[str, Any]:
    row: dict[str, Any] = asdict(point)
    row["ms"] = round(point.ms)
    row["us_per_byte"] = round(point.ms * 1000 / point.size, 2)
    return row


def _climb(files: int, size: int, base: int, log: Callable[[str], None]) -> Point:
    for heap_k in range(base, base + _MOST_MORE):
        ms = _attempt(files, size, heap_k, log)
        if ms is not None:
            return Point(files, size, heap_k, ms)
    raise Failed(f"{files} files of {size} bytes need more than {base + _MOST_MORE}k of heap, 10 files of 50 KB {base}k")


def _attempt(files: int, size: int, heap_k: int, log: Callable[[str], None]) -> float | None:
    try:
        ms = update(files, size, f"{heap_k}k")
    except (Failed, BoardError) as error:
        log(f"{files} files, {size} bytes in {heap_k}k: no: {str(error).splitlines()[0]}")
        return None
    log(f"{files} files, {size} bytes in {heap_k}k: yes, {ms:.0f} ms")
    return ms
