"""The runtime on a real board: failing modules, a wrong profile, a crash that is remembered, wifi that comes and goes."""

from __future__ import annotations

import json
import time

from sim.board import Cut
from tests.support.world import PATIENCE_S, World, sources

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
    "modules/tells/__init__.py": _module("telemetry", "return {'tells': True}"),
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


_EQUAL = """
class Unequal:
    def __eq__(self, other):
        raise ValueError("no value")
    __ne__ = __eq__

"""
# What telemetry() may give by mistake; in two of them it is the bus that cannot take it.
ODD_TELEMETRY: dict[str, bytes] = {
    "pairs": _module("telemetry", "return [('pairs/a', 1)]"),
    "number": _module("telemetry", "return 5"),
    "text": _module("telemetry", "return 'text'"),
    "keyed": _module("telemetry", "return {5: 1}"),
    "unequal": _EQUAL.encode() + _module("telemetry", "return {'unequal/a': Unequal()}"),
}


def test_what_telemetry_gives_by_mistake_is_that_modules_own_affair(world: World) -> None:
    files = {f"modules/{name}/__init__.py": code for name, code in ODD_TELEMETRY.items()}
    tells = {"modules/tells/__init__.py": FAILING["modules/tells/__init__.py"]}
    release = world.release("1.0.0", {**files, **tells}, modules=("serial_log", "wifi", "ota", *ODD_TELEMETRY, "tells"))
    world.flash(release)
    world.offer(release)
    world.boot()
    for name in ODD_TELEMETRY:
        world.board.expect(rf"E module {name} is switched off: it failed in telemetry", PATIENCE_S)
    since = world.type("values")
    for name in ODD_TELEMETRY:
        world.board.expect(rf"module/{name} = off: ", since=since)
    world.board.expect("tells = True", since=since)
    assert sum("switched off" in line for line in world.board.lines) == len(ODD_TELEMETRY)
    assert "the last run ended with" not in world.board.console() and world.board.restarts == []


# What a module may declare by mistake, and whether it can go on without.
ODD_PANELS: dict[str, tuple[str, bool]] = {
    "nothing": ("panels = {'title': 'Odd', 'values': None}", False),
    "number": ("panels = {'title': 'Odd', 'values': 5}", False),
    "made": ("panels = {'title': 'Odd', 'values': (item for item in (('made/a', 'A', ''),))}", False),
    "raises": ("@property\n    def panels(self):\n        raise ValueError('not yet')", False),
    "comma": ("panels = {'title': 'Odd', 'values': ('comma/a', 'A', '')}", True),
    "numbered": ("panels = {'id': 5, 'title': 'Odd', 'values': (('numbered/a', 'A', ''),)}", True),
}


def test_panels_that_are_wrong_in_any_way_are_that_modules_own_affair(world: World) -> None:
    head = "from iot_platform.module import Module as Base\n\nclass Module(Base):\n    "
    files = {f"modules/{name}/__init__.py": f"{head}{code}\n".encode() for name, (code, _runs) in ODD_PANELS.items()}
    good = f"{head}panels = {{'title': 'Good', 'values': (('good/a', 'A', ''),)}}\n".encode()
    modules = ("serial_log", "wifi", "ota", *ODD_PANELS, "good")
    release = world.release("1.0.0", {**files, "modules/good/__init__.py": good}, modules=modules)
    world.flash(release)
    world.board.start()
    found = world.board.expect(r"I running: (.*) free memory", PATIENCE_S)
    assert set(found[1].split(", ")) == {*modules} - {name for name, (_code, runs) in ODD_PANELS.items() if not runs}
    since = world.type("values")
    world.board.expect("good/a = ", since=since)
    for name, (_code, runs) in ODD_PANELS.items():
        world.board.expect(rf"W module {name}: in its panel .*; it is left out" if runs else rf"E module {name} .*in panels")
    assert sum("switched off" in line for line in world.board.lines) == sum(not runs for _code, runs in ODD_PANELS.values())
    assert "the last run ended with" not in world.board.console() and world.board.restarts == []


def test_a_wrong_profile_switches_ota_off_with_one_line_and_the_rest_runs(world: World) -> None:
    release = world.release("1.0.0")
    value = json.loads(release.files["profile.json"])
    value["ota"]["url"] = "not a url"
    world.flash(release, {"profile.json": json.dumps(value).encode()})
    world.board.start()
    world.board.expect(r"W ota: off: profile.json: ota.url is wrong; expected: the folder on the server")
    world.board.expect("wifi: connected")
    since = world.type("ota check")
    world.board.expect("ota check: not started: it is off, or busy", since=since)


# What damaged flash or a wrong build can leave in profile.json, and which modules run then.
_SAFE = ("serial_log", "wifi", "ota")  # and web, which this release does not have
_GOOD = '{"shortName": "door", "activeModules": ["serial_log", "ota"]%s}'
DAMAGED: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "nothing": (b"", _SAFE),
    "no JSON": (b"{ this is no JSON", _SAFE),
    "no text": (b'{"shortName": "\xff\xfe"}', _SAFE),
    "no object": (b"[]", _SAFE),
    "larger than any": (b" " * 17_000 + b"{}", _SAFE),
    "more lists than memory": (b'{"a": ' + b"[" * 16_000, _SAFE),
    "more objects than memory": ((_GOOD % (', "a": [' + "{}," * 5_000 + "{}]")).encode(), _SAFE),
    "modules without a list": (b'{"shortName": "door", "activeModules": {"ota": 1}}', _SAFE),
    "modules that are numbers": (b'{"shortName": "door", "activeModules": ["ota", 1, null]}', _SAFE),
    "modules that are lists": (b'{"shortName": "door", "activeModules": [["ota"], {}]}', _SAFE),
    "modules outside of their folder": (b'{"shortName": "door", "activeModules": ["../ota", "a.b", ""]}', _SAFE),
    "a name that is a list": (b'{"shortName": [], "activeModules": ["serial_log", "ota"]}', ("serial_log", "ota")),
    "a watchdog of infinity": ((_GOOD % ', "watchdog_s": 1e999').encode(), ("serial_log", "ota")),
    "a watchdog that is a list": ((_GOOD % ', "watchdog_s": [1]').encode(), ("serial_log", "ota")),
    "a watchdog of half a second": ((_GOOD % ', "watchdog_s": 0.5').encode(), ("serial_log", "ota")),
    "sections that are none": ((_GOOD % ', "ota": [], "wifi": 5, "ntp": {}').encode(), ("serial_log", "ota")),
}


def test_a_damaged_profile_never_keeps_a_board_from_running(world: World) -> None:
    """One clear line for what is wrong; what can run runs; no restart."""
    world.board.heap = "128k"
    world.flash(world.release("1.0.0"))
    world.board.snapshot(world.folder / "good.img")
    for what, (data, modules) in DAMAGED.items():
        world.board.restore(world.folder / "good.img")
        world.board.write({"profile.json": data})
        since = world.now()
        world.board.start()
        found = world.board.expect(r"I running: (.*) free memory|failed boot", PATIENCE_S, since)
        lines = world.board.lines[since:]
        assert found[1] and set(found[1].split(", ")) == set(modules), (what, lines)
        assert any("profile.json: " in line and "; expected: " in line for line in lines), (what, lines)
        since = world.type("ota check")
        world.board.expect("ota check: not started: it is off, or busy", PATIENCE_S, since)
        assert set(world.board.restarts) <= {"power"}, what  # which is this test itself
        world.board.stop()


def test_a_board_without_the_console_runs_and_still_logs(world: World) -> None:
    gone = {path: None for path in sources() if path.startswith("modules/serial_log")}
    assert gone
    world.flash(world.release("1.0.0", gone, modules=("wifi", "ota")))
    world.board.start()
    found = world.board.expect(r"I running: (.*) free memory", PATIENCE_S)
    assert set(found[1].split(", ")) == {"wifi", "ota"}
    world.board.expect("wifi: connected", PATIENCE_S)
    assert world.board.restarts == []


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
    world.board.expect(r"wifi: access point sim-board-\S+, with a password, at 192\.168\.4\.1", 60)
    world.board.wifi = "ok"
    world.board.expect("wifi: connected to sim-network", 60)


def test_preferences_survive_a_power_cut_at_every_operation_of_a_save(world: World) -> None:
    main = (
        b"import machine\nfrom iot_platform.slots import Slots\np = Slots(('/prefs.json', '/prefs.json.1'))\n"
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
