"""Releases that are signed, complete and bad: each ends in the old version, exactly, with the reason said and remembered."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from tests.support.world import PATIENCE_S, WATCHDOG_MS, Changes, World, assert_tree, state_of

MODULES = ("serial_log", "wifi", "ota", "lamp")
LAMP = b"""
from iot_platform.module import Module as Base

class Module(Base):
    name = "lamp"
    def start(self):
        self.platform.log("lamp: on")
"""
OTA_THAT_RAISES: Changes = {"modules/ota/__init__.mpy": None, "modules/ota/__init__.py": b"raise ValueError('dead ota')\n"}
DEAD_OTA: Changes = {
    "modules/ota/module.mpy": None,
    "modules/ota/module.py": b"from iot_platform.module import Module as Base\nclass Module(Base):\n    name = 'ota'\n",
}
RUNTIME: Changes = {"iot_platform/runtime.mpy": None}

EATS = """
    def tick(self):
        self.eaten = getattr(self, "eaten", [])
        self.eaten.append(bytearray(5000))
"""
BEFORE_THE_RUNTIME = "power|reset|watchdog"  # the loader knows only how the boot ended

# Every way in which a release can be bad: its name, what it brings, how many boots it gets, the reason, and a word of the text.
BAD: list[tuple[str, Changes, int, str, str]] = [
    ("raises at import", {"modules/lamp/__init__.py": b"raise ValueError('bad import')\n"}, 3, "module_failed", "bad import"),
    ("raises in start()", {"modules/lamp/__init__.py": LAMP + b"        1 // 0\n"}, 3, "module_failed", "ZeroDivisionError"),
    (
        "raises in tick()",
        {"modules/lamp/__init__.py": LAMP + b"    def tick(self):\n        raise ValueError('bad tick')\n"},
        3,
        "module_failed",
        "bad tick",
    ),
    ("hangs at import", {"modules/lamp/__init__.py": b"while True:\n    pass\n"}, 1, "watchdog", ""),
    ("hangs in start()", {"modules/lamp/__init__.py": LAMP + b"        while True:\n            pass\n"}, 1, "watchdog", ""),
    (
        "hangs in a tick",
        {"modules/lamp/__init__.py": LAMP + b"    def tick(self):\n        while True:\n            pass\n"},
        1,
        "watchdog",
        "",
    ),
    (
        "eats memory until MemoryError",
        {"modules/lamp/__init__.py": LAMP + EATS.encode()},
        3,
        "module_failed|exception|watchdog|timeout|reset",
        "",
    ),
    (
        "resets in a loop",
        {"modules/lamp/__init__.py": LAMP + b"        import machine\n        machine.reset()\n"},
        3,
        "reset",
        "restarted by itself",
    ),
    ("never reaches the network", {}, 1, "no_network", ""),
    ("works, but its OTA module raises at import", OTA_THAT_RAISES, 1, "module_failed|watchdog|timeout", ""),
    ("works, but its OTA module does nothing", DEAD_OTA, 1, "watchdog", ""),
    ("has no main.py", {"main.py": None}, 1, BEFORE_THE_RUNTIME, ""),
    ("has a main.py that raises", {"main.py": b"import machine\nraise ValueError('bad main')\n"}, 1, BEFORE_THE_RUNTIME, ""),
    ("has a main.py that is no Python", {"main.py": b"def (\n"}, 1, BEFORE_THE_RUNTIME, ""),
    (
        "has a runtime that raises at import",
        {**RUNTIME, "iot_platform/runtime.py": b"raise ValueError('bad runtime')\n"},
        3,
        "exception",
        "bad runtime",
    ),
    ("lacks a module", {"modules/lamp/__init__.py": None}, 3, "module_failed", "ImportError"),
]


def no_network_after(world: World, text: str) -> None:
    """The wifi is off from the moment on that a line with `text` comes."""

    def weather(line: str) -> None:
        if text in line:
            world.board.wifi = "off"

    world.board.on_line = weather


@pytest.mark.parametrize(
    ("like", "changes", "boots", "reason", "text", "name"),
    [pytest.param("esp32" if rest[1] == 1 else "pico-w", *rest, name, id=name) for name, *rest in BAD],
)
def test_a_release_that_is_bad_ends_in_the_old_version(
    world: World, changes: Changes, boots: int, reason: str, text: str, name: str
) -> None:
    """With nobody helping: confirmed, the reason in telemetry and log, and not tried again.

    Those with one boot are for an ESP32, where a runtime that never starts does not keep the loader's lines from the console.
    """
    lamp: Changes = {"modules/lamp/__init__.py": LAMP, "www/a": b"old"}
    wrong: dict[str, Any] = {"url": "http://127.0.0.1:9"} if reason == "no_network" else {}
    if name != "hangs in a tick":  # that one meets the watchdog as it is
        world.board.env["SIMULATOR_WATCHDOG_MS"] = WATCHDOG_MS
    old = world.release("1.0.0", lamp, modules=MODULES, max_boot_attempts=boots, confirm_timeout_s=10)
    bad = world.release("1.1.0", {**lamp, "www/a": b"bad", "www/b/c": b"bad", **changes}, modules=MODULES, **wrong)
    world.flash(old, {"prefs.json": b'{"mine": 1}'})
    world.offer(bad)
    # The next check of the old version would have something else to say
    no_network_after(world, "1.1.0 is taken back" if reason == "no_network" else "committed: installing 1.1.0")
    world.board.start()
    found = world.board.expect(r"ota: rolled back from 1\.1\.0 to 1\.0\.0: (.*) \((\w+)\)$", 3 * PATIENCE_S)
    assert found.group(2) in reason.split("|"), found.string
    assert text in found.group(1), found.string
    since = world.type("values")
    for key, value in (("error", found.group(2)), ("message", found.group(1)), ("status", "rolled_back")):
        world.board.expect(rf" ota/{key} = {re.escape(value)}$", PATIENCE_S, since)
    loader = "loader" if world.board.port.usb_after_boot else "ota_boot"
    trials = sum(f"{loader}: trial of 1.1.0 boot" in line for line in world.board.lines)
    assert trials == (boots if reason in ("reset", "watchdog", BEFORE_THE_RUNTIME) else trials) <= boots
    since = world.now()
    world.board.wifi = "ok"
    world.board.expect(rf"version 1\.1\.0 failed here before \({found.group(2)}\) and is not tried again", PATIENCE_S)
    world.refused("failed_before")
    assert "available" not in world.lines_since(since)
    world.type("values")
    world.board.expect(r"ota/error = failed_before", PATIENCE_S, since)
    tree = world.stop()
    assert_tree(tree, old.tree)
    assert tree.files["prefs.json"] == b'{"mine": 1}'
    assert tree.files[".ota/release"] == old.bundle.listing
    last = state_of(tree)["last"]
    assert last["result"] == "rolled_back" and last["reason"] == found.group(2)
    assert world.downloads("1.1.0.tar.gz") == 1


def test_a_release_that_never_reaches_the_network_goes_back(world: World) -> None:
    old, new = world.release("1.0.0", confirm_timeout_s=10), world.release("1.1.0")
    world.flash(old)
    world.offer(new)
    no_network_after(world, "committed: installing 1.1.0")
    since = world.now()
    world.board.start()
    world.wait_rolled_back(new, "no_network", since)
    world.board.wifi = "ok"
    refusal = r"1\.1\.0 failed here before \(no_network\) and is not tried again before 4 more checks \(failed_before\)"
    world.board.expect(refusal, PATIENCE_S, since)
    assert_tree(world.stop(), old.tree)
    newer = world.release("1.2.0")
    world.offer(newer)
    world.start_and_update_to(newer)
    world.assert_runs(newer)


def test_a_release_whose_url_leads_nowhere_goes_back(world: World) -> None:
    """A profile can be right in itself and still name what no request can go to: that is no answer of a server."""
    old, new = world.release("1.0.0", confirm_timeout_s=10), world.release("1.1.0", url="http://127.0.0.1:99999")
    world.settled(old, new)
    since = world.type("ota check")
    world.wait_rolled_back(new, "no_network", since)
    assert_tree(world.stop(), old.tree)


def passed_over(world: World, since: int) -> list[int]:
    """How many checks more 1.1.0 had to wait for, as each check since then has said."""
    return [int(n) for n in re.findall(r"1\.1\.0 failed here before .* before (\d+) more checks", world.lines_since(since))]


def test_after_no_network_it_is_tried_again_at_growing_pauses(world: World) -> None:
    """By itself, no sooner than its pause, which a power cut does not begin anew; what has failed is counted all the while."""
    interval, trial = 10, "loader: trial of 1.1.0 boot 1"
    old = world.release("1.0.0", check_interval_s=interval, confirm_timeout_s=10)
    bad = world.release("1.1.0", url="http://127.0.0.1:9")
    world.flash(old)
    world.offer(bad)
    world.board.start()
    world.wait_rolled_back(bad, "no_network", 0)
    since, began = world.now(), time.monotonic()
    world.board.expect(trial, 3 * PATIENCE_S, since)
    assert time.monotonic() - began > 4 * interval * 7 / 8
    assert passed_over(world, since) == [4, 3, 2, 1]

    undone = world.board.expect("loader: undoing 1.1.0", PATIENCE_S, since)
    since = world.board.lines.index(undone.string, since)
    world.wait_rolled_back(bad, "no_network", since)
    world.board.expect("wifi: connected", PATIENCE_S, since)  # from here on the checks come faster, for somebody asks for them
    while len(passed_over(world, since)) < 7:
        world.refused("failed_before")
    world.board.expect("ota/error = failed_before", PATIENCE_S, world.type("values"))  # it is noted on flash by then
    again = world.now()
    world.board.power_cycle()
    world.board.expect("wifi: connected", PATIENCE_S, again)
    while passed_over(world, since)[-1] > 1:
        world.refused("failed_before")
    world.type("ota check")
    world.board.expect(trial, PATIENCE_S, since)
    passed = passed_over(world, since)
    assert sorted(set(passed), reverse=True) == list(range(16, 0, -1)), "each, whatever restarts"
    assert len(passed) <= 17, "a check that power cut off before it was noted may come once more"
    since = world.now()
    world.wait_rolled_back(bad, "no_network", since)
    world.board.expect("1.1.0 failed here before .* before 64 more checks", PATIENCE_S, since)
    assert world.downloads("1.1.0.tar.gz") == 3
    tree = world.stop()
    assert_tree(tree, old.tree)
    assert state_of(tree)["failed"]["1001000"][3] == 3


def test_what_was_its_fault_is_tried_again_by_force_only_and_a_newer_release_comes_by_itself(world: World) -> None:
    lamp: Changes = {"modules/lamp/__init__.py": LAMP + b"""
    def on_command(self, command):
        if command.path == "lamp":
            self.platform.log("lamp:", self.platform.module("ota").force_update())
"""}
    raises: Changes = {"modules/lamp/__init__.py": LAMP + b"        1 // 0\n"}
    old = world.release("1.0.0", lamp, modules=MODULES, check_interval_s=10)
    bad = world.release("1.1.0", raises, modules=MODULES, check_interval_s=10)
    newer = world.release("1.2.0", {**lamp, "www/a": b"newer"}, modules=MODULES, check_interval_s=10)
    world.flash(old)
    world.offer(bad)
    since = world.now()
    world.board.start()
    for command in ("ota force", "lamp", ""):
        world.board.expect("loader: trial of 1.1.0 boot 1", PATIENCE_S, since)
        world.wait_rolled_back(bad, "module_failed", since)
        world.board.expect(r"is not tried again \(failed_before\)", PATIENCE_S, since)
        world.refused("failed_before", "ota update")
        since = world.type(command) if command else world.now()
    assert state_of(world.peek())["failed"]["1001000"][3] == 3
    world.offer(newer)
    world.wait_confirmed(newer, since)  # nobody asks for it
    world.assert_runs(newer)


def test_a_release_that_failed_is_taken_by_force(world: World) -> None:
    """The fault was not the release's: it is tried again when somebody says so."""
    old, new = world.release("1.0.0", confirm_timeout_s=10), world.release("1.1.0")
    world.flash(old)
    world.offer(new)
    world.board.start()
    world.board.expect("loader: trial of 1.1.0 boot 1")
    since = world.type("ota rollback")
    world.wait_rolled_back(new, "by_hand", since)
    world.board.expect(r"\(failed_before\)", 30, since)
    world.update_to(new, "ota force")
    world.assert_runs(new)
