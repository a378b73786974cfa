"""A project: the folder of a profile, with what its owner adds to what comes with iotctl.

profile.json            what the boards are
modules/<name>/         modules of its own; one that iotctl has too is taken from here
lib/  files/            what goes to /lib, and to the board's root
libraries.toml          what goes to /lib as well, and is fetched: see libraries
platform/               only a checkout of the platform has it
"""

from __future__ import annotations

import re
from pathlib import Path

from iotctl import ROOT, files, lint
from iotctl.errors import IotctlError
from modules.mqtt import config as mqtt

SECRETS = "secrets.toml"
_NAME = re.compile("[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?")
_KEYS = {
    "wifi": ("ssid", "password", "ap_password"),
    "mqtt": ("host", "port", "user", "password", "tls"),
}


def roots(folder: Path) -> list[Path]:
    """Where things are looked for: in the project, then in what comes with iotctl."""
    return [ROOT] if folder.resolve() == ROOT else [folder, ROOT]


def platform(places: list[Path]) -> Path:
    """The loader and the runtime."""
    return next(place / "platform" for place in places if (place / "platform").is_dir())


def module(places: list[Path], name: str) -> Path:
    """The folder of a module: the first that is there, or where the project would have it."""
    found = [place / "modules" / name for place in places if (place / "modules" / name).is_dir()]
    return found[0] if found else places[0] / "modules" / name


def modules(places: list[Path]) -> list[str]:
    """All that there are, active or not."""
    return [path.parent.name for place in places for path in (place / "modules").glob("*/__init__.py")]


def own(places: list[Path]) -> list[tuple[Path, str]]:
    """Folders of the project that are on its boards as a whole, and where. (A checkout's lib/ is for those who ask.)"""
    return [] if (places[0] / "platform").is_dir() else [(places[0] / "lib", "lib/"), (places[0] / "files", "")]


def secrets(folder: Path) -> dict[str, object]:
    """What a board gets as preferences: ``{"wifi.ssid": "home"}``; empty without secrets.toml. IotctlError for a bad one."""
    path = folder / SECRETS
    if not path.is_file():
        return {}
    found = {}
    for section, given in files.read_toml(path).items():
        for key, each in given.items() if isinstance(given, dict) else ():
            found[f"{section}.{key}"] = each
        known = _KEYS.get(section, ())
        wrong = [key for key in given if key not in known] if isinstance(given, dict) else [""]
        if wrong:
            expected = ", ".join(f"{name}.{key}" for name, keys in _KEYS.items() for key in keys)
            raise IotctlError(f"{path}: {f'{section}.{wrong[0]}'.strip('.')} is unknown; expected {expected}")
    return found


def is_host_name(name: str) -> bool:
    """True for what a board may be called in a network."""
    return bool(_NAME.fullmatch(name))


def check_secrets(prefs: dict[str, object], where: str) -> None:
    """IotctlError for what no board could use: it would be off the network, and nobody could reach it."""
    sections: dict[str, dict[str, object]] = {"wifi": {}, "mqtt": {}}
    for key, value in prefs.items():
        section, _dot, name = key.partition(".")
        sections[section][name] = value
    wrong = [(f"wifi.{name}", lint.WIFI[name][1]) for name, value in sections["wifi"].items() if not lint.WIFI[name][0](value)]
    given = {"user": "?", "ca": "?", **sections["mqtt"]} if sections["mqtt"].get("tls") else {"user": "?", **sections["mqtt"]}
    wrong += [(key, expected) for key, _problem, expected in mqtt.check(given)]
    if wrong:
        raise IotctlError(f"{where}: {wrong[0][0]} is wrong; expected {wrong[0][1]}")
