"""profile.json on the host: read, checked with the board's own rules, and given a signing key's public half."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iot_platform import profile as board_profile

from iotctl import ROOT, files, lint, project
from iotctl.errors import IotctlError
from iotctl.keys import Jwk
from modules.ota.release import fields, signature
from sim.ports import PORTS

ROLES = ("release", "channel")


@dataclass(frozen=True)
class Problem:
    """One error in a profile: which key, what is wrong, what is expected."""

    key: str
    problem: str
    expected: str


@dataclass(frozen=True)
class Profile:
    """A profile as it stands in its file."""

    path: Path
    raw: bytes
    value: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.value["shortName"])

    @property
    def places(self) -> list[Path]:
        """Where its modules and libraries are looked for: see project.roots."""
        return project.roots(self.path.parent)

    @property
    def modules(self) -> list[str]:
        return list(self.value["activeModules"])

    @property
    def board(self) -> str | None:
        """The kind of board that it is for, if it says so."""
        return self.value.get("board")

    def section(self, name: str) -> dict[str, Any]:
        """An object in it, such as "ota"; {} where it has none."""
        found = self.value.get(name)
        return found if isinstance(found, dict) else {}

    @property
    def chip(self) -> str:
        """What mpy-cross calls the native code of that board; "" where it is not known."""
        return PORTS[self.board].chip if self.board else ""

    @property
    def secrets(self) -> list[str]:
        return lint.secrets(self.value)

    @property
    def keys(self) -> list[Jwk]:
        """Those that may sign a release."""
        return list(signature.pinned(self._ota, "release"))

    @property
    def delete(self) -> list[str]:
        return [path.strip("/") for path in self._ota.get("delete", [])]

    @property
    def _ota(self) -> dict[str, Any]:
        """OTA's section; empty on a board without OTA, where nobody checks it."""
        return self.section("ota") if "ota" in self.modules else {}


def read(path: Path) -> Profile:
    """Read a profile that is a JSON object, whatever is in it; IotctlError otherwise."""
    raw = path.read_bytes()
    if len(raw) > board_profile.MAX_BYTES:
        raise IotctlError(f"{path} is larger than {board_profile.MAX_BYTES} bytes")
    try:
        if raw.startswith(b"\xef\xbb\xbf"):
            raise ValueError("it begins with a byte order mark, which no board reads; save it as UTF-8 without one")
        text = raw.decode()
        json.loads(text, parse_constant=lint.constant)
    except ValueError as error:
        raise IotctlError(f"{path} is not JSON: {error}") from None
    return Profile(path, raw, fields.load_object(text, str(path), "not_configured"))


def problems(profile: Profile, here: bool = True) -> list[Problem]:
    """Every error: the board's own rules, and what it would not say: see lint.

    :param here: False for the profile of another computer's project, whose modules are not here to be looked for.
    """
    given = profile.value.get("activeModules") if here else None
    active = [name for name in given if isinstance(name, str)] if isinstance(given, list) else []
    at = {name: project.module(profile.places, name) for name in active}
    others = [name for name, folder in at.items() if folder.parent.parent != ROOT and (folder / "config.py").is_file()]
    found = board_profile.check(profile.value, [name for name in active if name not in others] if here else None)
    found = lint.older(profile.value) + found + lint.values(profile.value)
    if not any(key == "activeModules" for key, _problem, _expected in found):
        for name, folder in at.items():
            if not (folder / "__init__.py").is_file():
                nearest = lint.nearest(name, project.modules(profile.places))
                found.append(("activeModules", f"names {name}", nearest or f"a module with a folder modules/{name}"))
            elif name in others:
                found += lint.own(name, folder, profile.value.get(name))
    found += lint.keys(profile.value, [*active, *project.modules(profile.places)]) + lint.text(profile.raw.decode())
    return [Problem(*row) for row in found] + _private_keys(profile.value.get("ota"))


def warnings(profile: Profile) -> list[str]:
    """What is allowed, but not what one wants for long."""
    careless = [name for name in ("ota", "mqtt") if profile.section(name).get("ca") == board_profile.NOT_VERIFIED]
    said = [f"{name}.ca: who answers is not verified, and gets what the board sends: passwords, tokens" for name in careless]
    if "example.org" in str(profile.section("ota").get("url")):
        said.append("ota.url: is an example: name your server before you flash; on a board only a release or a cable changes it")
    return said


def _private_keys(ota: Any) -> list[Problem]:
    """Keys that are whole JWKs: a board takes the public half that it needs, and hands on the rest."""
    pinned = {name: ota.get(name) for name in signature.PINS} if isinstance(ota, dict) else {}
    lists = [(name, n, key) for name, found in pinned.items() if isinstance(found, list) for n, key in enumerate(found)]
    private = [(name, n) for name, n, key in lists if isinstance(key, dict) and "d" in key]
    return [Problem(f"ota.{name}[{n}]", "is a private key", "its public half, kty, n and e") for name, n in private]


def read_good(path: Path, here: bool = True) -> Profile:
    """Read a profile without an error in it; IotctlError names the first one."""
    profile = read(path)
    found = problems(profile, here)
    if found:
        first = found[0]
        more = f" ({len(found) - 1} more: iotctl check {path})" if len(found) > 1 else ""
        raise IotctlError(f"{path}: {first.key} {first.problem}; expected {first.expected}{more}")
    return profile


def with_key(profile: Profile, key: Jwk, role: str | None) -> dict[str, Any]:
    """The profile's value with one more public key, for a `role` ("release" or "channel") or for both. IotctlError without room.

    What was pinned for both roles stays so when the first key comes that is for one.
    """
    ota = profile.value.get("ota")
    if not isinstance(ota, dict) or not all(isinstance(ota.get(name, []), list) for name in signature.PINS):
        raise IotctlError(f"{profile.path} has no ota object that a key could be pinned in: iotctl check {profile.path}")
    if role is None and not any(name in ota for name in signature.PINS[1:]):
        pins = {"public_keys": [*ota.get("public_keys", []), key]}
    else:
        pins = {f"{each}_keys": [*signature.pinned(ota, each), *([key] if role in (None, each) else [])] for each in ROLES}
    if any(len(pinned) > signature.MAX_KEYS for pinned in pins.values()):
        raise IotctlError(f"{profile.path} pins {signature.MAX_KEYS} keys already: take one out first")
    rest = {name: value for name, value in ota.items() if name not in signature.PINS}
    return {**profile.value, "ota": {**rest, **{name: pinned for name, pinned in pins.items() if pinned}}}


def write(profile: Profile, value: dict[str, Any]) -> None:
    """Another value in the profile's file."""
    files.replace(profile.path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())
