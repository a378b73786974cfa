"""`iotctl new` and `new-module`: a project of one's own, and a module in it that works as it stands."""

from __future__ import annotations

import keyword
import re
import sys
import unicodedata
import unittest
from pathlib import Path

from iot_platform.module import name_ok

from iotctl import ROOT, files, keys, profile
from iotctl.errors import IotctlError

BOARDS = {"sim": "profile.json", "pico-w": "profiles/pico-w.json"} | dict.fromkeys(("esp32", "esp32s3"), "profiles/esp32.json")
KEY = "owner.pem"
_FOLDERS = ("modules", "lib", "files")
_IGNORE = "# Never in git, never in a release\n*.pem\nsecrets.toml\n\ndist/\nsite/\n.build/\n"
_SECRETS = """# What goes from here into a board's preferences when it is flashed, and into no release.
# [wifi]
# ssid = "your network"
# password = "its password"
# [mqtt]
# user = "board"
# password = "its password"
"""
_FLEET = """# The boards that there should be, for `iotctl watch`, `update --group` and `dashboard` with --fleet fleet.toml
# [[board]]
# id = "{name}/24a1"      # as `iotctl watch` shows it; the rest is optional
# name = "Kitchen"
# group = "upstairs"
# tags = ["outside", "battery"]
"""
_README = """# {name}

    profile.json     what the boards are: `iotctl check` says what is wrong in it
    secrets.toml     wifi and MQTT passwords; `iotctl flash` puts them into the board's preferences
    owner.pem        your signing key. Whoever has it can put code on your boards; who loses it can never update them again:
                     keep a copy off this computer
    fleet.toml       the boards that there should be, once there are some
    modules/         your modules: `iotctl new-module thermometer` makes one that works
    tests/           what `iotctl test` runs, on this computer
    lib/  files/     what goes to the board's /lib, and to its root
    libraries.toml   other people's drivers, if you want some: see "Your first module" in the guide

Try it on a simulated board, whose console is then in your terminal (type `help`):

    iotctl sim

Put it on a real one, over USB:

    iotctl flash

And from then on over the air:

    iotctl build profile.json --version 1.1.0 --key owner.pem --out dist
    iotctl publish dist/1.1.0.tar.gz site --key owner.pem
    iotctl serve site --host 0.0.0.0          # or any web server; ota.url in profile.json names it
"""
_MODULE = '''"""{name}: counts the minutes that the board is up. Replace what it measures by what yours does."""

import time

from iot_platform.module import Module as Base


class Module(Base):
    name = "{name}"
    panels = {{  # for the page and Home Assistant: (key on the bus, label, unit, kind, range ...), (action, label)
        "title": "{title}",
        "values": (("{name}/minutes", "Minutes", "min"), ("{name}/runs", "Counts", "", "switch")),
        "actions": (("reset", "Start again"),),
        "settings": (("{name}.step_s", "Seconds that make a minute", "s", "number", 1, 3600),),
    }}

    def start(self):
        self.step_s = self.platform.setting("{name}.step_s", 60)  # profile.json: "{name}": {{"step_s": 10}}
        self.minutes = 0
        self.runs = True
        self.last = time.ticks_ms()

    def tick(self):
        if time.ticks_diff(time.ticks_ms(), self.last) >= 1000 * self.step_s:
            self.last = time.ticks_ms()
            self.minutes += self.runs

    def telemetry(self):
        return {{"{name}/minutes": self.minutes, "{name}/runs": self.runs}}

    def on_command(self, command):  # from the page, MQTT and the console alike
        if command.path == "{name}/runs":
            self.runs = command.payload
        elif command.path == "{name}.step_s":
            self.start()
        elif command.path == "{name}/reset":
            self.minutes = 0
            self.platform.log("{name}: starts again")
'''

_TEST = '''"""`iotctl test` runs it: the module on this computer, with a clock that the test turns."""

import time
from types import SimpleNamespace
from unittest import TestCase

from modules.{name} import Module


class {title}(TestCase):
    def test_it_counts_and_obeys(self):
        clock, said = SimpleNamespace(now=0), []
        time.ticks_ms, time.ticks_diff = lambda: clock.now, lambda later, earlier: later - earlier
        module = Module(SimpleNamespace(setting=lambda key, otherwise: 5, log=said.append))
        module.start()
        for clock.now in (4_999, 5_000, 9_999, 10_000):
            module.tick()
        self.assertEqual(module.telemetry()["{name}/minutes"], 2)
        module.on_command(SimpleNamespace(path="{name}/reset"))
        module.on_command(SimpleNamespace(path="{name}/runs", payload=False))
        self.assertEqual(module.telemetry(), {{"{name}/minutes": 0, "{name}/runs": False}})
        self.assertEqual(said, ["{name}: starts again"])
'''


def project(folder: Path, board: str) -> list[str]:
    """Make a project in a folder that is new or empty, with a key that its profile pins. Returns what was written.

    IotctlError for a folder with something in it, a name that is none, or a kind of board that there is not.
    """
    name = folder.resolve().name
    if board not in BOARDS:
        raise IotctlError(f"there is no board {board!r}; there are {', '.join(BOARDS)}", 2)
    if not name_ok(name):
        raise IotctlError(f"{name} is no name for boards: letters a to z, digits, _ . and -, at most 64, such as {_plain(name)}")
    if folder.exists() and any(folder.iterdir()):
        raise IotctlError(f"{folder} is not empty: choose another folder")
    for each in _FOLDERS:
        (folder / each).mkdir(parents=True)
    named = {"fleet.toml": _FLEET.format(name=name), "README.md": _README.format(name=name)}
    written = {".gitignore": _IGNORE, "secrets.toml": _SECRETS, **named}
    for path, text in written.items():
        files.replace(folder / path, text.encode())
    key = keys.generate()
    keys.write_private(key, folder / KEY, None)
    template = profile.read(ROOT / BOARDS[board])
    given = profile.Profile(folder / "profile.json", b"", _own(template.value, name))
    profile.write(given, profile.with_key(given, keys.jwk(key), None))
    return ["profile.json", *written, KEY, *(f"{each}/" for each in _FOLDERS)]


def _own(value: dict[str, object], name: str) -> dict[str, object]:
    """The template's profile for boards with this name, with the page."""
    modules = value["activeModules"]
    assert isinstance(modules, list)
    return {**value, "shortName": name, "activeModules": [*modules, *([] if "web" in modules else ["web"])]}


def _plain(name: str) -> str:
    """The nearest name that boards can have: Gewächshaus Süd -> Gewaechshaus-Sued."""
    for letter, plain in {"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"}.items():
        name = name.replace(letter, plain)
    name = unicodedata.normalize("NFKD", name.replace("\\", "/").rpartition("/")[2]).encode("ascii", "ignore").decode()
    return "-".join(re.findall(r"[A-Za-z0-9_.]+", name))[:64].strip(".") or "greenhouse"


def module(path: Path, name: str) -> list[Path]:
    """Make a module in the project of the profile at `path`, with a test, and switch it on there. Returns their files.

    IotctlError for a name that no module can have, or one that exists.
    """
    given = profile.read_good(path)
    if not name.isidentifier() or keyword.iskeyword(name) or not name.isascii() or not name.islower():
        raise IotctlError(f"{name} is no name for a module: small letters, digits and _, such as thermometer")
    made = path.parent / "modules" / name / "__init__.py"
    if made.parent.exists():
        raise IotctlError(f"there is a module {name} already: choose another name, or delete {made.parent}")
    if (ROOT / "modules" / name).exists():
        raise IotctlError(f"there is a module {name} already, of iotctl's own: choose another name")
    made.parent.mkdir(parents=True)
    test = path.parent / "tests" / f"test_{name}.py"
    test.parent.mkdir(exist_ok=True)
    made.write_text(_MODULE.format(name=name, title=name.replace("_", " ").capitalize()))
    test.write_text(_TEST.format(name=name, title=name.title().replace("_", "")))
    profile.write(given, {**given.value, "activeModules": [*given.modules, name]})
    return [made, test]


def tests(folder: Path) -> bool:
    """Run a project's tests, with what runs on boards to be imported as there. True when all is well."""
    sys.path.insert(0, str(folder.resolve()))
    found = unittest.defaultTestLoader.discover(str(folder / "tests"))
    return unittest.TextTestRunner().run(found).wasSuccessful()
