"""Putting a tree on a board over its serial port: what is written in which order, and the scripts that run there.

Everything that decides is pure (plan, check_fits, the scripts); mpremote's library carries it out. Before anything is written the
board says what it is. What starts the board is removed first and comes last, so a board whose cable was pulled half-way does not
start half of it. Afterwards the board itself hashes every file.

Files that the tree does not have stay: preferences, what the owner put there. With `recover` whatever an unfinished update
has left is removed first, and what the board remembers of updates (`/.ota/state.*`: the highest sequence) stays.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mpremote.transport import TransportError, TransportExecError
from mpremote.transport_serial import SerialTransport

from iotctl import boards, bundle, mpy, tree
from iotctl.errors import IotctlError
from iotctl.tree import STARTERS, Files

_SILENCE_S = 5.0  # that a read may take
_SCRIPT_S = 120  # between two characters that a script prints
_ATTEMPTS = 3  # to stop what runs
_STOP_S = 4.0  # each
_CHUNK = 512  # bytes of a file that go over at once
_OS_ERROR = re.compile(r"OSError: (?:\[Errno )?(\d+)")
_DISK = {errno.ENOSPC: "its disk is full", errno.EROFS: "its file system is read-only"}
_REMEMBERED = ("state.0", "state.1", "release")
_PROBE = """
import gc, json, os, sys
gc.collect()
disk = os.statvfs("/")
missing = []
for name in ("asyncio", "binascii", "deflate", "hashlib", "json"):
    try:
        __import__(name)
    except ImportError:
        missing.append(name)
print("PROBE", json.dumps({{
    "machine": getattr(sys.implementation, "_machine", sys.platform),
    "platform": sys.platform,
    "micropython": list(sys.implementation.version[:3]),
    "mpy": getattr(sys.implementation, "_mpy", 0) & 255,
    "chip": getattr(sys.implementation, "_mpy", 0) >> 10 & 15,
    "heap": gc.mem_free() + gc.mem_alloc(),
    "disk": disk[1] * disk[2],
    "missing": missing,
}}))
"""
_LEAST_HEAP = 100_000
_PREPARE = """
import os
def gone(path):
    try:
        folder = os.stat(path)[0] & 0x4000
    except OSError:
        return
    if folder:
        for name in os.listdir(path):
            gone(path + "/" + name)
        os.rmdir(path)
    else:
        os.remove(path)
for path in {starters}:
    gone(path)
for path in {twins}:
    gone(path)
for path in {folders}:
    try:
        os.mkdir(path)
    except OSError as error:
        if error.errno != 17:
            raise
if {recover}:
    for name in os.listdir("/.ota"):
        if name not in {remembered}:
            gone("/.ota/" + name)
print("READY")
"""
_CHECK = """
import binascii, hashlib, json
bad = []
for path, wanted in {digests}:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as f:
            data = f.read(512)
            while data:
                digest.update(data)
                data = f.read(512)
    except OSError:
        digest = None
    if not digest or binascii.hexlify(digest.digest()).decode()[:16] != wanted:
        bad.append(path)
print("WRONG", json.dumps(bad))
"""
_PREFS = """
from iot_platform.slots import Slots
prefs = Slots(("/prefs.json", "/prefs.json.1"))
for key, value in {values}.items():
    prefs.set(key, value)
prefs.save()
"""


@dataclass(frozen=True)
class Plan:
    """Paths in the order in which they are written, and the folders that they need, parents first."""

    paths: tuple[str, ...]
    folders: tuple[str, ...]
    recover: bool


def plan(files: Files, recover: bool = False) -> Plan:
    """How these files get onto a board: `.ota/release` and what starts the board last, boot.py before main.py."""
    last = (bundle.LIST, "ota_boot.py", "boot.py", "main.py")
    assert set(STARTERS) <= set(last)
    paths = [*sorted(path for path in files if path not in last), *(path for path in last if path in files)]
    folders = tree.folders(files) | {".ota"}
    return Plan(tuple(paths), tuple(sorted(folders)), recover)


@dataclass(frozen=True)
class Connected:
    """What is at the port. `heap` and `disk` in bytes."""

    machine: str
    micropython: tuple[int, ...]
    mpy: int
    heap: int
    disk: int
    missing: tuple[str, ...] = ()
    platform: str = ""
    chip: int = 0  # whose native code it runs: see mpy.chips

    def __str__(self) -> str:
        version = ".".join(map(str, self.micropython))
        return f"{self.machine}, MicroPython {version}, {self.heap // 1024} KB of heap, {self.disk // 1024} KB of disk"


def ports() -> dict[str, str]:
    """The serial ports of USB devices, and what each says it is."""
    from serial.tools import list_ports

    return {port.device: port.description for port in list_ports.comports() if port.vid is not None}


def choose(port: str | None) -> str:
    """The port that was named, or the only one there is. IotctlError that lists them otherwise."""
    found = ports()
    if port or len(found) == 1:
        return port or next(iter(found))
    there = "".join(f"\n  {device}  {what}" for device, what in found.items())
    raise IotctlError(f"several boards are connected, name one:{there}" if found else "no board is connected over USB")


def probe_script() -> str:
    """Runs on the board before anything is written: prints what it is."""
    return _PROBE.format()


def connected(said: str) -> Connected:
    """What the probe has printed. IotctlError when that is nothing of MicroPython's."""
    for line in said.splitlines():
        if line.startswith("PROBE "):
            value: dict[str, Any] = json.loads(line.removeprefix("PROBE "))
            return Connected(**{**value, "micropython": tuple(value["micropython"]), "missing": tuple(value["missing"])})
    raise IotctlError("what is at the port does not run MicroPython")


def check_fits(board: Connected, files: Files, kind: str | None = None) -> None:
    """IotctlError for a board that could not run this tree, or is none of the `kind` that it is for."""
    if kind and boards.find(kind).platform != board.platform:
        raise IotctlError(f"this board has {board}: the profile is for {kind}")
    chips = mpy.chips(files)
    needed = mpy.MICROPYTHON_NATIVE if chips else mpy.MICROPYTHON
    if board.micropython < tuple(map(int, needed.split("."))):
        raise IotctlError(f"this board has {board}: MicroPython {needed} or newer is needed")
    if not chips <= {board.chip}:
        raise IotctlError(f"this board has {board}: another chip than native code was made for; change board in the profile")
    if board.missing:
        raise IotctlError(f"this board has {board}, without {', '.join(board.missing)}: put a full build of MicroPython on it")
    if board.mpy != mpy.VERSION and any(path.endswith(".mpy") for path in files):
        raise IotctlError(f"this board has {board}, which loads .mpy files of version {board.mpy}, not {mpy.VERSION}: give --py")
    if board.heap < _LEAST_HEAP:
        raise IotctlError(f"this board has {board}: {_LEAST_HEAP // 1000} KB of heap are the least")
    needs = boards.tree_blocks(files) * 4
    if needs * 1024 > board.disk:
        raise IotctlError(f"this board has {board}: the tree takes {needs} KB")


def prepare_script(made: Plan) -> str:
    """Runs on the board first: makes the folders; removes what would be imported in place of a file of the tree, and what starts
    a board: half a tree must not run.
    """
    stems = {path.rpartition(".")[0] for path in made.paths if path.endswith((".mpy", ".py"))}
    twins = {f"/{stem}{other}" for stem in stems for other in (".py", ".mpy")} - {f"/{path}" for path in made.paths}
    twins |= {f"/{stem}" for stem in stems if stem not in made.folders}
    return _PREPARE.format(
        starters=[f"/{path}" for path in ("main.py", "boot.py") if path in made.paths],
        twins=sorted(twins),
        folders=[f"/{folder}" for folder in made.folders],
        recover=made.recover,
        remembered=_REMEMBERED,
    )


def check_script(files: Files) -> str:
    """Runs on the board first and last: prints WRONG, and the paths whose content is not what it should be."""
    return _CHECK.format(digests=[("/" + path, hashlib.sha256(data).hexdigest()[:16]) for path, data in sorted(files.items())])


def prefs_script(values: dict[str, object]) -> str:
    """Runs on the board when its files are there: these preferences, beside those that it has."""
    return _PREFS.format(values=values)


def flash(
    files: Files,
    port: str | None,
    recover: bool,
    prefs: dict[str, object] | None = None,
    kind: str | None = None,
    told: Callable[[str], None] = print,
    seen: Callable[[int, str], None] = lambda size, path: None,
) -> Plan:
    """Write `files` to the board at `port` (None: the only one), set `prefs`, check the files there, and restart it.

    What is there already, and right, is not written again: after a broken connection it goes on. IotctlError when there is no
    board or it cannot run the tree, when the connection breaks, or when a file does not read back as it was written.

    :param told: what is connected, before anything is written.
    :param seen: called with the bytes and the path of each file that is there.
    """
    made = plan(files, recover)
    port = choose(port)
    with opened(port) as link:
        board = connected(_run(link, probe_script()))
        told(f"{port}: {board}")
        check_fits(board, files, kind)
        _run(link, prepare_script(made))
        wrong = wrong_files(_run(link, check_script(files)))
        size = sum(len(files[path]) for path in wrong)
        told(f"writing {len(wrong)} of {len(files)} files, {size} bytes; preferences: {', '.join(prefs or ['as they are'])}")
        for path in made.paths:
            if path in wrong:
                link.fs_writefile(f"/{path}", files[path], _CHUNK)
            seen(len(files[path]), path)
        if prefs:
            _run(link, prefs_script(prefs))
        wrong = wrong_files(_run(link, check_script(files)))
        if wrong:
            raise IotctlError(f"not all files read back as they were written: {', '.join(wrong)}")
        link.exec_raw_no_follow("import machine\nmachine.reset()")
    return made


@contextmanager
def opened(port: str) -> Iterator[SerialTransport]:
    """The board at a port, stopped, at its raw REPL. What goes wrong on the line is an IotctlError.

    It is not restarted: what starts then would go on under its watchdog, which nobody feeds at the REPL.
    """
    noise = io.StringIO()  # the library prints what it does not understand
    try:
        with contextlib.redirect_stdout(noise):
            link = SerialTransport(port, timeout=_SILENCE_S)
    except TransportError:
        raise IotctlError(f"{port} cannot be opened: is a board there, and no other program at it?") from None
    try:
        with contextlib.redirect_stdout(noise):
            _stop(link)
        yield link
    except TransportExecError as error:
        last = error.error_output.strip().splitlines()[-1]
        number = _OS_ERROR.search(last)
        why = _DISK.get(int(number[1])) if number else None
        raise IotctlError(f"{port}: {why or f'the board says: {last}'}") from error
    except (TransportError, OSError) as error:
        why = _DISK.get(getattr(error, "errno", None) or 0)
        raise IotctlError(f"{port}: {why or f'the connection broke ({error}): run it again, it goes on where it was'}") from error
    finally:
        with contextlib.suppress(OSError):
            link.close()


def _stop(link: SerialTransport) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            link.enter_raw_repl(soft_reset=False, timeout_overall=_STOP_S)
            return
        except TransportError:
            if attempt + 1 == _ATTEMPTS:
                raise IotctlError(f"what is at {link.device_name} does not run MicroPython, or does not stop") from None


def _run(link: SerialTransport, script: str) -> str:
    """What a script prints on the board."""
    said, error = link.exec_raw(script, _SCRIPT_S)
    if error:
        raise TransportExecError(said, error.decode(errors="replace"))
    return str(said.decode(errors="replace"))


def wrong_files(said: str) -> list[str]:
    """What the check printed on the board: the paths that are not as they should be. IotctlError when that was nothing."""
    for line in said.splitlines():
        if line.startswith("WRONG "):
            return [path.lstrip("/") for path in json.loads(line.removeprefix("WRONG "))]
    raise IotctlError(f"the board did not answer: {said[-200:]}")


def as_json(made: Plan, files: Files) -> dict[str, object]:
    """For programs: what was, or would be, written."""
    return {"files": list(made.paths), "bytes": sum(map(len, files.values())), "recover": made.recover}
