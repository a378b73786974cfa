"""MicroPython in an emulator that counts its instructions: the same work gives the same number, whatever else this computer does.

interpreter, environment = counted(folder)   # for a Board, which then knows how much it has computed
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from bench.lab import Failed
from sim import micropython

_PLUGIN = Path(__file__).with_name("counting.c")
_LOADER = Path("usr/lib/i386-linux-gnu/ld-linux.so.2")


def counted(folder: Path) -> tuple[Path, dict[str, str]]:
    """A board's interpreter, which runs in qemu, and what its environment needs so that it reads the count."""
    here, count, plugin = micropython.find().parent, folder / "instructions", folder / "counting.so"
    qemu, cc = shutil.which("qemu-i386"), shutil.which("cc")
    if not (qemu and cc and (here / _LOADER).exists()):
        raise Failed("counting instructions needs qemu-user, a C compiler, and the MicroPython that `make setup` unpacks")
    subprocess.run([cc, "-shared", "-fPIC", "-O2", "-o", plugin, _PLUGIN], check=True)
    count.write_bytes(bytes(8))
    libraries = f"{here}/usr/lib:{here}/usr/lib/i386-linux-gnu"
    emulated = f"'{here / _LOADER}' --library-path '{libraries}' '{here}/usr/bin/micropython'"
    script = folder / "micropython"
    script.write_text(f"#!/bin/sh\nexec '{qemu}' -plugin '{plugin},count={count}' {emulated} \"$@\"\n")
    script.chmod(0o755)
    tried = subprocess.run([script, "-c", "print(1)"], capture_output=True, text=True)
    if tried.returncode:
        raise Failed(f"this qemu cannot count instructions (7 and 8 can): {tried.stderr.strip()}")
    return script, {"SIMULATOR_BOARD_TIME": str(count)}
