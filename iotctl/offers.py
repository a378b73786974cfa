"""What a site's folder offers boards: its channel files and bundles, read again only when they have changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iot_platform.module import name_ok

from iotctl import bundle, errors
from modules.ota.release import fields

Offer = Mapping[str, Any]  # of a channel file: version, sequence, rollout; and "releases", the versions whose bundles are there

_MOST = 1000  # channel files; a board may say anything


class Site:
    """A folder that `iotctl publish` writes; None has nothing to offer."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._known: dict[Path, tuple[int, Offer | None]] = {}

    def offer(self, kind: str, channel: str) -> Offer | None:
        """What a channel leads boards of a kind to."""
        if self._folder is None or not (name_ok(kind) and name_ok(channel)):
            return None
        path = self._folder / kind.lower() / f"{channel}.json"
        if path not in self._known:
            if len(self._known) >= _MOST:
                return None
            self._read(path)
        return self._known[path][1]

    def look(self) -> bool:
        """Read again what has changed; True when there was such a channel file."""
        return sum(map(self._read, list(self._known))) > 0

    def commands(self, kind: str, version: str) -> list[str] | None:
        """What the profile in a release lets MQTT do (``mqtt.commands``); None when that release is not here."""
        if self._folder is None or not (name_ok(kind) and fields.is_version(version)):
            return None
        try:
            made = bundle.read(self._folder / kind.lower() / f"{version}.tar.gz", ("profile.json",))
            named = json.loads(made.files["profile.json"])["mqtt"].get("commands", [])
        except (*errors.REPORTED, ValueError, KeyError, TypeError, AttributeError):
            return None
        return [str(word) for word in named] if isinstance(named, list) else None

    def _read(self, path: Path) -> bool:
        stamp, known = _stamp(path), self._known.get(path)
        if known and known[0] == stamp:
            return False
        self._known[path] = stamp, _channel(path)
        return True


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _channel(path: Path) -> Offer | None:
    try:
        value = json.loads(path.read_bytes().split(b"\n", 1)[0])
        found = {"version": str(value["version"]), "sequence": int(value["sequence"]), "rollout": dict(value["rollout"])}
        releases = [bundle.name.removesuffix(".tar.gz") for bundle in path.parent.glob("*.tar.gz")]
        return {**found, "releases": [version for version in releases if fields.is_version(version)]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
