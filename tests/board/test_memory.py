"""An update that runs short of memory gets what other modules can give back, and begins once more."""

from __future__ import annotations

import re

import pytest

from sim.board import BoardError
from tests.support.world import PATIENCE_S, Release, World

MODULES = ("serial_log", "wifi", "ota", "hog")
_HOG = b'''
from iot_platform.module import Module as Base

class Module(Base):
    """Takes all memory but so many bytes, in pieces all over the heap, until it is asked for it."""

    name = "hog"
    kept = ()

    def on_command(self, command):
        if command.path == "hog":
            self.kept = []
            while self.platform.board.mem_free() > int(command.payload):
                self.kept.append(bytearray(200))
            self.platform.log("hogs", len(self.kept))
        elif command.path == "blocking":
            self.platform.log("result", self.platform.module("ota").force_update())

    def relax(self):
        self.kept = ()
'''


def release(world: World, version: str) -> Release:
    return world.release(version, {"modules/hog/__init__.py": _HOG, "www/a.txt": version.encode() * 2_000}, modules=MODULES)


@pytest.mark.parametrize("command", ["ota update", "blocking"])
def test_what_others_can_do_without_is_enough(world: World, command: str) -> None:
    old, new = release(world, "1.0.0"), release(world, "1.1.0")
    world.flash(old)
    world.offer(old)
    world.boot()
    world.offer(new)
    since = world.type("hog 14000")
    world.board.expect(r"hogs [1-9]", PATIENCE_S, since)
    since = world.type(command)
    world.board.expect("short of memory: the other modules give back what they can, and once more", PATIENCE_S, since)
    world.wait_confirmed(new, since)
    said = [line for line in world.board.lines[since:] if re.search("failed|Traceback", line)]
    assert not said
    world.assert_runs(new)


def status_is_failed(world: World) -> None:
    """The console itself may have no memory for what is typed, and may then lose it: whoever types it again gets the answer."""
    since = world.now()
    for _ in range(5):
        world.type("ota status")
        try:
            world.board.expect("'state': 'failed'", PATIENCE_S / 5, since)
            return
        except BoardError:
            continue
    raise AssertionError("no answer: " + world.lines_since(since))


def test_without_enough_even_so_it_says_so_and_the_old_version_runs_on(world: World) -> None:
    greedy = _HOG.replace(b"    def relax(self):\n        self.kept = ()\n", b"")
    old = world.release("1.0.0", {"modules/hog/__init__.py": greedy}, modules=MODULES)
    world.flash(old)
    world.offer(old)
    world.boot()
    world.offer(release(world, "1.1.0"))
    since = world.type("hog 14000")
    world.board.expect(r"hogs [1-9]", PATIENCE_S, since)
    since = world.type("ota update")
    world.board.expect(r"failed: .*\(no_memory\)|too little memory even to begin", PATIENCE_S, since)
    status_is_failed(world)
    found = world.stop()
    assert found.files["version"] == b"1.0.0\n" and not any(path.startswith(".ota/stage") for path in found.files)
