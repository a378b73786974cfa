"""What a board does for itself: another file system, short memory, boots that keep failing, and a loop that goes on."""

from __future__ import annotations

import pytest

from sim.board import Board
from tests.support.world import NEVER, PATIENCE_S, Changes, World

MODULES = ("serial_log", "wifi", "ota", "lamp")
_LAMP = """from iot_platform.module import Module as Base
import time

class Module(Base):
    name = "lamp"
    last = None
    longest = 0

    def start(self):
        {start}

    def tick(self):
        {tick}

    def on_command(self, command):
        self.platform.log("lamp: longest gap", self.longest, "ms")
"""
_WATCH_GAPS = """now = time.ticks_ms()
        if self.last is not None:
            self.longest = max(self.longest, time.ticks_diff(now, self.last))
        self.last = now"""


def lamp(start: str = "pass", tick: str = "pass") -> Changes:
    return {"modules/lamp/__init__.py": _LAMP.format(start=start, tick=tick).encode()}


def test_a_board_on_fat_updates(world: World) -> None:
    world.board = Board(world.folder / "fat.img", like="pico-w", fs="fat")
    old, new = world.release("1.0.0"), world.release("1.1.0", {"www/a.txt": b"a" * 5000, "www/deep/b.txt": b"b"})
    world.settled(old, new)
    world.update_to(new)
    world.assert_runs(new)


@pytest.mark.parametrize("like", ["pico-w", "esp32"])
def test_boots_that_keep_failing_end_in_safe_mode_and_the_next_release_repairs_the_board(world: World) -> None:
    """Nothing is kept to go back to: the safe modules start, are reachable, and take the repair."""
    broken = world.release("1.0.0", lamp(start="raise SystemExit"), modules=MODULES)
    repaired = world.release("1.1.0", lamp(), modules=MODULES)
    world.flash(broken)
    since = world.now()
    world.board.start()
    world.board.expect("safe mode after 3 bad boots", 2 * PATIENCE_S, since)
    world.board.expect("wifi: connected", PATIENCE_S, since)
    world.offer(repaired)
    world.update_to(repaired)
    world.assert_runs(repaired)


def test_boots_that_keep_failing_go_back_to_the_kept_version(world: World) -> None:
    """A version that was good enough to be confirmed, and fails later."""
    old = world.release("1.0.0", lamp(), modules=MODULES, keep_previous=True)
    new = world.release("1.1.0", lamp(start="self.on = True"), modules=MODULES, keep_previous=True)
    world.flash(old)
    world.offer(new)
    since = world.now()
    world.board.start()
    world.wait_confirmed(new, since)
    world.board.stop()
    world.board.write({path: data or b"" for path, data in lamp(start="raise SystemExit").items()})  # a file goes bad
    since = world.now()
    world.board.start()
    world.board.expect("boots keep failing: going back to 1.0.0", 2 * PATIENCE_S, since)
    world.wait_confirmed(old, since)
    found = world.stop()
    assert found.files["version"] == b"1.0.0\n"


def test_the_loop_goes_on_through_check_download_and_verification(world: World) -> None:
    old = world.release("1.0.0", lamp(tick=_WATCH_GAPS), modules=MODULES, window=NEVER)
    new = world.release("1.1.0", {**lamp(tick=_WATCH_GAPS), "www/a.txt": b"a" * 50_000}, modules=MODULES)
    world.flash(old)
    world.offer(new)
    world.boot("version 1.1.0 waits: window")
    since = world.type("gap")
    gap = int(world.board.expect(r"lamp: longest gap (\d+) ms", PATIENCE_S, since)[1])
    print(f"longest gap between two ticks of another module: {gap} ms")
    assert gap < 2_000
