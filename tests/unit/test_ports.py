"""The simulated board has the habits of the port that it is like: each is a row of sim/ports.py."""

from __future__ import annotations

import ast
import fcntl
import time
from pathlib import Path
from typing import Any

import pytest

from iotctl import ROOT
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


_FILL = b"""
import os
from iot_platform.board import Board
for i in range(24):
    os.mkdir("/folder%d" % i)
told = Board().disk_free()
written = 0
with open("/filler", "wb") as f:
    try:
        while True:
            written += f.write(bytes(1024))
            f.flush()
    except OSError as error:
        print("FULL", error.errno)
print("SAYS", (told, written, os.statvfs("/")[3], Board().disk_free()))
"""


@pytest.mark.parametrize("fs", ["lfs", "fat"])
def test_what_is_said_to_be_free_can_be_written_and_is_never_negative(tmp_path: Path, fs: str) -> None:
    platform = ROOT / "platform"
    board = Board(tmp_path / "board.img", like="pico-w", fs=fs, size=512 * 1024)
    board.format()
    sources = {path: (platform / path).read_bytes() for path in ("ota_boot.py", "iot_platform/board.py")}
    board.write({**sources, "iot_platform/__init__.py": b"", "boot.py": b"", "main.py": _FILL})
    told, written, counted, left = _says(board)
    assert abs(told - written) <= 4 * 4096, f"{told} bytes said to be free, {written} could be written"
    assert left == 0 if fs == "fat" else left < 3 * 4096
    assert counted < 0 or fs == "fat", "littlefs counts folders twice: without that nothing is tested here"


_TALK = b"""
import time
from iot_platform.log import SerialLog
for n in range(400):
    SerialLog.log("line", n, "x" * 60)
with open("/mark", "w") as f:
    f.write("THE LOOP WENT " + "ON")
for n in range(1000):
    time.sleep_ms(20)
    SerialLog.log("heard", n)
"""


def test_a_console_that_nobody_reads_keeps_nobody_waiting(tmp_path: Path) -> None:
    """A computer that holds a pico's port open without reading: the firmware waits half a second for each write."""
    platform = ROOT / "platform"
    board = Board(tmp_path / "board.img", like="pico-w", size=256 * 1024)
    board.format()
    log = (platform / "iot_platform/log.py").read_bytes()
    board.write({"iot_platform/__init__.py": b"", "iot_platform/log.py": log, "boot.py": b"", "main.py": _TALK})
    process = board._spawn("power", None, {})
    assert process.stdout
    fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
    try:
        deadline = time.monotonic() + 60
        while b"THE LOOP WENT ON" not in board.image.read_bytes():
            assert time.monotonic() < deadline, "it waits for somebody who reads"
            time.sleep(0.1)
        read = ""
        while "heard" not in read:
            read += process.stdout.readline().decode()
        assert "lines were not shown: nobody read)" in read
    finally:
        process.kill()
        process.communicate()
