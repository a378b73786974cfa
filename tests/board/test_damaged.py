"""Values and file names that nobody wrote as they are: no start and no check stops at them."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from sim.board import BLOCK, Board
from tests.powercut import runner
from tests.support.ports import free_port
from tests.support.world import World

WITH_ALL = ("serial_log", "wifi", "ota", "web", "mqtt")
WRONG: list[Any] = [7, 1e300, True, "x y", [7], ["x", 7, None, {}], {"7": ["x"]}]
STATE = (
    "floor published since etag refused failed part ready last result ran order offered problem checked next failures"
    " wakes x"
).split()
PREFS = (
    "name ota.channel wifi.ssid wifi.password wifi.old wifi.ap_password mqtt.pending mqtt.host web.password web.sessions"
    " log.level"
).split()
NAMES = (
    "fails.x fails. fails.-1 fails.1x fails.9999999999 trial.x trial. trial.-1 trial.1.2 job.x job. job.-1 journal.x confirmed.x"
    " undone.x loader_x loader_9.py loader_.py state.2 state.x trial.3/x undone/x"
).split()


@pytest.mark.parametrize("value", [pytest.param(value, id=json.dumps(value)) for value in WRONG])
def test_values_of_a_wrong_type_stop_nothing(world: World, value: Any) -> None:
    state, prefs = (dict.fromkeys(keys, value) for keys in (STATE, PREFS))
    if value is True:
        del state["order"]  # it would be one
    works(world, {".ota/state.0": json.dumps(state).encode(), "prefs.json": json.dumps(prefs).encode()})


def test_odd_names_beside_the_state_stop_nothing(world: World) -> None:
    works(world, {f".ota/{name}": b"{" for name in NAMES})


def test_names_that_are_no_text_stop_nothing(world: World) -> None:
    """MicroPython's reader takes them, and what lies behind a NUL."""
    world.sections["mqtt"] = {"host": "127.0.0.1", "port": free_port()}
    profile = re.sub(rb'{(?=\s*")', b"{1:2,null:[],true:{7:{}},", world.profile(WITH_ALL).raw) + b"\0{"
    assert profile.count(b"{1:2,") == 5, "the profile's, and of wifi, mqtt, ota and a key"
    works(world, {"profile.json": profile, "prefs.json": b'{1:2,null:[],"count":1}'})


def works(world: World, more: dict[str, bytes]) -> None:
    world.board.env["SIMULATOR_WEB_PORT"] = str(free_port())
    old = world.release("1.0.0", modules=WITH_ALL)
    world.flash(old, more)
    world.offer(old)
    world.boot()
    said = "\n".join(world.board.lines)
    assert "Traceback" not in said and "switched off" not in said, said


OTAS = "state.0 list release stage/id loader journal journal.new trial.0 confirmed undo undone reason fails.1 job.0".split()
FILES = [f"/.ota/{name}" for name in [*OTAS, "previous/journal"]] + ["/prefs.json", "/prefs.json.1", "/profile.json", "/version"]
SLOT = b'{1:2,null:[],"floor":{2:3}}'
CONTENTS = [
    None,  # a folder
    b"",
    b"[1,{}]",
    b'{"a":1}\n',
    b"{1:2,null:3}",
    b'{"ota":{1:null}}\0{',
    SLOT + b"\n1 " + hashlib.sha256(SLOT + b"1").hexdigest().encode() + b"\n",
    b"1 +1 x\n2 - -1m y\n- -1m\n3  x\nend 0\n",
    b"\xff\xfe\n\xff\0",
    b"[" * 3000,
]
SWEEP = b"""
import gc
import machine
import os
import sys

sys.path.append("/sys")
import driver
import ota_boot
from iot_platform import profile
from modules.ota import Module, phases
from modules.ota.install import files

driver.impatient()
phases.forget = lambda *_anyway: gc.collect()  # the patches live in its parts
with open("/profile.json", "rb") as f:
    GOOD = {"/profile.json": f.read(), "/version": b"1.0.0"}


def remove(path):
    for _step in files.remove_tree(path):
        pass


def put(path, data):
    remove(path)
    ota_boot.make_parents(path)
    if data is None:
        os.mkdir(path)
    else:
        with open(path, "wb") as f:
            f.write(data)


def life():
    # The loader, then OTA until it has looked for a network. How that ends.
    machine.Timer.running.clear()
    ota_boot._timer = ota_boot._deadline = None
    ota_boot.ready = False
    ota_boot.run()
    assert ota_boot.ready
    ota_boot.feed()
    profile.read()
    platform = driver.Platform()
    platform.bus["wifi/connected"] = False
    ota = Module(platform)
    ota.start()
    while ota.job:
        ota.tick()
    if platform.restart:
        return "restart"
    if not ota.cfg:
        return "off"
    if not ota.error:
        ota._request("check", True)
        while ota.job:
            ota.tick()
    return ota.error.reason


for path, data in CASES:
    for other in ("/.ota", "/prefs.json", "/prefs.json.1"):
        remove(other)
    for other in GOOD:
        put(other, GOOD[other])
    if path[:6] != "/.ota/":
        os.mkdir("/.ota")  # by boot.py
    put(path, data)
    try:
        lives, ends = 1, life()
        while ends == "restart" and lives < 9:
            lives, ends = lives + 1, life()
    except Exception as error:
        sys.print_exception(error)
        ends = repr(error)
    print("CASE", path, data and data[:20], "->", ends)
machine.reset()
"""


def test_whatever_lies_in_place_of_a_file_stops_neither_the_loader_nor_a_check(tmp_path: Path) -> None:
    """All in one life of a board: for each the loader and OTA start as after a restart, until a check asks for the network."""
    cases = [(path, data) for path in FILES for data in CONTENTS]
    runner._write_system(tmp_path / "sys")
    tree = runner._tree(runner.by_name("one file"), "1.0.0", "http://127.0.0.1:1")
    board = Board(tmp_path / "board.img", size=200 * BLOCK, heap="320k", env={"SIMULATOR_MOUNT": str(tmp_path / "sys")})
    board.format()
    board.write({**tree, "main.py": b"CASES = %r\n%s" % (cases, SWEEP)})
    boot = board.boot_once(timeout=120)
    ends = [line.rpartition(" -> ") for line in boot.output.splitlines() if line.startswith("CASE ")]
    assert len(ends) == len(cases), boot.output[-3000:]
    wrong = [case + " -> " + end for case, _, end in ends if end != ("off" if "/profile.json" in case else "no_network")]
    assert not wrong, "\n".join(wrong)
