"""A module that does on a running board what any module may: it calls OTA, is busy, writes files.

    world.flash(caller.release(world, "1.0.0"))
    world.boot()
    assert call(world, "ota.local_version()") == "1.0.0"
"""

from __future__ import annotations

import ast
from typing import Any

from tests.support.world import PATIENCE_S, Changes, Release, World, patched

MODULES = ("serial_log", "wifi", "ota", "caller")
CALLER = b'''
import time

import ota_boot
from iot_platform.module import Module as Base

def committed(ota):
    """Go on with an update up to the step that commits it, and no further."""
    while ota_boot.state != "journal":
        ota._job.step()
        time.sleep_ms(1)
    return ota.state

def half_staged(ota):
    """Go on with a job until half of what it stages is there, and no further."""
    while ota.percent < 50:
        ota._job.step()
        ota.platform.board.feed()

def nothing_goes_on(ota):
    """The board stands still, until somebody pulls the plug."""
    ota.platform.log("caller: nothing goes on")
    while True:
        ota.platform.board.feed()
        time.sleep_ms(1)

def flip(path, at):
    """The flash has lost a bit of a file."""
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes((byte ^ 1,)))

def look_a_week_ago(ota):
    """What waits was looked at so long ago as if nothing had waited since."""
    ota.wait_for("")
    for _half in range(2):  # ticks_add goes no further at once
        ota.look_at = time.ticks_add(ota.look_at, -302_400_000)

def no_memory_once():
    """The next part of OTA that is asked for finds no memory."""
    from modules.ota import phases
    real = phases.part

    def part(name):
        phases.part = real
        raise MemoryError("on purpose")

    phases.part = part

class Module(Base):
    """Evaluates what is typed after `call`; `work` keeps it busy."""

    name = "caller"
    doing = None

    def on_command(self, command):
        if command.path == "work":
            self.doing = command.payload or None
        elif command.path == "call":
            names = dict(globals(), ota=self.platform.module("ota"), platform=self.platform)
            try:
                self.platform.log("result", repr(eval(command.payload, names)))
            except Exception as error:
                self.platform.log("result", repr([getattr(error, "reason", repr(error))]))

    def busy(self):
        return self.doing
'''
FILES: Changes = {"modules/caller/__init__.py": CALLER}
# Less to wait for, where a test is not about these pauses: before a version on trial is asked about, and before a first check.
QUICK: Changes = {
    **patched("modules/ota/install/trial.py", ("_SETTLE_MS = 5_000", "_SETTLE_MS = 500")),
    **patched("modules/ota/schedule.py", ("SOON_S = 2", "SOON_S = 0")),
}


def release(world: World, version: str, changes: Changes | None = None, **ota: Any) -> Release:
    """A release with this module, and with short pauses."""
    return world.release(version, {**FILES, **QUICK, **(changes or {})}, modules=MODULES, **ota)


def call(world: World, expression: str) -> Any:
    """What an expression is on the board; a list with the error's reason where it fails."""
    since = world.type(f"call {expression}")
    return ast.literal_eval(world.board.expect(r"I result (.*)$", PATIENCE_S, since).group(1))


def do(world: World, expression: str) -> None:
    """The same for what returns nothing; it must not fail."""
    assert call(world, expression) is None
