"""A world for system tests: a real server, a real simulated board with this checkout's tree on it, and releases to publish.

>>> with World(tmp_path) as world:
...     world.publish("1.1.0", {"modules/lamp/__init__.py": LAMP})
...     world.board.expect("confirmed: version 1.1.0")
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from iotctl import ROOT, bundle, keys, publish, serve, tree
from iotctl import profile as profiles
from sim.board import Board, Tree

Files = dict[str, bytes]
LEFTOVERS = (".ota/list", ".ota/stage", ".ota/backup", ".ota/reserve", ".ota/journal", ".ota/journal.new", ".ota/loader")
# A module whose ticks show that the board's loop goes on, and how long it ever stopped.
WITNESS = b'''import time
from iot_platform.module import Module as Base

class Module(Base):
    name = "witness"
    last = None
    longest = 0

    def tick(self):
        now = time.ticks_ms()
        if self.last is not None and time.ticks_diff(now, self.last) > self.longest:
            self.longest = time.ticks_diff(now, self.last)
        self.last = now

    def on_command(self, command):
        if command.path == "witness":
            self.platform.log("witness: longest gap", self.longest, "ms")
            self.longest = 0
'''


@cache
def key() -> keys.PrivateKey:
    return keys.generate()


@cache
def other_key() -> keys.PrivateKey:
    return keys.generate()


@cache
def sources() -> Files:
    """This checkout's tree for the default modules, compiled once."""
    return tree.collect(profiles.read_good(ROOT / "profile.json"), "0.0.0")


class World:
    """One board, one server. The board runs `version` when it is switched on: this checkout's tree with `changes`."""

    def __init__(
        self,
        folder: Path,
        *,
        version: str = "1.0.0",
        changes: Mapping[str, bytes | None] | None = None,
        signed: bool = True,
        fs: str = "lfs",
        handler: type[serve.Handler] | None = None,
        **ota: Any,
    ) -> None:
        self.folder = folder
        self.signed = signed
        self.server = serve.Server(folder / "server", handler_class=handler)
        (folder / "server").mkdir()
        self.board = Board(folder / "board.img", fs=fs)
        self.modules = ["serial_log", "wifi", "ota", "witness"]
        self.ota: dict[str, Any] = {
            "url": self.server.url,
            "tmp_filename": "new_firmware.tar.gz",
            "excluded_files": [],
            "delete": [],
            "check_interval_s": 3600,
            "confirm_timeout_s": 15,
            "max_boot_attempts": 2,
            **({"public_keys": [keys.jwk(key())]} if signed else {}),
            **ota,
        }
        self.version = version
        self.now = self.files(version, changes)

    def __enter__(self) -> World:
        self.server.start()
        made = self.make(self.version, self.now)
        self.board.format()
        self.board.write({**self.now, ".ota/release": made.listing, "prefs.json": b'{"wifi.ap_password":"kept"}'})
        return self

    def __exit__(self, *_error: object) -> None:
        self.board.stop()
        self.server.close()

    def profile(self, **ota: Any) -> bytes:
        value = {
            "shortName": "sim-board",
            "activeModules": self.modules,
            "wifi": {"ssid": "sim-network", "password": "simulated"},
            "ota": {**self.ota, **ota},
        }
        return json.dumps(value).encode()

    def files(self, version: str, changes: Mapping[str, bytes | None] | None = None, **ota: Any) -> Files:
        """The tree of a version: this checkout's, with changes (None removes a file)."""
        found: dict[str, bytes | None] = {**sources(), "version": f"{version}\n".encode(), "profile.json": self.profile(**ota)}
        found["modules/witness/__init__.py"] = WITNESS
        found.update(changes or {})
        return {path: data for path, data in found.items() if data is not None}

    def make(self, version: str, files: Files) -> bundle.Bundle:
        given = profiles.Profile(Path("profile.json"), files["profile.json"], json.loads(files["profile.json"]))
        made = bundle.make(given, files, bundle.Options(version, bundle.default_sequence(version)))
        return replace(made, signature=keys.sign(key(), made.listing)) if self.signed else made

    def publish(self, version: str, changes: Mapping[str, bytes | None] | None = None, **ota: Any) -> Files:
        """Publish a release as iotctl does; returns its tree."""
        files = self.files(version, changes, **ota)
        path = self.folder / f"{version}.tar.gz"
        path.write_bytes(bundle.pack(self.make(version, files)))
        publish.publish(path, self.folder / "server", publish.Options(), key() if self.signed else None)
        return files

    def publish_raw(self, version: str, archive: bytes, change: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Publish any bytes under a channel file that announces them truly, but for what `change` does to it."""
        folder = self.folder / "server" / "sim-board"
        folder.mkdir(parents=True, exist_ok=True)
        header = {"name": "sim-board", "version": version, "sequence": bundle.default_sequence(version), "size": 0}
        counter = publish.next_counter(folder / "stable.json")
        signer = key() if self.signed else None
        raw = publish.channel_bytes(header, archive, publish.Options(), counter, signer)
        if change:
            value = json.loads(raw.split(b"\n")[0])
            change(value)
            raw = signed_channel(value, signer)
        (folder / f"{version}.tar.gz").write_bytes(archive)
        (folder / "stable.json").write_bytes(raw)

    def start(self) -> int:
        """Power on and wait until the board has asked the server once; returns the console's length then."""
        self.board.start()
        self.board.expect(r"ota: (up to date|check failed|version .* is available)", 30)
        return len(self.board.lines)

    def check(self, pattern: str, timeout: float = 30) -> None:
        """Type `ota check` and wait for a line."""
        since = len(self.board.lines)
        self.board.send("ota check")
        self.board.expect(pattern, timeout, since)

    def tree(self) -> Tree:
        """The board's tree after switching it off, without what is not part of a version."""
        self.board.stop()
        return self.board.read().without(".ota", "prefs.json", "prefs.json.1", "crash.log", "crash.log.1")

    def assert_runs(self, files: Files) -> None:
        """The board has exactly these files and folders, its preferences, and nothing of an update lies about."""
        found = self.tree()
        everything = self.board.read()
        assert found.files == files
        assert found.folders == {"/".join(p.split("/")[:n]) for p in files for n in range(1, p.count("/") + 1)}
        assert [path for path in LEFTOVERS if path in everything.files or path in everything.folders] == []
        assert "new_firmware.tar.gz" not in everything.files
        assert b"kept" in everything.files["prefs.json"]


def signed_channel(value: dict[str, Any], signer: keys.PrivateKey | None) -> bytes:
    import base64

    line = json.dumps(value, separators=(",", ":")).encode()
    return line + b"\n" + (base64.b64encode(keys.sign(signer, line)) + b"\n" if signer else b"")
