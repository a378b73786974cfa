"""The simulated board has the habits of the port that it is like: each is a row of sim/ports.py."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from sim.board import Board
from sim.ports import PORTS

_SAY = b"""
import machine, os, gc
gc.collect()
found = {name: getattr(machine, name) for name in dir(machine) if name.endswith("_RESET")}
missing = []
for name in ("network", "socket", "requests", "mip", "asyncio", "deflate", "machine"):
    try:
        __import__(name)
    except ImportError:
        missing.append(name)
try:
    machine.WDT(timeout=8389)
    longer = "ok"
except ValueError as error:
    longer = str(error)
print("SAYS", (found, machine.reset_cause(), missing, longer, os.statvfs("/")[:3], gc.mem_free()))
machine.reset()
"""


def _says(board: Board, cause: str = "power") -> tuple[Any, ...]:
    output = board.boot_once(timeout=30, cause=cause).output
    found: tuple[Any, ...] = ast.literal_eval(next(line[5:] for line in output.splitlines() if line.startswith("SAYS ")))
    return found


@pytest.mark.parametrize("name", PORTS)
def test_a_board_has_its_ports_habits(tmp_path: Path, name: str) -> None:
    port = PORTS[name]
    board = Board(tmp_path / "board.img", like=name)
    board.format()
    board.write({"main.py": _SAY})
    constants, cause, missing, longer, sizes, free = _says(board)
    assert constants == port.constants
    assert cause == port.constants["PWRON_RESET"]
    assert missing == list(port.missing)
    assert longer == ("timeout exceeds 8388" if name.startswith("pico") else "ok")
    assert sizes == (4096, 4096, port.flash // 4096)
    assert int(port.heap[:-1]) * 900 < free < int(port.heap[:-1]) * 1024


@pytest.mark.parametrize(
    ("name", "restart", "reads_as"),
    [
        ("pico-w", "hard", "WDT_RESET"),  # every machine.reset() is the watchdog's
        ("pico-w", "deepsleep", "WDT_RESET"),
        ("pico-w", "brownout", "PWRON_RESET"),
        ("esp32", "hard", "HARD_RESET"),
        ("esp32", "brownout", "PWRON_RESET"),
        ("unix", "watchdog", "WDT_RESET"),
    ],
)
def test_a_restart_reads_as_the_port_reads_it(tmp_path: Path, name: str, restart: str, reads_as: str) -> None:
    board = Board(tmp_path / "board.img", like=name)
    board.format()
    board.write({"main.py": _SAY})
    assert _says(board, restart)[1] == PORTS[name].constants[reads_as]
