"""What an update takes a Pico W, in its own time: see sim/device/board_time.py.

One file of ten of the platform's tree is another one. The model's measure is an emulator of the chip with MicroPython's rp2
port: it took 7.7 s to check the archive of commit 760d02a and 6.2 s to compare its tree; the model says 7.2 and 6.7.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.counting import counted
from bench.lab import Failed, Gaps, Lab, pinned

_TREE = ("serial_log", "wifi", "ota", "web", "ticker")
_RUN = ("serial_log", "wifi", "ota", "ticker")


@dataclass(frozen=True)
class Run:
    """`install_s`: from the command to the commit; `gaps`: between two ticks of another module meanwhile."""

    install_s: float
    gaps: Gaps
    files: int
    bytes: int


def run(every: int = 10, verbose: bool = False) -> Run:
    """One update, in which one file of so many changes."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        interpreter, environment = counted(Path(name))
        with Lab(Path(name), modules=_TREE, like="pico-w", heap=None, size=None, confirm_s=40, interpreter=interpreter) as lab:
            lab.board.env |= environment
            return _measured(lab, every, verbose)


def _measured(lab: Lab, every: int, verbose: bool) -> Run:
    lab.sections["activeModules"] = list(_RUN)
    if verbose:
        lab.board.on_line = print
    files, other = (pinned(lab.platform(edition=edition)) for edition in ("", "b"))
    changed = {path: (other if n % every == 0 else files)[path] for n, path in enumerate(sorted(files))}
    old, new = lab.release("1.0.0", files), lab.release("1.1.0", changed)
    lab.settled(old, new)
    update = lab.update("ota check", new)
    if not update.gaps or update.update_boots:
        raise Failed(f"there were {update.update_boots} update boots")
    return Run(update.gaps.took / 1000, update.gaps, len(new.files), sum(map(len, new.files.values())))
