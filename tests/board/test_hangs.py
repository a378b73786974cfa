"""The watchdog of every boot: a hang counts like a crash, and nothing else does, not even a developer at the REPL."""

from __future__ import annotations

import time

import pytest

from sim.board import Board
from sim.ports import PORTS
from tests.support.world import PATIENCE_S, WATCHDOG_MS, World

WITH_LAMP = ("serial_log", "wifi", "ota", "lamp")
# Outside a trial it hangs. It must find a watchdog that no timer feeds; only the first hang in tick() waits for it.
LAMP = b"""
import machine
import ota_boot
from iot_platform.module import Module as Base

def hang(where):
    if where == "%s" and ota_boot.state == "":
        print("hangs in", where, "guarded", machine.WDT.started, "fed by", len(machine.Timer.running))
        if ota_boot.failures or where != "tick":
            machine.WDT(timeout=1)
        while True:
            pass

class Module(Base):
    name = "lamp"

    def start(self):
        hang("start")

    def tick(self):
        hang("tick")

hang("import")
"""


@pytest.mark.parametrize("where", ["import", "start", "tick"])
def test_a_hang_after_the_confirmation_ends_in_safe_mode_which_takes_the_fixed_release(world: World, where: str) -> None:
    """In tick() it comes in the very life of the confirmation; otherwise the bad release runs as it does some boots later."""
    board = world.board
    board.env["SIMULATOR_WATCHDOG_MS"] = WATCHDOG_MS
    world.ota["check_interval_s"] = 3600 if where == "tick" else 10
    fixed = world.release("1.2.0")
    bad = world.release("1.1.0", {"modules/lamp/__init__.py": LAMP.replace(b"%s", where.encode())}, modules=WITH_LAMP)
    since = world.now()
    if where == "tick":
        world.settled(world.release("1.0.0"), bad)
        since = world.update_to(bad)
        world.offer(fixed)
        safe = board.expect("safe mode after 3 bad boots", PATIENCE_S, since)
        board.expect("wifi: connected", PATIENCE_S, board.lines.index(safe.string))
        world.type("ota check")  # for the time's sake: it asks by itself, at once or later
        world.wait_confirmed(fixed, since)
    else:
        world.flash(bad)
        world.offer(fixed)
        board.start()
        board.expect("safe mode after 3 bad boots", PATIENCE_S, since)
        world.wait_confirmed(fixed, since)
    hangs = [line for line in board.lines[since:] if line.startswith("hangs in")]
    assert hangs == [f"hangs in {where} guarded True fed by 0"] * 3
    assert board.restarts.count("watchdog") == 3
    world.assert_runs(fixed)


def test_a_profile_may_go_without_a_watchdog(world: World) -> None:
    lamp = LAMP.split(b"def hang")[0] + b"print('guarded', machine.WDT.started)\nfrom iot_platform.module import Module\n"
    world.sections["watchdog_s"] = 0
    world.flash(world.release("1.0.0", {"modules/lamp/__init__.py": lamp}, modules=WITH_LAMP))
    since = world.now()
    world.board.start()
    assert world.board.expect(r"^guarded (.*)", PATIENCE_S, since).group(1) == "False"


def test_a_board_without_a_watchdog_keeps_its_loader(world: World) -> None:
    """Its trial would start one: on an RP2 that sleeps then, the chip would be dead until its power is switched.

    So what is new works with a loader that has stage and backup in another form.
    """
    loader = world.release("1.0.0").files["ota_boot.py"]
    begin, end = loader.index(b"    few = "), loader.index(b"\n\n\ndef live")
    path = b'    return "%s/.ota/%s/%d/%d" % (ROOT, folder, n // 32, n % 32)'
    old = world.release("1.0.0", {"ota_boot.py": (loader[:begin] + path + loader[end:]).replace(b"cell(", b"slot(")})
    world.sections["watchdog_s"] = 0
    newer = {"ota_boot.py": loader, **{f"www/{n}": b"%d" % n for n in range(40)}}
    world.settled(old, world.release("1.1.0", newer))
    for version in ("1.1.0", "1.2.0"):  # with the first one the loader has come, with the second it is not even fetched
        new = world.release(version, newer)
        world.offer(new)
        since = world.update_to(new)
        said = "\n".join(world.board.lines[since:])
        assert ("a new loader cannot be tried: the proven one stays" in said) == (version == "1.1.0")
        assert ("staged ota_boot.py" in said) == (version == "1.1.0")
    found = world.stop()
    assert found.files["ota_boot.py"] == old.files["ota_boot.py"] and not any("loader" in path for path in found.files)


@pytest.mark.parametrize("profile", [b"{", b"[1]", b'{"watchdog_s": "x"}', b'{"watchdog_s": 99}', b"[" * 9000, None])
@pytest.mark.parametrize("like", ["pico-w", "esp32"])
def test_whatever_the_profile_is_there_is_a_watchdog(world: World, profile: bytes | None, like: str) -> None:
    release = world.release("1.0.0")
    main = b"import machine, ota_boot\nprint('READY', ota_boot.ready, machine.WDT.started, len(machine.Timer.running))\n"
    board = Board(world.folder / "other.img", like=like, heap="192k")
    board.format()
    board.write({**release.files, "main.py": main, **({} if profile is None else {"profile.json": profile})})
    if profile is None:
        board.write({"boot.py": b"import os\nos.remove('/profile.json')\n" + release.files["boot.py"]})
    assert "READY True True 1" in board.boot_once().output


def test_a_developer_at_the_repl_is_not_bitten(world: World) -> None:
    board = world.board
    board.port = PORTS["pico-w"]
    board.env.update(SIMULATOR_REPL="1", SIMULATOR_WATCHDOG_MS=WATCHDOG_MS)
    release = world.release("1.0.0")
    main = release.files["main.py"].replace(b"    run()\n", b"    raise KeyboardInterrupt\n")
    assert main != release.files["main.py"]
    world.flash(release, {"main.py": main})
    board.start()
    board.expect("interrupted: type on", PATIENCE_S)
    world.type("print('and on')")
    board.expect("^and on", PATIENCE_S)
    time.sleep(5)  # longer than the watchdog
    since = world.type("print('typed', 6 * 7)")
    board.expect("^typed 42", PATIENCE_S, since)
    assert "watchdog" not in board.restarts


def test_the_simulated_watchdog_bites_at_a_repl_that_nobody_guards(world: World) -> None:
    """Otherwise the test above would prove nothing."""
    world.board.env.update(SIMULATOR_REPL="1", SIMULATOR_WATCHDOG_MS="300")
    release = world.release("1.0.0")
    world.flash(release, {"main.py": b"import ota_boot\nota_boot.let_go()\n"})
    assert world.board.boot_once().cause == "watchdog"
