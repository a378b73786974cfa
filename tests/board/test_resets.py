"""Why a board started, on each port: what was asked for is no failure, a hang and a crash are one each, noise is neither."""

from __future__ import annotations

import random

import pytest

from sim.board import Board
from sim.ports import PORTS
from tests.support.world import PATIENCE_S, World

TICKS = b"""from iot_platform.module import Module as Base

class Module(Base):
    n = 0

    def tick(self):
        self.n += 1
        if self.n % 40 == 0:
            print("tick", self.n)
"""
CRASHES = TICKS.replace(b"print(", b"raise SystemExit(")
HURRIES = TICKS.replace(b'print("tick", self.n)', b'self.platform.request_reset("again")')
INTERRUPTED = b"""from iot_platform.module import Module as Base

class Module(Base):
    def on_command(self, command):
        if command.path == "interrupt":
            raise KeyboardInterrupt
"""
WITH_TICKS = ("serial_log", "wifi", "ota", "ticks")


def restarts_when_asked(board: Board, since: int, line: str) -> int:
    """Type `reset` when `line` has come; the number of the line after it."""
    found = board.expect(line, PATIENCE_S, since)
    at = board.lines.index(found.string, since)
    board.send("reset")
    return at + 1


@pytest.mark.parametrize("like", ["pico-w", "esp32"])
def test_restarts_that_are_asked_for_are_no_failed_boots(world: World, like: str) -> None:
    """More of them than a version may fail, in its trial and later; nothing goes back, and it is said what the board is."""
    old, new = world.release("1.0.0", keep_previous=True), world.release("1.1.0", keep_previous=True)
    world.flash(old)
    world.boot("check failed")
    world.offer(new)
    since = world.type("ota check")
    for _restart in range(4):
        since = restarts_when_asked(world.board, since, r"version 1\.1\.0 is on trial, boot 1")
    world.wait_confirmed(new, since)
    for _restart in range(4):
        since = restarts_when_asked(world.board, since, r"I running: ")
    world.board.expect("I running: ", PATIENCE_S, since)
    since = world.type("status")
    for key, value in (("board", PORTS[like].board), ("port", PORTS[like].platform), ("restart", "a restart by the program")):
        world.board.expect(rf"I {key} = {value}$", PATIENCE_S, since)
    world.board.expect(r"I micropython = \d+\.\d+\.\d+$", PATIENCE_S, since)
    lines = world.board.lines
    assert not any("failed boot" in line or "safe mode" in line for line in lines), world.board.console()
    assert set(world.board.restarts) == {"hard"}
    assert any("I loader: trial of 1.1.0 boot 1" in line for line in lines)
    usb = any("ota_boot: trial of" in line for line in lines)
    assert usb != PORTS[like].usb_after_boot, "the simulated console on USB is up too early"
    world.assert_runs(new, previous=True)


def test_a_version_that_asks_for_a_restart_for_ever_goes_back(world: World) -> None:
    old, new = world.release("1.0.0"), world.release("1.1.0", {"modules/ticks/__init__.py": HURRIES}, modules=WITH_TICKS)
    world.flash(old)
    world.boot("check failed")
    world.offer(new)
    since = world.type("ota check")
    world.wait_rolled_back(new, "reset", since)


def test_a_crash_and_a_hang_count_once_each(world: World) -> None:
    board = world.board
    world.flash(world.release("1.0.0", {"modules/ticks/__init__.py": CRASHES}, modules=WITH_TICKS))

    def fails() -> list[str]:
        return [path for path in board.read().files if path.startswith(".ota/fails.")]

    assert board.boot_once().cause == "hard"
    assert fails() == [".ota/fails.1"]
    for cause, n in (("hard", 1), ("deepsleep", 1), ("watchdog", 2), ("hard", 2), ("brownout", 2)):
        board.boot_once(cause=cause, only_boot=True)
        assert fails() == [f".ota/fails.{n}"], cause
    since = world.now()
    board.start("watchdog")
    board.expect("safe mode after 3 bad boots", PATIENCE_S, since)
    story = world.lines_since(since)
    assert "loader: failed boot: watchdog" in story
    assert "ota_boot: failed boot: watchdog" not in story, "it was printed before USB was up"


def test_an_interrupt_leads_to_the_repl_only_where_somebody_types_on(world: World) -> None:
    """A byte 0x03 is Ctrl-C for the firmware, and on a line where nobody sits it is noise. The module raises what that raises."""
    world.flash(world.release("1.0.0", {"modules/ticks/__init__.py": INTERRUPTED}, modules=WITH_TICKS))
    world.boot("check failed")
    since = world.type("interrupt")
    world.board.expect(r"^interrupted: type on", PATIENCE_S, since)
    world.board.expect("wifi: connected", PATIENCE_S, since)
    assert world.board.restarts == ["hard"] and "failed boot" not in world.lines_since(since)
    since = world.type("interrupt")
    world.board.expect(r"^interrupted: type on", PATIENCE_S, since)
    world.board.send("import os")
    world.board.expect(r"^KeyboardInterrupt", PATIENCE_S, since)


def test_noise_on_the_console_is_dropped_and_nothing_waits_for_it(world: World) -> None:
    world.flash(world.release("1.0.0", {"modules/ticks/__init__.py": TICKS}, modules=WITH_TICKS))
    world.boot("check failed")
    board = world.board
    for garbage in (b"\xff", b"\xc3", b"\xf0\x9f", b"\x00\x80\xfe"):
        since = world.now()
        board.send(garbage)
        for _tick in range(3):
            found = board.expect(r"^tick \d+", PATIENCE_S, since)
            since = board.lines.index(found.string, since) + 1
    board.send(b"\n\xffstatus\n")
    board.expect("I running: ", PATIENCE_S, since)
    since = world.now()
    noise = random.Random(13).randbytes(16_000).replace(b"\x03", b"")  # Ctrl-C is the firmware's
    board.send(noise + b"\nlog error\n" + "\nlamp Wärme €\n".encode() + b"log info\nvalues\n")
    board.expect(r"freeram = \d+", 3 * PATIENCE_S, since)
    noisy = world.lines_since(since)
    assert noisy.count("commands: ") == 0, "noise was taken for a command"
    assert "failed in" not in noisy and board.restarts == []
