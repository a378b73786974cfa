"""The smallest heap in which something succeeds, by bisection; and where the memory goes; and what `iotctl build` tells of it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.lab import Failed, Lab, Release
from iotctl.tree import Files
from sim.board import BoardError

_FLOOR_K, _CEILING_K, _SMALL_K = 40, 232, 128
_ALWAYS = ("serial_log", "wifi", "ota")
_STORY = b"What one line more or less of a page costs, on the way to a board that goes on with its work.\n" * 49


@dataclass(frozen=True)
class Memory:
    """Bytes free at the start of the main loop and at the lowest point of an update, in a heap of `heap_k` kilobytes."""

    heap_k: int
    at_loop: int
    lowest: int


def smallest(succeeds: Callable[[int], bool], low: int = _FLOOR_K, high: int = _CEILING_K, step: int = 1) -> int:
    """The smallest number of kilobytes between `low` and `high` with which `succeeds` says True, twice. Failed if none."""
    if not succeeds(high):
        raise Failed(f"even {high}k of heap are too few")
    good, bad = high, low - step
    while good - bad > step:
        middle = bad + (good - bad) // 2 // step * step
        if succeeds(middle):
            good = middle
        else:
            bad = middle
    while not succeeds(good):
        good += step
    return good


def story(files: Files, on_the_way_to: str = "a board") -> Files:
    """A tree with a page whose first line may differ from one release to the next."""
    return {**files, "www/story.txt": _STORY.replace(b"a board", on_the_way_to.encode(), 1)}


def platform_update(modules: tuple[str, ...], heap_k: int, log: Callable[[str], None] | None = None) -> Memory:
    """Boot this checkout's tree with `modules`, and update it by one line of a file. Failed when that does not work."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Lab(Path(folder), modules=modules, heap=f"{heap_k}k") as lab:
        if log:
            lab.board.on_line = log
        files = lab.platform()
        old, new = lab.release("1.0.0", story(files)), lab.release("1.1.0", story(files, "the board"))
        return _update(lab, old, new)


def _update(lab: Lab, old: Release, new: Release) -> Memory:
    lab.settled(old, new)
    update = lab.update("ota check", new)
    running = [match for line in lab.board.lines if (match := re.search(r"running: .* free memory (\d+)", line))]
    return Memory(int(lab.board.heap[:-1]), int(running[0].group(1)), update.lowest or 0)


def min_platform_heap(modules: tuple[str, ...], log: Callable[[str], None] = print) -> int:
    """Kilobytes in which this checkout boots and updates itself."""

    def succeeds(heap_k: int) -> bool:
        try:
            memory = platform_update(modules, heap_k)
        except (Failed, BoardError) as error:
            log(f"{heap_k}k: no: {str(error).splitlines()[0]}")
            return False
        log(f"{heap_k}k: yes; free at the loop {memory.at_loop}, lowest in the update {memory.lowest}")
        return True

    return smallest(succeeds)


def table() -> dict[str, object]:
    """KiB that the platform takes at rest, by the modules that it has beside the least of them, and in an update boot.

    The last update boot goes without MQTT and the page, so there it is the same for all. The heap is a small one: where there is
    more, an update keeps the code of all its phases.
    """
    found = {more: platform_update((*_ALWAYS, *more.split()), _SMALL_K) for more in ("", "mqtt", "web", "mqtt web")}
    rest = {more: _kib(memory.heap_k * 1024 - memory.at_loop) for more, memory in found.items()}
    return {"at_rest": rest, "update_boot": _kib(_SMALL_K * 1024 - found[""].lowest)}


def _kib(size: int) -> int:
    return -(-size // 1024)
