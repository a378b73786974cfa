"""FAT by itself: one plain rename between folders, cut at each of its operations. What it loses, nothing above it can keep."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from sim.board import Board, Cut, Tree
from tests.powercut.runner import MODES

_RENAME = b"import os, machine\nos.rename('/a/x.txt', '/b/x.txt')\nmachine.reset()\n"
_CONTENT = b"content " * 100


def alone(fs: str = "fat") -> dict[str, Any]:
    """Old: the file is where it was. New: where it should be. Mixed: in both places, in none, or damaged."""
    began = time.monotonic()
    counts = {"old": 0, "new": 0, "mixed": 0}
    with tempfile.TemporaryDirectory() as folder:
        board = Board(Path(folder) / "fat.img", fs=fs)
        board.format()
        board.write({"a/x.txt": _CONTENT, "a/other.txt": b"o", "b/other.txt": b"o", "main.py": _RENAME})
        start = Path(folder) / "start.img"
        board.snapshot(start)
        operations = board.boot_once().counters.operations
        for at in range(operations + 1):
            for mode in MODES:
                board.restore(start)
                board.boot_once(cut=Cut(at, mode))
                counts[_verdict(board)] += 1
    cuts = sum(counts.values())
    seconds = round(time.monotonic() - began, 1)
    rest = {"unbootable": 0, "lost_preferences": 0, "seconds": seconds}
    return {"scenario": "a plain rename alone", "fs": fs, "cuts": cuts, **counts, **rest}


def _verdict(board: Board) -> str:
    try:
        found = board.read()
    except Exception:  # the file system cannot be mounted or read any more
        return "mixed"
    return "old" if _is(found, "a/x.txt", "b/x.txt") else "new" if _is(found, "b/x.txt", "a/x.txt") else "mixed"


def _is(found: Tree, there: str, gone: str) -> bool:
    others = found.files.get("a/other.txt") == b"o" and found.files.get("b/other.txt") == b"o"
    return others and found.files.get(there) == _CONTENT and gone not in found.files
