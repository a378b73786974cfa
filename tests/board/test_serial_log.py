"""The log on a board: levels, a bounded history, and what it does when memory is short."""

from __future__ import annotations

from typing import Any

import pytest

from sim.board import Board
from tests.support.driver import new_board, run

_LOG = "from iot_platform.log import SerialLog\n"


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return new_board(tmp_path_factory.mktemp("log") / "board.img")


def on_board(board: Board, script: str) -> Any:
    return run(board, _LOG + script)


def test_the_level_decides_what_is_said(board: Board) -> None:
    script = """
SerialLog.purge()
SerialLog.debug("quiet")
SerialLog.log("a", 1, None)
SerialLog.set_level("warning")
SerialLog.log("not this")
SerialLog.warning("w")
SerialLog.error("e")
SerialLog.set_level("debug")
SerialLog.debug("d")
said = [line[line.index("]") + 2:] for line in SerialLog.history()]
return said, [SerialLog.set_level(name) for name in ("loud", None, ["info"], "info")]
"""
    assert on_board(board, script) == [["I a 1 None", "W w", "E e", "D d"], [False, False, False, True]]


def test_the_history_is_bounded(board: Board) -> None:
    script = """
found = []
for size, count in ((1, 200), (290, 60)):
    SerialLog.purge()
    for n in range(count):
        SerialLog.log(n, "x" * size)
    lines = list(SerialLog.history())
    found.append([len(lines), sum(len(line) + 1 for line in lines), lines[-1].split(" ")[-2], SerialLog.count - SerialLog.first])
SerialLog.purge()
return found + [len(list(SerialLog.history()))]
"""
    short, long, purged = on_board(board, script)
    assert short[0] == short[3] > 32 and 1024 - 32 < short[1] <= 2048 and short[2] == "199"
    assert long[0] == long[3] >= 3 and 1024 - 330 < long[1] <= 2048 and long[2] == "59"
    assert purged == 0


def test_a_line_is_bounded_and_cannot_move_the_cursor(board: Board) -> None:
    script = """
found = []
for text in ("x" * 5000, "\\x07" * 5000, "\U0001f600" * 1000, "a\\x1b[2Jb\\nc"):
    SerialLog.log(text)
    found.append(SerialLog.line(SerialLog.count - 1))
return found
"""
    long, escaped, wide, strange = on_board(board, script)
    assert 300 < len(long) < 330 and long.endswith("x...")
    assert 300 < len(escaped) < 330 and escaped.endswith("...")
    assert 240 < len(wide) < 270 and wide.endswith("\U0001f600...")
    assert strange.endswith("a\\x1b[2Jb\\x0ac")


def test_without_memory_it_does_not_raise(board: Board) -> None:
    script = """
import gc
for n in range(40):
    SerialLog.log("y" * 90)
before, long = SerialLog.count, "z" * 250
eaten = None
try:
    while True:
        eaten = (eaten, bytearray(128))  # a list would fail when it grows, with much memory left
except MemoryError:
    pass
for n in range(3):
    SerialLog.log(long)
try:
    raise ValueError(long)
except ValueError as error:
    SerialLog.exception(error, long)
after = SerialLog.count
del eaten
gc.collect()
SerialLog.log("alive")
return [after == before, "y" in SerialLog.line(SerialLog.first), list(SerialLog.history())[-1][-5:]]
"""
    assert on_board(board, script) == [True, True, "alive"]


def test_a_traceback_is_logged_line_by_line(board: Board) -> None:
    script = """
SerialLog.purge()
def inner():
    raise KeyError("k")
try:
    inner()
except KeyError as error:
    SerialLog.exception(error, "module", "door")
return [line[line.index("]") + 2:] for line in SerialLog.history()]
"""
    first, *rest = on_board(board, script)
    assert first == "E module door KeyError('k',)"
    assert rest[0].startswith("E Traceback") and any("inner" in line for line in rest)
