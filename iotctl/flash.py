"""Putting a tree on a board over its serial port: what is written in which order, and the two scripts that run there.

Everything that decides is pure (plan, prepare_script, check_script); mpremote carries it out. What starts the board comes last,
so a board whose cable was pulled half-way does not start half of it. Afterwards the board itself hashes every file.

Files that the tree does not have stay: preferences, what the owner put there. With `recover` whatever an unfinished update
has left is removed first, and what the board remembers of updates (`/.ota/state.*`: the highest sequence) stays.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from iotctl.errors import IotctlError
from iotctl.tree import STARTERS, Files

_TIMEOUT_S = 900
_REMEMBERED = ("state.0", "state.1", "release")
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
import binascii, hashlib
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
        pass
    if binascii.hexlify(digest.digest()).decode()[:16] != wanted:
        bad.append(path)
print("BAD", bad) if bad else print("GOOD")
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
    last = (".ota/release", "ota_boot.py", "boot.py", "main.py")
    assert set(STARTERS) <= set(last)
    paths = [*sorted(path for path in files if path not in last), *(path for path in last if path in files)]
    folders = {path[:at] for path in files for at, char in enumerate(path) if char == "/"} | {".ota"}
    return Plan(tuple(paths), tuple(sorted(folders)), recover)


def prepare_script(made: Plan) -> str:
    """Runs on the board first: makes the folders; removes what would be imported in place of a file of the tree."""
    stems = {path.rpartition(".")[0] for path in made.paths if path.endswith((".mpy", ".py"))}
    twins = {f"/{stem}{other}" for stem in stems for other in (".py", ".mpy")} - {f"/{path}" for path in made.paths}
    twins |= {f"/{stem}" for stem in stems if stem not in made.folders}
    return _PREPARE.format(
        twins=sorted(twins), folders=[f"/{folder}" for folder in made.folders], recover=made.recover, remembered=_REMEMBERED
    )


def check_script(files: Files) -> str:
    """Runs on the board last: prints GOOD, or BAD and the paths whose content is not what it should be."""
    return _CHECK.format(digests=[("/" + path, hashlib.sha256(data).hexdigest()[:16]) for path, data in sorted(files.items())])


def prefs_script(values: dict[str, object]) -> str:
    """Runs on the board when its files are there: these preferences, beside those that it has."""
    return _PREFS.format(values=values)


def commands(made: Plan, folder: Path, port: str | None, prepare: Path, last: Sequence[Path]) -> list[str]:
    """mpremote's arguments for all of it, in one session; `folder` holds the files, `last` are the scripts after them."""
    words = ["connect", port] if port else []
    words += ["run", str(prepare)]
    for path in made.paths:
        words += ["+", "fs", "cp", str(folder / path), f":/{path}"]
    return words + [word for script in last for word in ("+", "run", str(script))]


def flash(files: Files, port: str | None, recover: bool, prefs: dict[str, object] | None = None) -> Plan:
    """Write `files` to the board at `port` (None: the first that mpremote finds), set `prefs`, check the files, restart it.

    IotctlError when there is no board, when the connection breaks, or when a file does not read back as it was written.
    """
    made = plan(files, recover)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, data in files.items():
            (folder / "tree" / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "tree" / path).write_bytes(data)
        prepare, check = folder / "prepare.py", folder / "check.py"
        prepare.write_text(prepare_script(made))
        check.write_text(check_script(files))
        last = [check]
        if prefs:
            last = [folder / "prefs.py", check]
            last[0].write_text(prefs_script(prefs))
        said = _mpremote(commands(made, folder / "tree", port, prepare, last))
    judge(said)
    _mpremote([*(["connect", port] if port else []), "reset"])
    return made


def judge(said: str) -> None:
    """What the check printed on the board: IotctlError unless every file was as it should be."""
    last = said.split()
    if "GOOD" not in last:
        raise IotctlError(f"not all files read back as they were written: {said.partition('BAD')[2].strip() or said[-200:]}")


def _mpremote(words: list[str]) -> str:
    command = [sys.executable, "-m", "mpremote", *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise IotctlError(f"the board did not answer within {_TIMEOUT_S} s") from None
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise IotctlError(lines[-1].strip() if lines else "mpremote failed without a word")
    return done.stdout


def as_json(made: Plan, files: Files) -> dict[str, object]:
    """For programs: what was, or would be, written."""
    return {"files": list(made.paths), "bytes": sum(map(len, files.values())), "recover": made.recover}
