"""A whole board with the whole platform, a key, and a server that may be as bad as a test wants it.

Two things differ from what is shipped: a module that measures whether the loop goes on, and shorter deadlines, so that a test
of a silent server takes two seconds instead of twenty.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from iotctl import ROOT, bundle, keys, publish, tree
from iotctl.profile import Profile
from sim.board import Board, Tree
from tests.support import forge
from tests.support.scripted_server import ScriptedServer, proper

IDLE_S, TOTAL_S = 1.5, 4
PATIENCE_S = 60
GAP_MS = 2500
TOKEN = "Bearer very-secret"
_DEADLINES = {
    "transport/http.py": (("idle_ms=15_000, total_ms=60_000", "idle_ms=3_000, total_ms=6_000"),),
    "transport/ranges.py": (
        ("_IDLE_MS = const(20_000)", "_IDLE_MS = const(3_000)"),
        ("_TOTAL_MS = const(120_000)", "_TOTAL_MS = const(6_000)"),
        ("_TOTAL_MS + 2 * (self.size if self.whole or not end else end - begin)", "_TOTAL_MS"),
    ),
    "legacy/requests_http.py": (
        ("_IDLE_MS = const(15_000)", "_IDLE_MS = const(3_000)"),
        ("_TOTAL_MS = const(900_000)", "_TOTAL_MS = const(6_000)"),
        ("_LATEST_MS = const(60_000)", "_LATEST_MS = const(6_000)"),
    ),
}
_BEAT = '''"""Notes the longest time between two of its ticks."""

import time

from iot_platform.module import Module as Base


class Module(Base):
    name = "beat"

    def start(self):
        self.last = self.said = time.ticks_ms()
        self.ticks = self.longest = 0

    def tick(self):
        now = time.ticks_ms()
        self.longest = max(self.longest, time.ticks_diff(now, self.last))
        self.last = now
        self.ticks += 1
        if time.ticks_diff(now, self.said) > 250:
            self.platform.log("beat", self.ticks, "longest", self.longest)
            self.said, self.longest = now, 0
'''
_LEFT = (".ota/state.0", ".ota/state.1", ".ota/release")


def lamp(version: str) -> bytes:
    """60 KB that no archive makes smaller: two pieces."""
    return hashlib.shake_128(version.encode()).digest(60_000)


def make_profile(url: str, *numbers: int, **ota: Any) -> bytes:
    """A profile with the beat module, an access token, and these keys pinned."""
    value = json.loads(forge.profile(*numbers, url=url, check_interval_s=3600, headers={"Authorization": TOKEN}, **ota))
    value["activeModules"] = ["serial_log", "wifi", "ota", "beat"]
    value["wifi"] = {"ssid": "sim-network", "password": "simulated"}
    return json.dumps(value).encode()


@cache
def sources() -> dict[str, bytes]:
    """The tree without profile and version, compiled once."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        for name in ("platform", "modules", "lib"):
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name, changes in _DEADLINES.items():
            path = source / "modules" / "ota" / name
            text = path.read_text()
            for old, new in changes:
                assert old in text, f"{name} has no {old} any more"
                text = text.replace(old, new)
            path.write_text(text)
        (source / "modules" / "beat").mkdir()
        (source / "modules" / "beat" / "__init__.py").write_text(_BEAT)
        raw = make_profile("http://127.0.0.1:1")
        files = tree.collect(Profile(source / "profile.json", raw, json.loads(raw)), "1.0.0")
    return {path: data for path, data in files.items() if path not in ("profile.json", "version")}


class Site:
    """A board on 1.0.0, and what its server offers.

    :param more: files of every version.
    """

    def __init__(
        self,
        folder: Path,
        server: ScriptedServer,
        *pinned: int,
        url: str | None = None,
        more: Mapping[str, bytes] = MappingProxyType({}),
        **ota: Any,
    ) -> None:
        self.server = server
        self.profile = make_profile(url or server.url, *pinned, **ota)
        self.board = Board(folder / "board.img", like="pico-w")
        self.common = {**sources(), **more}
        self.old = {**self.common, "profile.json": self.profile, "version": b"1.0.0\n"}
        self.board.format()
        listed = forge.listing(self.old, version="1.0.0", sequence=1_000_000)
        self.board.write({**self.old, ".ota/release": listed})

    def release(self, version: str, signer: int | None = 0, profile: bytes | None = None, **changes: Any) -> bytes:
        """A bundle of `version`: the old tree with another lamp."""
        return self.forged(version, profile, **changes).pack(None if signer is None else forge.key(signer))

    def forged(self, version: str, profile: bytes | None = None, **changes: Any) -> forge.Forgery:
        """The same, to be changed."""
        header = {"version": version, "sequence": bundle.default_sequence(version), **changes}
        return forge.Forgery(self.files(version, profile), header)

    def place(self, version: str, path: str, piece: int = 0) -> int:
        """Where in such a release, signed by key 0, a file's group begins, or a later piece of it."""
        made = self.forged(version)
        group = next(group for group in made.groups if group.entries[0]["path"] == path)
        head = len(made.pack(forge.key(0))) - len(made.body)
        return int(head + group.entries[0]["at"] + sum(map(len, group.packed[:piece])))

    def files(self, version: str, profile: bytes | None = None) -> dict[str, bytes]:
        """The tree of such a release."""
        more = {"profile.json": profile or self.profile, "version": version.encode() + b"\n", "lamp.bin": lamp(version)}
        more["zz.txt"] = version.encode()  # the last one, so each bundle is read to its end
        return {**self.common, **more}

    def channel(self, archive: bytes, version: str, signer: int | None = 0, published: int = 1_700_000_000) -> bytes:
        """A channel file that announces this archive as `version`."""
        header: dict[str, Any] = {
            "name": forge.NAME,
            "version": version,
            "sequence": bundle.default_sequence(version),
            "notes": "",
        }
        key: keys.PrivateKey | None = None if signer is None else forge.key(signer)
        return publish.channel_bytes(header, archive, publish.Options(), published, key, forge.head_of(archive))

    def offer(self, version: str, signer: int | None = 0, published: int = 1_700_000_000, profile: bytes | None = None) -> bytes:
        """Serve a release properly; returns the archive."""
        archive = self.release(version, signer, profile)
        self.server.routes[CHANNEL] = proper(self.channel(archive, version, signer, published))
        self.server.routes[archive_path(version)] = proper(archive)
        return archive

    def refused(self, since: int = 0, timeout: float = PATIENCE_S) -> str:
        """Wait for the end of a check that fails; its reason."""
        found = self.board.expect(r"(?:check|update) failed: .* \((\w+)\)$", timeout, since)
        return found.group(1)

    def check(self, command: str = "ota check") -> int:
        """Type a command; returns the console's line number before."""
        since = len(self.board.lines)
        self.board.send(command)
        return since

    def untouched(self, staged: bool = False, gap_ms: int = GAP_MS) -> None:
        """Switch off: nothing of the tree has changed, nothing was left behind, and the loop went on all the time.

        :param staged: what has been staged so far may lie there, to be used again.
        :param gap_ms: the most that may lie between two ticks.
        """
        self.board.expect("beat", PATIENCE_S, len(self.board.lines))  # which tells of all the time until now
        self.board.stop()
        self.goes_on(gap_ms)
        found = self.board.read()
        left = {path for path in found.files if path.startswith(".ota/")} - set(_LEFT)
        assert all(staged and forge.STAGED.fullmatch(path) for path in left), f"left behind: {left}"
        tree_now = self.tree(found, ".ota")
        assert tree_now == self.old, sorted(set(tree_now) ^ set(self.old))

    @staticmethod
    def tree(found: Tree, *but: str) -> dict[str, bytes]:
        """The files `found`, without those of `but`, and the preferences, which are the access point's password alone."""
        for path in {"prefs.json", "prefs.json.1"} & found.files.keys():
            assert json.loads(found.files[path].splitlines()[0]).keys() == {"wifi.ap_password"}, path
        return found.without(*but, "prefs.json", "prefs.json.1").files

    def goes_on(self, gap_ms: int = GAP_MS) -> None:
        """Other modules' ticks went on: no wait for the server held them up (its deadline is 3 s; this machine may be busy)."""
        beats = [re.search(r"beat (\d+) longest (\d+)", line) for line in self.board.lines]
        gaps = [int(found.group(2)) for found in beats if found]
        assert gaps
        print(f"longest gap between two ticks: {max(gaps)} ms")
        assert max(gaps) < gap_ms, f"a gap of {max(gaps)} ms between two ticks"


CHANNEL = f"/{forge.NAME}/stable.json"


def archive_path(version: str) -> str:
    return f"/{forge.NAME}/{version}.tar.gz"
