"""A job that does not fit beside the modules: noted, done in an update boot, and told, whatever goes wrong on the way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from iotctl import bundle
from sim.board import Cut
from tests.support.world import PATIENCE_S, Changes, Handler, Release, World, assert_tree, patched, state_of

MODULES = ("serial_log", "wifi", "ota", "hog")
WITH_MQTT = ("serial_log", "wifi", "ota", "mqtt")  # which starts in an update boot too
TOO_LITTLE = 40_000  # bytes of heap: enough for a check, too little for an update
STILL_LESS = 30_000
ONLY = r"update boot {} of 3: only serial_log, wifi, ota start"
RESTARTS = "restarting for the update's sake: {} goes on with only the modules that it needs"
_HOG = '''from iot_platform.module import Module as Base
import gc

class Module(Base):
    """Takes all memory but so many bytes; `work` keeps it busy."""

    name = "hog"
    doing = None

    def start(self):
        self.kept = []
        gc.collect()
        while gc.mem_free() > {free}:
            self.kept.append(bytearray(500))
        self.platform.log("hog: {text}")

    def on_command(self, command):
        if command.path == "work":
            self.doing = command.payload or None
        elif command.path == "blocking":
            self.platform.log("result", self.platform.module("ota").force_update())

    def busy(self):
        return self.doing
'''


def hog(text: str = "is here", free: int = TOO_LITTLE) -> Changes:
    return {"modules/hog/__init__.py": _HOG.format(free=free, text=text).encode()}


def release(world: World, version: str, changes: Changes | None = None) -> Release:
    files: Changes = {**hog(f"of {version}"), "www/a.txt": version.encode() * 2_000, **(changes or {})}
    return world.release(version, files, modules=MODULES)


def two(world: World, changes: Changes | None = None) -> tuple[Release, Release]:
    """A board that runs 1.0.0 beside a hog, and has nothing to do; 1.1.0 is offered."""
    old, new = release(world, "1.0.0", changes), release(world, "1.1.0", changes)
    world.flash(old)
    world.offer(old)
    world.boot()
    world.offer(new)
    return old, new


def when(world: World, text: str, *happens: object) -> None:
    """Do this once, as soon as a line with `text` comes."""
    left = list(happens)

    def on_line(line: str) -> None:
        if text in line and left:
            action = left.pop(0)
            assert callable(action)
            action()

    world.board.on_line = on_line


def nothing_is_noted(world: World) -> None:
    found = world.peek()
    assert not [path for path in found.files if path.startswith(".ota/job")]
    assert state_of(found).get("result") is None


@pytest.mark.parametrize("command", ["ota update", "ota force", "ota check", "blocking"])
def test_a_job_that_does_not_fit_is_done_in_an_update_boot(world: World, command: str) -> None:
    _old, new = two(world)
    since = world.type(command)
    world.wait_confirmed(new, since)
    job = command.removeprefix("ota ").replace("force", "update").replace("blocking", "update")
    story = world.lines_since(since)
    steps = (
        "ota: short of memory: ",
        RESTARTS.format(job),
        "restarting: an update boot",
        ONLY.format(1),
        "staged www/a.txt",
        r"committed: installing 1\.1\.0",
        r"ota_boot: trial of 1\.1\.0 boot 1",
        r"hog: of 1\.1\.0",
        r"running: .*hog.* free memory",
        r"confirmed: version 1\.1\.0 stays",
    )
    at = 0
    for step in steps:
        found = re.compile(step).search(story, at)
        assert found, f"{step} is missing, or comes too early:\n{story}"
        at = found.end()
    assert not re.search("failed|Traceback", story)
    assert story.count("update boot 1 of 3") == 1
    nothing_is_noted(world)
    world.assert_runs(new)


def test_a_check_that_nobody_asked_for_gets_one_as_well(world: World) -> None:
    old, new = release(world, "1.0.0"), release(world, "1.1.0")
    world.flash(old)
    world.offer(new)
    since = world.now()
    world.board.start()
    world.wait_confirmed(new, since)
    world.board.expect(RESTARTS.format("check"), 1, since)
    world.board.expect(ONLY.format(1), 1, since)
    world.assert_runs(new)


def test_an_archive_that_was_brought_by_hand_is_installed_in_an_update_boot_without_a_network(world: World) -> None:
    _old, new = two(world)
    world.board.stop()
    world.board.write({"new_firmware.tar.gz": new.archive})
    world.channel_file().unlink()
    world.boot("next check in|failed")
    world.board.wifi = "off"
    since = world.type("ota install")
    world.board.expect(ONLY.format(1), PATIENCE_S, since)
    world.board.expect("committed: installing 1.1.0", PATIENCE_S, since)
    assert world.requested("1.1.0.tar.gz") == []
    world.board.wifi = "ok"
    world.offer(new)  # which the trial asks for
    world.wait_confirmed(new, since)
    world.assert_runs(new)


def test_what_ran_before_the_update_boot_must_run_after_it(world: World) -> None:
    """The hog did not run when the update was committed; without it the new version goes back all the same."""
    old = release(world, "1.0.0")
    bad = release(world, "1.1.0", {"modules/hog/__init__.py": b"raise ValueError('bad hog')\n"})
    world.flash(old)
    world.offer(bad)
    since = world.now()
    world.board.start()
    world.board.expect(ONLY.format(1), PATIENCE_S, since)
    assert "bad hog" in world.wait_rolled_back(bad, "module_failed", since)
    nothing_is_noted(world)
    assert_tree(world.stop(), old.tree)


def test_a_busy_module_delays_the_restart_and_a_power_cut_meanwhile_loses_nothing(world: World) -> None:
    _old, new = two(world)
    world.type("work the door is moving")
    since = world.type("ota update")
    world.board.expect(RESTARTS.format("update"), PATIENCE_S, since)
    world.board.expect(r"restart/waiting_for = hog: the door is moving", PATIENCE_S, world.type("values"))
    world.board.expect(r"ota/status = rebooting", PATIENCE_S, since)
    assert "update boot 1" not in world.lines_since(since)
    world.board.power_cycle()
    world.wait_confirmed(new, since)
    world.board.expect(ONLY.format(1), 1, since)
    world.assert_runs(new)


def test_a_busy_module_lets_the_restart_go_when_it_is_done(world: World) -> None:
    _old, new = two(world)
    world.type("work the door is moving")
    since = world.type("ota update")
    world.board.expect(RESTARTS.format("update"), PATIENCE_S, since)
    world.type("work")
    world.wait_confirmed(new, since)
    world.assert_runs(new)


# -- what goes wrong in the update boot


def comes_back(world: World, reason: str, since: int, command: str = "update") -> None:
    """The job fails in the update boot, with a reason that is still told after the restart, where everything runs again."""
    world.board.expect(rf"{command} failed: .* \({reason}\)$", PATIENCE_S, since)
    world.board.expect("restarting: the update boot is over", PATIENCE_S, since)
    at = world.now()
    world.board.expect(r"running: .*hog", PATIENCE_S, since + [i for i, s in enumerate(world.board.lines[since:]) if "boot is over" in s][0])
    world.board.expect("ota/status = ", PATIENCE_S, at)
    typed = world.type("ota status")
    told = world.board.expect(r"'state': 'failed'", PATIENCE_S, typed).string
    assert f"'error': '{reason}'" in told, told
    typed = world.type("values")
    world.board.expect(rf"ota/error = {reason}$", PATIENCE_S, typed)
    nothing_is_noted(world)


def away(request: Handler) -> bool:
    request.reply(HTTPStatus.SERVICE_UNAVAILABLE, {}, b"")
    return True
