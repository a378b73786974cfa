"""A new recovery loader on trial: whatever is wrong with it, the board comes back to the proven one, by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from iotctl import ROOT
from sim import flashlog
from sim.board import Board, Cut

BOOT = (ROOT / "platform/boot.py").read_bytes()
PROVEN = (ROOT / "platform/ota_boot.py").read_bytes()
MAIN = b"""import sys
import ota_boot
print("LOADER", ota_boot.__name__, ota_boot.ready, ota_boot.failures, sys.path)
"""
BITES = b"sys.modules['machine'].WDT(timeout=1)\n"  # so that nobody waits
# What is wrong with a new loader; how each life with it ends ("" when main.py came to run, under the proven one).
BAD = {
    "is no Python": (b"def (\n", ""),
    "raises at import": (b"raise SystemExit('no')\n", ""),
    "imports what is not there": (b"import nowhere\n", ""),
    "loops at import": (b"import sys\nif __name__ != 'loader_1':\n    " + BITES + b"while True:\n    pass\n", "watchdog"),
    "raises in run()": (PROVEN.replace(b"    _imports()\n", b"    _imports()\n    raise KeyboardInterrupt\n", 1), ""),
    "raises what cannot be printed": (
        b"class Bad(Exception):\n    def __str__(self):\n        raise ValueError\n    __repr__ = __str__\nraise Bad(1)\n",
        "",
    ),
    "loops in run()": (PROVEN.replace(b"    _imports()\n", b"    " + BITES + b"    while True:\n        pass\n", 1), "watchdog"),
    "never becomes ready": (PROVEN.replace(b"    ready = True\n", b"    ready = 1\n"), ""),
    "has no run()": (PROVEN.replace(b"def run(", b"def runs(").replace(b"    global run,", b"    global runs,"), ""),
    "has no feed()": (PROVEN.replace(b"def feed(", b"def feeds(").replace(b"feed()", b"feeds()"), ""),
    "has no ready": (PROVEN.replace(b"ready", b"is_ready"), ""),
    "empties sys.path": (b"import sys\nsys.path.clear()\nraise OSError(5)\n", ""),
}


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board(tmp_path / "board.img", heap="192k")
    board.format()
    yield board
    board.stop()


def put(board: Board, loader: bytes, name: str = ".ota/loader_0.py", **more: bytes) -> None:
    files = {"boot.py": BOOT, "ota_boot.py": PROVEN, "main.py": MAIN, name: loader}
    board.write({**files, **{path.replace("__", "."): data for path, data in more.items()}})


def carried(board: Board) -> str:
    """Which loader carries the next boot that comes as far as main.py, and how; at most three lives are lost before."""
    cause = "power"
    for _life in range(4):
        boot = board.boot_once(cause=cause)
        for line in boot.output.splitlines():
            if line.startswith("LOADER "):
                return line
        assert boot.cause == "watchdog", boot.output
        cause = boot.cause
    raise AssertionError("the new loader gets too many boots")


@pytest.mark.parametrize("what", BAD)
def test_a_bad_loader_leads_back_to_the_proven_one(board: Board, what: str) -> None:
    loader, ends = BAD[what]
    put(board, loader)
    board.env["SIMULATOR_WATCHDOG_MS"] = "500" if ends else ""
    first = board.boot_once()
    board.env["SIMULATOR_WATCHDOG_MS"] = ""
    assert ("LOADER" not in first.output) == (ends == "watchdog"), first.output
    if ends:
        assert first.cause == ends and ".ota/loader_1.py" in board.read().files
    assert carried(board).startswith("LOADER ota_boot True 0 ['', '.frozen', '/lib']")
    found = board.read()
    assert found.files["ota_boot.py"] == PROVEN
    assert not any("loader" in path for path in found.files), "the failed one is left"
    assert not any("fails" in path for path in found.files), "its hangs are not the release's"


def test_two_bad_loaders_in_a_row_leave_the_proven_ones(board: Board) -> None:
    for what in ("loops in run()", "never becomes ready"):
        put(board, BAD[what][0], ota_boot_old__py=PROVEN + b"# older\n")
        assert carried(board).startswith("LOADER ota_boot True")
    found = board.read().files
    assert found["ota_boot.py"] == PROVEN and found["ota_boot_old.py"] == PROVEN + b"# older\n"


def test_a_good_loader_carries_boots_that_are_counted(board: Board) -> None:
    put(board, PROVEN + b"# newer\n")
    for n in (1, 2, 3):
        assert carried(board).startswith(f"LOADER loader_{n} True 0 ['', '.frozen', '/lib']")
    assert carried(board).startswith("LOADER ota_boot True"), "it was never said to be good"
    assert not any("loader" in path for path in board.read().files)


def test_where_nothing_can_count_or_guard_a_new_loader_is_not_tried(board: Board) -> None:
    no_watchdog = BOOT.replace(b"machine.WDT(", b"machine.NO_WDT(")
    put(board, PROVEN, boot__py=no_watchdog)
    assert carried(board).startswith("LOADER ota_boot True")


def test_the_older_loader_comes_when_the_proven_one_is_damaged(board: Board) -> None:
    put(board, BAD["raises in run()"][0], ota_boot_old__py=PROVEN, ota_boot__py=b"\0")
    assert carried(board).startswith("LOADER ota_boot_old True")


@pytest.mark.parametrize("what", ["loops in run()", "raises in run()", "never becomes ready", "has no feed()"])
def test_power_that_fails_anywhere_leads_back_to_the_proven_loader(board: Board, tmp_path: Path, what: str) -> None:
    """Every operation of every life until the proven one carries, torn and after it."""
    put(board, BAD[what][0])
    cause, lives = "power", 0
    while True:
        start = tmp_path / f"life{lives}.img"
        board.snapshot(start)
        boot = board.boot_once(cause=cause, log=tmp_path / "life.log")
        for at in range(len(flashlog.read(tmp_path / "life.log"))):
            for mode in ("torn", "after"):
                board.restore(start)
                assert board.boot_once(cause=cause, cut=Cut(at, mode)).cause == "power"
                assert carried(board).startswith("LOADER ota_boot True 0"), f"life {lives}, {mode} {at}"
                assert board.read().files["ota_boot.py"] == PROVEN
        if "LOADER ota_boot " in boot.output:
            return
        board.restore(start)
        cause, lives = board.boot_once(cause=cause).cause, lives + 1
        assert lives < 5
