"""What a board takes without a word, and what strands it all the same: found in a profile before anybody builds from it.

Names that nobody knows, a type that wifi cannot use, a URL that only looks like one, text that MicroPython reads otherwise.
What a board refuses by itself it says by its own rules: see iot_platform.profile.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from iotctl.errors import IotctlError
from modules.mqtt import config as mqtt
from modules.ota import config as ota
from modules.ota.errors import OtaError
from modules.ota.release import signature
from modules.ota.transport import urls
from modules.web import config as web
from sim.ports import PORTS

Row = tuple[str, str, str]  # key, problem, expected
_TOP = ("shortName", "activeModules", "watchdog_s", "ntp", "board")
_KNOWN: dict[str, tuple[str, ...]] = {
    "ota": (*(key for key, _good, _expected in (*ota._REQUIRED, *ota._OPTIONAL)), *signature.PINS),
    "ota.mip": ("index", "sha256"),
    "mqtt": tuple(mqtt.DEFAULTS),
    "web": tuple(key for key, _good, _expected in web._OPTIONAL),
    "wifi": ("ssid", "password", "ap_password"),
}
_SECRETS = ("wifi.password", "wifi.ap_password", "mqtt.password", "web.password")
_ESCAPE = re.compile(r"\\(u[dD][89abAB]..\\u....|u....|.)", re.DOTALL)
_HEX = re.compile("[0-9a-fA-F]{64}")


def keys(value: dict[str, Any], modules: Iterable[str]) -> list[Row]:
    """Names that nobody reads, each with the nearest one that somebody does.

    :param modules: may have sections of their own.
    """
    found = _unknown("", value, {*_TOP, *modules})
    for section, names in _KNOWN.items():
        part: Any = value
        for name in section.split("."):
            part = part.get(name) if isinstance(part, dict) else None
        found += _unknown(section + ".", part, names) if isinstance(part, dict) else []
    return found


def older(value: dict[str, Any]) -> list[Row]:
    """What a profile of public-micropython-iot-platform has, whose boards can be brought over."""
    modules = value.get("activeModules")
    if "name" not in value or not isinstance(modules, list) or "basic" not in modules:
        return []
    how = "one that `iotctl new` makes; `iotctl migrate` brings its boards over, as docs/migration.md says"
    return [("profile.json", "is one of public-micropython-iot-platform", how)]


def nearest(name: str, known: Iterable[str]) -> str:
    """What was perhaps meant, with a question mark; "" where nothing is near."""
    return "".join(f"{each}?" for each in difflib.get_close_matches(name, known, 1))


def _unknown(prefix: str, given: Iterable[str], known: Collection[str]) -> list[Row]:
    rows = []
    for name in given:
        if name not in known:
            meant = nearest(name, known)
            rows.append((prefix + name, "is unknown", prefix + meant if meant else ", ".join(sorted(known))))
    return rows


def values(value: dict[str, Any]) -> list[Row]:
    """What has a wrong type or length where the board itself does not look, or only when it is too late."""
    found = [("board", "is wrong", f"one of {', '.join(PORTS)}")] if value.get("board", "unix") not in [*PORTS] else []
    section = value.get("wifi")
    if section is not None and not isinstance(section, dict):
        return [*found, ("wifi", "is wrong", "an object with ssid, password and ap_password")]
    for key, (good, expected) in WIFI.items():
        if section and key in section and not good(section[key]):
            found.append((f"wifi.{key}", "is wrong", expected))
    given = value.get("ota")
    url = given.get("url") if isinstance(given, dict) else None
    if ota.is_url(url):
        try:
            urls.split(urls.join(url, "x"), "not_configured")
        except OtaError as error:
            found.append(("ota.url", "is wrong", f"http://, or https://, a name or an address, and a path: {error}"))
    return found


def _is_ssid(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value.encode()) <= 32


def _is_password(value: object) -> bool:
    """Of a network: 8 to 63 characters, 64 hexadecimal digits, or nothing for an open one."""
    if value is None or value == "":
        return True
    return isinstance(value, str) and (8 <= len(value.encode()) <= 63 or bool(_HEX.fullmatch(value)))


def _is_own_password(value: object) -> bool:
    return isinstance(value, str) and (value == "" or 8 <= len(value.encode()) <= 63)


WIFI: dict[str, tuple[Callable[[object], bool], str]] = {
    "ssid": (_is_ssid, "a network's name, 1 to 32 bytes"),
    "password": (_is_password, 'text of 8 to 63 characters, 64 hexadecimal digits, or "" for an open network'),
    "ap_password": (_is_own_password, 'text of 8 to 63 characters, or "" for an open access point'),
}


def text(raw: str) -> list[Row]:
    """Escapes of which MicroPython's JSON reader makes something else, each with its line."""
    halves = [match for match in _ESCAPE.finditer(raw) if match[1][:2].lower() == "ud" and match[1][2] in "89abcdefABCDEF"]
    expected = "the character itself: a board does not put its halves together"
    return [(f"line {raw[: match.start()].count(chr(10)) + 1}", f"has {match[0]}", expected) for match in halves]


def constant(name: str) -> None:
    """For json.loads: NaN and Infinity are no JSON, and a board cannot read such a file."""
    raise ValueError(f"it has {name}")


def own(name: str, folder: Path, section: object) -> list[Row]:
    """What a module of the project says of its section: the check() in its config.py."""
    path = folder / "config.py"
    spec = importlib.util.spec_from_file_location(f"modules.{name}.config", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return list(module.check(section))
    except Exception as error:  # it is somebody else's code
        raise IotctlError(f"{path}: {type(error).__name__}: {error}") from error


def secrets(value: dict[str, Any]) -> list[str]:
    """Keys of the passwords in a profile, which everybody can read who can download a release."""
    found = []
    for key in _SECRETS:
        section, _dot, name = key.partition(".")
        if isinstance(value.get(section), dict) and value[section].get(name):
            found.append(key)
    return found


def source(path: Path, data: bytes) -> None:
    """IotctlError, with the line, for a source that MicroPython reads otherwise than its author, or not at all."""
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            line.decode()
        except UnicodeDecodeError:
            raise IotctlError(f"{path}:{number}: is not UTF-8 (Latin-1?): save it as UTF-8") from None
        indent = line[: len(line) - len(line.lstrip())]
        if b"\f" in indent and line.strip():
            raise IotctlError(f"{path}:{number}: a form feed before the code, which MicroPython takes for a space")
        if b"\0" in line:
            raise IotctlError(f"{path}:{number}: has a byte of zero")
    try:
        ast.parse(data)
    except TabError as error:
        raise IotctlError(f"{path}:{error.lineno}: tabs and spaces are mixed: indent with spaces only") from None
    except SyntaxError:  # the compiler for boards says it in its own words
        return
