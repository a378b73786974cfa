"""A board, a server and an owner with a key: releases are built from the real sources, published, and taken over real HTTP.

    with World(folder) as world:
        world.flash(world.release("1.0.0"))
        world.boot()
        new = world.release("1.1.0", {"modules/extra.txt": b"hello"})
        world.update_to(new)
        world.assert_runs(new)
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
import re
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from iotctl import ROOT, bundle, keys, mpy, publish, serve, tree
from iotctl import archive as archives
from iotctl.profile import Profile
from iotctl.tree import Files
from sim.board import Board, Tree
from tests.support import forge

MODULES = ("serial_log", "wifi", "ota")
SHORT_NAME = "sim-board"
ARCHIVE = "new_firmware.tar.gz"
PATIENCE_S = 60  # for what takes a few seconds on a machine that has nothing else to do
WATCHDOG_MS = "4000"  # in place of 8000, where a test is about what comes after the bite
SELDOM_S = 2_592_000  # between two checks: a random part of an hour could be over while a test still looks
NEVER = "00:00-00:00"  # a window for installs that is never open: what is found is staged, and waits
_STATE = (".ota/state.0", ".ota/state.1", ".ota/release")
USERS = ("prefs.json", "prefs.json.1", "crash.log", "crash.log.1")

Changes = Mapping[str, bytes | None]  # None: the file is not in this release
Jwk = dict[str, Any]


@cache
def owner() -> keys.PrivateKey:
    """The key that boards pin."""
    return keys.generate()


@cache
def stranger() -> keys.PrivateKey:
    """A key that no board knows."""
    return keys.generate()


@cache
def sources(modules: tuple[str, ...] = MODULES) -> Files:
    """The tree of this checkout, compiled, as iotctl makes it; the profile and the version are put in later."""
    value = {"shortName": SHORT_NAME, "activeModules": [*modules]}
    return tree.collect(Profile(Path("profile.json"), json.dumps(value).encode(), value), "1.0.0")


@dataclass
class Release:
    """A version: its files, and the bundle that brings them."""

    version: str
    sequence: int
    files: Files
    bundle: bundle.Bundle
    archive: bytes

    @property
    def tree(self) -> Tree:
        """Exactly what a board with it has on its flash, but for `.ota` and the user's own files."""
        return tree_of(self.files)

    def with_files(self, more: Changes) -> Tree:
        """The same with files that no release brought."""
        return tree_of(changed(self.files, more))


def noise(seed: int, size: int) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(size)


def patched(path: str, *changes: tuple[str, str]) -> Changes:
    """A file of this checkout's device code with some of its text replaced, such as a deadline: what a release has then."""
    text = (ROOT / ("platform" if path.startswith("iot_platform/") else "") / path).read_text()
    for old, new in changes:
        assert text.count(old) == 1, f"{path} has {old} {text.count(old)} times"
        text = text.replace(old, new)
    return {path.removesuffix(".py") + ".mpy": mpy.compile_source(text.encode(), path)}


def tree_of(files: Mapping[str, bytes]) -> Tree:
    return Tree(dict(files), tree.folders(files))


def place(release: Release, path: str) -> tuple[int, int]:
    """Where the group with a file begins and ends, counted from the end of the head."""
    places = sorted({entry.at for entry in release.bundle.entries}) + [len(release.bundle.packed)]
    begin = next(entry.at for entry in release.bundle.entries if entry.path == path)
    return begin, places[places.index(begin) + 1]


def changed(files: Files, changes: Changes) -> Files:
    merged: dict[str, bytes | None] = {**files, **changes}
    return {path: data for path, data in merged.items() if data is not None}


@dataclass
class Member:
    """A member of a hand-made archive; `kind` is one of tarfile's."""

    name: str
    data: bytes = b""
    kind: bytes = tarfile.REGTYPE
    target: str = ""


def pack(members: Iterable[Member]) -> bytes:
    """An archive with any members, in any order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.type, info.linkname, info.size = member.kind, member.target, len(member.data)
            archive.addfile(info, io.BytesIO(member.data))
    return archives.gzip(out.getvalue())


class Handler(serve.Handler):
    """The real one, unless the test has a trick up its sleeve."""

    def do_GET(self) -> None:
        owner = self.server.owner
        assert isinstance(owner, Server)
        if not owner.trick or not owner.trick(self):
            super().do_GET()

    def setup(self) -> None:
        super().setup()
        owner = self.server.owner
        assert isinstance(owner, Server)
        owner.connections += 1

    def begin(self, data: bytes, most: int | None = None) -> bytes:
        """Announce `data`, or the part of it that was asked for; returns the body that is to follow, at most `most` bytes."""
        span = self._span(serve.etag_of(data), len(data)) or serve.Span(0, len(data))
        body = data[span.start : span.end]
        part = len(body) < len(data)
        self._remember(HTTPStatus.PARTIAL_CONTENT if part else HTTPStatus.OK, len(body[:most]))
        self.send_response(206 if part else 200)
        self.send_header("ETag", serve.etag_of(data))
        if part:
            self.send_header("Content-Range", f"bytes {span.start}-{span.end - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body[:most]

    def send_half(self, data: bytes, length: int) -> None:
        """Announce all that was asked for of `data`, send `length` bytes of it, and hang up."""
        self.wfile.write(self.begin(data, length))
        self.close_connection = True

    def send_raw(self, data: bytes) -> None:
        """Anything at all."""
        self._remember(HTTPStatus.OK, len(data))
        self.wfile.write(data)
        self.close_connection = True


class Server(serve.Server):
    handler_class = Handler
    connections = 0  # that were made so far
    trick: Callable[[Handler], bool] | None = None  # True when it has answered


@dataclass
class Slowly:
    """The update server sends archives in pieces, so that there is some progress to be seen."""

    seconds: float

    def __call__(self, handler: Handler) -> bool:
        data = handler._find()
        if data is None or not handler.path.endswith(".tar.gz"):
            return False
        body = handler.begin(data)
        size = len(body) // 12 + 1
        for at in range(0, len(body), size):
            handler.wfile.write(body[at : at + size])
            handler.wfile.flush()
            time.sleep(self.seconds / 12)
        return True


@dataclass
class World:
    """See the module. `ota` changes the ``ota`` section of every profile in it."""

    folder: Path
    key: keys.PrivateKey | None = field(default_factory=owner)
    ota: dict[str, Any] = field(default_factory=dict)
    modules: tuple[str, ...] = MODULES
    sections: dict[str, Any] = field(default_factory=dict)  # more of every profile, such as ``mqtt``
    like: str = "pico-w"  # whose habits, heap and flash its board has

    def __post_init__(self) -> None:
        self.site = self.folder / "site"
        (self.site / SHORT_NAME).mkdir(parents=True)
        self.server = Server(self.site)
        self.board = Board(self.folder / "board.img", like=self.like)
        self._published = int(time.time())

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.board.stop()
        self.server.close()
        if error:
            print(self.board.console())  # pytest shows it

    # -- the owner's side

    def profile(self, modules: tuple[str, ...] | None = None, **ota: Any) -> Profile:
        """The boards' profile; a setting of None is left out."""
        settings: dict[str, Any] = {
            "url": self.server.url,
            "tmp_filename": ARCHIVE,
            "excluded_files": [],
            "delete": [],
            "check_interval_s": SELDOM_S,
            "confirm_timeout_s": 14,
            "keep_previous": False,
            "public_keys": [keys.jwk(self.key)] if self.key else None,
            **self.ota,
            **ota,
        }
        value = {
            "shortName": SHORT_NAME,
            "activeModules": list(modules or self.modules),
            "wifi": {"ssid": "sim-network", "password": "simulated"},
            **self.sections,
            "ota": {name: setting for name, setting in settings.items() if setting is not None},
        }
        return Profile(self.folder / "profile.json", json.dumps(value, indent=1).encode(), value)

    def release(
        self,
        version: str,
        changes: Changes | None = None,
        *,
        sequence: int | None = None,
        modules: tuple[str, ...] | None = None,
        notes: str = "",
        expires: int | None = None,
        **ota: Any,
    ) -> Release:
        """A signed release of the real sources with some `changes`."""
        profile = self.profile(modules, **ota)
        ours = tuple(name for name in profile.modules if name not in MODULES and (ROOT / "modules" / name).is_dir())
        files = changed(sources((*MODULES, *ours)), {"profile.json": profile.raw, "version": version.encode() + b"\n"})
        files = changed(files, changes or {})
        number = bundle.default_sequence(version) if sequence is None else sequence
        made = bundle.make(profile, files, bundle.Options(version, number, notes, expires=expires))
        if self.key:
            made = bundle.sign(made, self.key)
        return Release(version, number, files, made, bundle.pack(made))

    def offer(self, release: Release, channel: str = "stable", **options: Any) -> None:
        """Publish it with iotctl."""
        path = self.folder / f"{release.version}.tar.gz"
        path.write_bytes(release.archive)
        publish.publish(path, self.site, publish.Options(channel, force=True, **options), self.key)
        self._published = max(self._published, json.loads(self.channel_file(channel).read_bytes().splitlines()[0])["published"])

    def offer_raw(self, header: Mapping[str, Any], archive: bytes, **channel: Any) -> None:
        """Publish an archive that iotctl would refuse, announced by a channel file that is right but for `channel`."""
        value = self.announcement(header, archive, **channel)
        (self.site / SHORT_NAME / value["bundle"]["file"]).write_bytes(archive)
        self.put_channel(value)

    def announcement(self, header: Mapping[str, Any], archive: bytes, **changes: Any) -> dict[str, Any]:
        """The content of a channel file, with some changes; its counter goes on."""
        self._published += 1
        options = publish.Options()
        about = {"name": SHORT_NAME, "notes": "", **header}
        raw = publish.channel_bytes(about, archive, options, self._published, None, forge.head_of(archive))
        return {**json.loads(raw), **changes}

    def put_channel(self, value: Mapping[str, Any], key: keys.PrivateKey | None | str = "owner") -> None:
        """Write the channel file `stable`, signed by the owner, by `key`, or not at all (None)."""
        signer = self.key if isinstance(key, str) else key
        line = json.dumps(value).encode()
        signature = base64.b64encode(keys.sign(signer, line)) + b"\n" if signer else b""
        self.channel_file().write_bytes(line + b"\n" + signature)

    def channel_file(self, channel: str = "stable") -> Path:
        return self.site / SHORT_NAME / f"{channel}.json"

    # -- the board's side

    def flash(self, release: Release, more: Mapping[str, bytes] | None = None) -> None:
        """An empty chip, and this release on it, as `iotctl tree` and a flashing tool put it there."""
        self.board.format()
        self.board.write({**release.files, ".ota/release": release.bundle.listing, **(more or {})})

    def boot(self, wait_for: str = r"ota: up to date") -> None:
        """Power on, and wait until the board has nothing to do; one that need not ask the server yet is told to."""
        since = self.now()
        self.board.start()
        found = self.board.expect(rf"{wait_for}|ota: next check in", PATIENCE_S, since)
        if "next check" in found.string:
            since = self.type("ota check")
            self.board.expect(wait_for, PATIENCE_S, since)

    def settled(self, old: Release, new: Release) -> None:
        """A board that runs `old` and has nothing to do; its server offers `new`."""
        self.flash(old)
        self.offer(old)
        self.boot()
        self.offer(new)

    def now(self) -> int:
        """The number of the console's next line."""
        return len(self.board.lines)

    def type(self, command: str) -> int:
        """Type at the console; returns the number of its next line."""
        since = self.now()
        self.board.send(command)
        return since

    def lines_since(self, since: int) -> str:
        return "\n".join(self.board.lines[since:])

    def requested(self, path: str) -> list[serve.Request]:
        """The requests for a file of the board's folder, so far."""
        return [request for request in self.server.requests if request.path == f"/{SHORT_NAME}/{path}"]

    def downloads(self, path: str) -> int:
        """How often a bundle was fetched, or what a board needs of it: each time its head comes first."""
        return sum(request.headers.get("range", "bytes=0-").startswith("bytes=0-") for request in self.requested(path))

    def refused(self, reason: str, command: str = "ota check") -> str:
        """Have the board check; it must fail with a `reason` that matches. Returns the line that says so."""
        since = self.type(command)
        failed = self.board.expect(r"(check|update|install|rollback) failed: .* \((\w+)\)$", PATIENCE_S, since)
        self.board.expect(r"free disk \d+ bytes", PATIENCE_S, self.board.lines.index(failed.string, since))
        assert re.fullmatch(reason, failed.group(2)), failed.string
        return failed.string

    def update_to(self, release: Release, command: str = "ota check") -> int:
        """Have the board check, and wait until it has confirmed `release`. Returns the number of the console line before."""
        since = self.type(command)
        self.wait_confirmed(release, since)
        return since

    def start_and_update_to(self, release: Release) -> int:
        """Power the board up and have it check: one that was stopped after a check may have planned its next one in an hour."""
        since = self.now()
        self.board.start()
        self.board.expect("wifi: connected", PATIENCE_S, since)
        self.update_to(release)
        return since

    def wait_confirmed(self, release: Release, since: int) -> None:
        self.board.expect(rf"ota: confirmed: version {release.version} stays", PATIENCE_S, since)

    def wait_rolled_back(self, release: Release, reason: str, since: int) -> str:
        """Wait until the board has gone back from `release`. Returns the line that says so."""
        found = self.board.expect(rf"ota: rolled back from {release.version} to .*\((\w+)\)$", PATIENCE_S, since)
        assert found.group(1) == reason, found.string
        return found.string

    def peek(self) -> Tree:
        """What is on the flash now. The board may run, but should have nothing to do."""
        self.board.snapshot(self.folder / "peek.img")
        return Board(self.folder / "peek.img", like=self.board.port.name, fs=self.board.fs, size=self.board.size).read()

    def until(self, holds: Callable[[Tree], bool]) -> None:
        """Wait until the flash of the running board is so: what the console says comes before what the board remembers."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds(self.peek()):
            assert time.monotonic() < deadline, sorted(self.peek().files)
            time.sleep(0.1)

    def stop(self) -> Tree:
        """Power off; what is on the flash then."""
        self.board.stop()
        return self.board.read()

    def assert_runs(self, release: Release, more: Changes | None = None, previous: bool = False) -> Tree:
        """Power off. The flash must hold exactly `release` (and `more`), and nothing that an update left behind."""
        found = self.stop()
        assert_tree(found, release.with_files(more or {}), previous)
        assert found.files[".ota/release"] == release.bundle.listing
        return found


def assert_tree(found: Tree, wanted: Tree, previous: bool = False) -> None:
    """Exactly the files and folders of `wanted`; below .ota nothing but the state (and the kept version)."""
    live = found.without(".ota", "boot.keep", *USERS)
    different = {path for path in live.files | wanted.files if live.files.get(path) != wanted.files.get(path)}
    assert not different, f"these files differ: {sorted(different)}"
    assert live.folders == wanted.folders
    own = {path for path in found.files if path.startswith(".ota/") and path not in _STATE}
    kept = {path for path in own if previous and path.startswith(".ota/previous/")}
    assert own - kept == set(), "the update has left something behind"
    assert bool(kept) == previous
    below = {path for path in found.folders if path.startswith(".ota/")}
    assert {path for path in below if not (previous and path.startswith(".ota/previous"))} == set()


def assert_told(story: str, steps: Iterable[str]) -> None:
    """A line of the story matches each of the patterns, one after the other."""
    at = 0
    for step in steps:
        found = re.compile(step).search(story, at)
        assert found, f"{step} is missing, or comes too early:\n{story}"
        at = found.end()


def state_of(found: Tree) -> dict[str, Any]:
    """What OTA remembers: the newer slot's content."""
    slots = [found.files[path].split(b"\n") for path in _STATE[:2] if path in found.files]
    newest = max(slots, key=lambda slot: int(slot[1].split()[0]))
    value: dict[str, Any] = json.loads(newest[0])
    return value


def digest(data: bytes) -> bytes:
    """As a list has it."""
    return hashlib.sha256(data).digest()
