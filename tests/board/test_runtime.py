"""The runtime on a real board: failing modules, a wrong profile, a crash that is remembered, wifi that comes and goes."""

from __future__ import annotations

import json
import time

from sim.board import Cut
from tests.board.world import World

_MODULE = """from iot_platform.module import Module as Base

class Module(Base):
    def {method}(self):
        {body}
"""


def _module(method: str, body: str) -> bytes:
    return _MODULE.format(method=method, body=body).encode()


FAILING = {
    "modules/imports/__init__.py": b"raise ValueError('at import')\n",
    "modules/starts/__init__.py": _module("start", "raise ValueError('in start')"),
    "modules/ticks/__init__.py": _module("tick", "raise ValueError('in tick')"),
    "modules/tells/__init__.py": _module("telemetry", "return {'tells': self.platform.ticks > 0}"),
}


def test_a_module_that_fails_is_switched_off_and_reported_and_the_others_run_on(world: World) -> None:
    modules = ("serial_log", "wifi", "ota", "missing", "imports", "starts", "ticks", "tells")
    world.flash(world.release("1.0.0", FAILING, modules=modules))
    world.board.start()
    for name, where, why in (
        ("missing", "import", "ImportError"),
        ("imports", "import", "at import"),
        ("starts", "start", "in start"),
        ("ticks", "tick", "in tick"),
    ):
        world.board.expect(rf"E module {name} is switched off: it failed in {where} .*{why}")
    assert "Traceback" in world.board.console()
    world.board.expect("ota: check failed")  # the others run on: wifi has connected, ota has asked
    time.sleep(1.5)  # telemetry is collected once a second
    since = world.type("values")
    for name in ("missing", "imports", "starts", "ticks"):
        world.board.expect(rf"module/{name} = off: ", since=since)
    world.board.expect("tells = True", since=since)
    assert sum("switched off" in line for line in world.board.lines) == 4


def test_a_wrong_profile_switches_ota_off_with_one_line_and_the_rest_runs(world: World) -> None:
    release = world.release("1.0.0")
    value = json.loads(release.files["profile.json"])
    value["ota"]["url"] = "not a url"
    world.flash(release, {"profile.json": json.dumps(value).encode()})
    world.board.start()
    world.board.expect(r"W ota: off: profile.json: ota.url is wrong; expected: the folder on the server")
    world.board.expect("wifi: connected")
    since = world.type("ota check")
    world.board.expect("ota check: False", since=since)


def test_without_a_profile_the_safe_modules_start(world: World) -> None:
    world.flash(world.release("1.0.0"), {"profile.json": b"{ this is no JSON"})
    world.board.start()
    world.board.expect("profile.json cannot be read, only the safe modules start")
    world.board.expect("wifi: no network is configured")
    world.board.expect("access point .* is open")


def test_an_exceptions_traceback_survives_the_restart_in_a_bounded_file(world: World) -> None:
    crash = _module("start", "raise SystemExit('x' * 3000)")
    modules = ("serial_log", "wifi", "ota", "crash")
    world.flash(world.release("1.0.0", {"modules/crash/__init__.py": crash}, modules=modules))
    world.board.start()
    world.board.expect("the last run ended with:")
    found = world.stop()
    assert all(len(data) <= 2000 for path, data in found.files.items() if path.startswith("crash.log"))


def test_wifi_waits_longer_each_time_opens_an_access_point_and_comes_back(world: World) -> None:
    world.flash(world.release("1.0.0"))
    world.board.wifi = "off"
    world.board.start()
    pauses = []
    since = 0
    for _attempt in range(3):
        found = world.board.expect(r"wifi: could not join sim-network, next try in (\d+) ms", 40, since)
        pauses.append(int(found[1]))
        since = world.board.lines.index(found.string) + 1
    assert pauses == sorted(pauses)
    world.board.expect("access point sim-board-.* is open", 60)
    world.board.wifi = "ok"
    world.board.expect("wifi: connected to sim-network", 60)


def test_preferences_survive_a_power_cut_at_every_operation_of_a_save(world: World) -> None:
    main = (
        b"import machine\nfrom iot_platform.prefs import Prefs\np = Prefs()\n"
        b"p.set('n', p.get('n', 0) + 1)\np.save()\nprint('saved', p.get('n'))\nmachine.reset()\n"
    )
    world.flash(world.release("1.0.0"), {"main.py": main})
    assert "saved 1" in world.board.boot_once().output
    start = world.folder / "start.img"
    world.board.snapshot(start)
    operations = world.board.boot_once().counters.operations
    assert operations > 0
    for at in range(operations + 1):
        for mode in ("before", "torn", "after"):
            world.board.restore(start)
            world.board.boot_once(cut=Cut(at, mode))
            output = world.board.boot_once().output
            assert "saved 2" in output or "saved 3" in output, f"operation {at} {mode}: {output}"
