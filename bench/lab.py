"""A board, its server behind a link, and an owner with a key: what every measurement starts from.

with Lab(folder, modules=("serial_log", "wifi", "ota")) as lab:
    old, new = lab.release("1.0.0", files), lab.release("1.1.0", files)
    lab.settled(old, new, beside=lab.platform())
    update = lab.update("ota check", new)
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import shutil
import tarfile
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from bench import reference
from bench.link import Connection, Link, Weather
from iotctl import ROOT, bundle, keys, mpy, publish, serve, tree
from iotctl.profile import Profile
from iotctl.tree import Files
from sim.board import Board, BoardError, Counters
from tests.support.broker import Broker
from tests.support.ports import free_port

NAME = "bench"
BALLAST = "ballast"  # a module that is generated
_BALLAST_BYTES = 12 * 1024
DEVICE = Path(__file__).resolve().parent / "device"
PATIENCE_S = 400
_ORDER = ("serial_log", "wifi", "ota", "web", "mqtt")
# What makes each file of the platform another one: a line that a compiler does not leave out, but for .py that stay sources
_EDITION = {
    ".py": "\nEDITION = '%s'\n",
    ".html": "<!-- %s -->\n",
    ".css": "/* %s */\n",
    ".js": "// %s\n",
    "discovery.txt": 'sensor/edition {"unique_id": "%%(id)s-edition", "name": "%s", "state_topic": "%%(base)s/status/version"}\n',
}
_BROKEN = r"MemoryError|memory allocation failed|\(no_memory\)|is switched off|board is dead|^Traceback|^boot: "


class Failed(Exception):
    """The board did not do it; the message is the line that says so, or the end of its console."""


@cache
def owner() -> keys.PrivateKey:
    """The key that the boards pin."""
    return keys.generate()


def all_modules() -> tuple[str, ...]:
    """The modules of this checkout, in the order in which a profile would name them."""
    there = {path.parent.name for path in (ROOT / "modules").glob("*/__init__.py")}
    return tuple(name for name in _ORDER if name in there) + tuple(sorted(there - set(_ORDER)))


@dataclass(frozen=True)
class Release:
    """A version: its files, and the bundle that brings them."""

    version: str
    files: Files
    bundle: bundle.Bundle
    archive: bytes


@dataclass(frozen=True)
class Gaps:
    """Between two ticks of another module while the update ran, in milliseconds; and how long that was, in the same time."""

    n: int
    p99: int
    longest: int
    where: str
    took: int


@dataclass(frozen=True)
class Update:
    """What one update took, from the command to its end. What went over the wire, up to the commit; the flash, of all lives.

    `flash` is what the board's lives from the command on did to it: the first has the old version's boot in it, the last the
    new version's.
    """

    wire_in: int
    wire_out: int
    connections: int
    requests: int
    trial_in: int
    ms: float
    commit_to_tick_ms: float
    flash: tuple[Counters, ...]
    lowest: int | None
    gaps: Gaps | None

    @property
    def programmed(self) -> int:
        return sum(life.programmed for life in self.flash)

    @property
    def erases(self) -> int:
        return sum(life.erases for life in self.flash)

    @property
    def update_boots(self) -> int:
        """Boots beside the one that a commit needs."""
        return len(self.flash) - 2


class TimedBoard(Board):
    """A board that notes when each line of its console came, and what each of its lives did to the flash."""

    times: list[float]
    lives: list[Counters]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.times, self.lives = [], []

    def when(self, pattern: str, timeout: float = PATIENCE_S, since: int = 0) -> tuple[int, float, re.Match[str]]:
        """Wait for a line: its number, when it came, and what matched."""
        found = self.expect(pattern, timeout, since)
        n = self.lines.index(found.string, since)
        return n, self.times[n], found

    def wait_for_life(self, number: int, timeout: float = PATIENCE_S) -> None:
        """Until life `number` (from 0) has begun: the counters of those before it are complete."""
        deadline = time.monotonic() + timeout
        while len(self.lives) <= number:
            if time.monotonic() > deadline:
                raise BoardError("the board did not restart")
            time.sleep(0.01)

    def _add_line(self, line: str) -> None:
        self.times.append(time.monotonic())
        super()._add_line(line)

    def _spawn(self, cause: str, cut: Any, extra: Any) -> Any:
        if "SIMULATOR_TOOL" not in extra:
            self.lives.append(self.counters())
        return super()._spawn(cause, cut, extra)


class Lab:
    """See the module. `heap` as for micropython's -X heapsize; `size` of the flash in bytes."""

    def __init__(
        self,
        folder: Path,
        *,
        modules: tuple[str, ...],
        heap: str | None = "128k",
        size: int | None = None,
        like: str = "unix",
        weather: Weather | None = None,
        key: bool = True,
        sections: dict[str, Any] | None = None,
        confirm_s: int = 20,
        interpreter: Path | None = None,
    ) -> None:
        self.folder = folder
        self.sections = sections or {}  # more of the profile
        self.modules = modules
        self.confirm_s = confirm_s  # that a new version has to prove itself
        self.key = owner() if key else None
        self.site = folder / "site"
        (self.site / NAME).mkdir(parents=True)
        self.server = serve.Server(self.site)
        self.link = Link(self.server.port, weather)
        image = folder / "board.img"
        self.board = TimedBoard(image, like=like, heap=heap, size=size, device_id="bench-0001", interpreter=interpreter)
        self.board.env["SIMULATOR_WEB_PORT"] = str(free_port())
        self.broker: Broker | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Lab:
        self._stack.enter_context(self.server)
        self._stack.enter_context(self.link)
        if "mqtt" in self.modules:
            self.broker = self._stack.enter_context(Broker(self.folder / "broker"))
        self._stack.callback(self.board.stop)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    # -- the owner's side

    def profile(self) -> Profile:
        """The profile of the boards here, with the owner's key pinned if there is one."""
        pinned = {"public_keys": [keys.jwk(self.key)]} if self.key else {}
        value: dict[str, Any] = {
            "shortName": NAME,
            "activeModules": list(self.modules),
            "wifi": {"ssid": "sim-network", "password": "simulated"},
            "ota": {
                "url": self.link.url,
                "tmp_filename": "new_firmware.tar.gz",
                "excluded_files": [],
                "delete": [],
                "check_interval_s": 86400,
                "confirm_timeout_s": self.confirm_s,
                **pinned,
            },
        }
        if "overwrite" in self.modules:
            value["watchdog_s"] = 0  # the other platform has none, and at 4 KB/s its download keeps the loop for longer
        value.update(self.sections)
        if self.broker:
            value["mqtt"] = {"host": "127.0.0.1", "port": self.broker.port, **self.sections.get("mqtt", {})}
        return Profile(self.folder / "profile.json", json.dumps(value, indent=1).encode(), value)

    def platform(self, *without: str, edition: str = "") -> Files:
        """This checkout's tree with the modules of this lab, the bench's own among them, but for some modules.

        :param edition: with another one every file of it is another.
        """
        return platform_files(tuple(name for name in self.modules if name not in without), edition)

    def release(self, version: str, files: Files) -> Release:
        """A release of some files, and of profile.json and version; signed if there is a key."""
        profile = self.profile()
        whole = {**files, "profile.json": profile.raw, "version": version.encode() + b"\n"}
        made = bundle.make(profile, whole, bundle.Options(version, bundle.default_sequence(version)))
        if self.key:
            made = bundle.sign(made, self.key)
        return Release(version, whole, made, bundle.pack(made))

    def offer(self, release: Release) -> None:
        """Publish it with iotctl."""
        path = self.folder / f"{release.version}.tar.gz"
        path.write_bytes(release.archive)
        publish.publish(path, self.site, publish.Options(), self.key)

    def offer_latest(self, release: Release) -> None:
        """Publish it as public-micropython-iot-platform does: one line, and a tar.gz as the usual tools make it."""
        archive = usual_archive(release.files)
        name = f"firmware-{release.version}.tar.gz"
        (self.site / NAME / name).write_bytes(archive)
        needed_kb = -(-(len(archive) + sum(map(len, release.files.values()))) // 1024)
        digest = hashlib.sha256(archive).hexdigest()
        (self.site / NAME / "latest").write_text(f"{release.version};{name};{needed_kb};{len(archive)};{digest};\n")

    # -- the board's side

    def flash(self, release: Release, beside: Files | None = None) -> None:
        """An empty chip with this release, and with files that no release brings."""
        self.board.format()
        self.board.write({**(beside or {}), **release.bundle.flashed})

    def settled(self, old: Release, new: Release, beside: Files | None = None) -> None:
        """A board that runs `old` and has nothing to do; its server offers `new`. `beside`: see flash()."""
        self.flash(old, beside)
        self.offer(old)
        self.power_on()
        self.offer(new)

    def power_on(self) -> None:
        """Boot, wait for the first check, and boot again: from then on the state on flash is settled."""
        since = self.line()
        self.board.start()
        self._expect(r"ota: up to date" if "ota" in self.modules else r"wifi: connected", since)
        self.restart()

    def restart(self) -> Counters:
        """Restart by the console, and wait until nothing runs any more. Returns what the life did that ended so."""
        lives = len(self.board.lives)
        since = self.line()
        self.board.send("reset")
        self.board.wait_for_life(lives)
        self._expect(r"wifi: connected", since)
        if "ota" in self.modules:
            self.wait_idle()
        return self.board.lives[lives]

    def wait_idle(self) -> None:
        """Until OTA has no job."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            since = self.line()
            self.board.send("ota status")
            if "'job': None" in self._expect(r"ota status: ", since)[2].string:
                return
            time.sleep(0.2)
        raise Failed("OTA is never idle")

    def line(self) -> int:
        """The number of the console's next line."""
        return len(self.board.lines)

    def update(self, command: str, release: Release, committed: str = r"ota: committed", end: str = "") -> Update:
        """Have the board update itself to `release`, and sum up what that took. Failed when it does not.

        :param committed: the console's line from which on the new version counts.
        :param end: the line that ends it: by default, the confirmation.
        """
        lives, since, began = len(self.board.lives), self.line(), time.monotonic()
        self.board.send(command)
        at, commit, _found = self._expect(committed, since)
        self.board.wait_for_life(lives)
        first = rf"ticker: first tick of {re.escape(release.version)}$" if "ticker" in self.modules else r"running: "
        _n, tick, _found = self._expect(first, at)
        _n, ended, _found = self._expect(end or rf"ota: confirmed: version {re.escape(release.version)} stays", at)
        over = len(self.board.lives)
        self.board.send("reset")
        self.board.wait_for_life(over)
        used = [c for c in self.link.connections if c.began >= began]
        story = self.board.lines[since:]
        return Update(
            *_traffic([c for c in used if c.began < commit]),
            trial_in=_traffic([c for c in used if commit <= c.began < ended])[0],
            ms=(commit - began) * 1000,
            commit_to_tick_ms=(tick - commit) * 1000,
            flash=tuple(self.board.lives[lives : over + 1]),
            lowest=_number(r"lowest free memory of this update: (\d+)", story),
            gaps=next(iter(gaps_of(story)), None),
        )

    # -- inside

    def _expect(self, pattern: str, since: int) -> tuple[int, float, re.Match[str]]:
        """Wait for a line, but no longer than until one says that it cannot come any more."""
        try:
            found = self.board.when(f"{pattern}|ota: .* failed: |overwrite: failed|{_BROKEN}", PATIENCE_S, since)
        except BoardError as error:
            raise Failed(str(error)) from None
        if not re.search(pattern, found[2].string):
            raise Failed(found[2].string)
        return found


@cache
def platform_files(modules: tuple[str, ...], edition: str = "") -> Files:
    """The tree of this checkout with some modules, compiled, but without profile and version; see Lab.platform."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        source = _checkout(Path(folder), modules, edition) if edition or _own(modules) else ROOT
        value = {"shortName": NAME, "activeModules": list(modules)}
        files = tree.collect(Profile(source / "profile.json", json.dumps(value).encode(), value), "1.0.0")
        if "ota" not in modules:  # the comparison needs a tar reader, too
            files["lib/tarfile.mpy"] = mpy.compile_source((source / "lib" / "tarfile.py").read_bytes(), "lib/tarfile.py")
    return {path: data for path, data in files.items() if path not in ("profile.json", "version")}


def pinned(files: Files) -> Files:
    """Without the old protocol, which no board with a key speaks: iotctl leaves it out of such a tree."""
    return {path: data for path, data in files.items() if not path.startswith(("modules/ota/legacy/", "lib/tarfile"))}


def _own(modules: tuple[str, ...]) -> list[str]:
    """Those that are the bench's own."""
    return [name for name in modules if name == BALLAST or (DEVICE / name).is_dir()]


def _checkout(folder: Path, modules: tuple[str, ...], edition: str) -> Path:
    """This checkout's device code with the bench's modules in it; with an edition, each file has a line more that says so."""
    leave_out = shutil.ignore_patterns("__pycache__")
    for name in ("platform", "modules", "lib", ".packages"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave_out)
    for name in _own(modules):
        if name == BALLAST:
            (folder / "modules" / name).mkdir()
            (folder / "modules" / name / "__init__.py").write_bytes(ballast())
        else:
            shutil.copytree(DEVICE / name, folder / "modules" / name, ignore=leave_out)
    for path in folder.rglob("*.*") if edition else ():
        words = _EDITION.get(path.name) or _EDITION.get(path.suffix)
        if words:
            path.write_bytes(path.read_bytes() + (words % edition).encode())
    return folder


@cache
def ballast() -> bytes:
    """A module of 12 KB, compiled, whatever a user may need so much for."""
    source, methods = b"", 0
    while len(mpy.compile_source(source, f"modules/{BALLAST}/__init__.py")) < _BALLAST_BYTES:
        methods += 4
        source = reference.module(BALLAST, methods)
    return source


def usual_archive(files: Files) -> bytes:
    """A tar.gz as the usual tools make it: one gzip stream, folders among the members."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=9, format=tarfile.USTAR_FORMAT) as archive:
        for folder in sorted(tree.folders(files)):
            member = tarfile.TarInfo(folder)
            member.type = tarfile.DIRTYPE
            archive.addfile(member)
        for path, data in sorted(files.items()):
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _traffic(connections: list[Connection]) -> tuple[int, int, int, int]:
    """Bytes in, bytes out, how many connections, how many requests."""
    requests = sum(len(c.requests) for c in connections)
    return sum(c.wire_in for c in connections), sum(c.wire_out for c in connections), len(connections), requests


def _number(pattern: str, lines: list[str]) -> int | None:
    found = [match for line in lines if (match := re.search(pattern, line))]
    return int(found[-1].group(1)) if found else None


def gaps_of(lines: list[str]) -> list[Gaps]:
    """What the ticker said each time when it was stopped: first that of the old version."""
    pattern = r"ticker: gaps (\d+), p99 (\d+) ms, longest (\d+) ms in (\w*), took (\d+) ms"
    found = [match for line in lines if (match := re.search(pattern, line))]
    return [Gaps(int(match[1]), int(match[2]), int(match[3]), match[4], int(match[5])) for match in found]
