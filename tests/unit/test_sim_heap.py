"""The simulated board's heap is the board's: what its drivers take, which are C on a chip, is added, and not a byte more."""

from __future__ import annotations

import subprocess
from pathlib import Path

from sim import micropython
from sim.board import Board

_FREE = "import gc\ngc.collect()\nprint('FREE', gc.mem_free())\n"


def _free(output: str) -> int:
    return next(int(line.split()[1]) for line in output.splitlines() if line.startswith("FREE "))


def test_a_board_has_as_much_heap_as_plain_micropython(tmp_path: Path) -> None:
    command = [str(micropython.find()), "-X", "heapsize=128k", "-c", _FREE]
    plain = _free(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    board = Board(tmp_path / "board.img", heap="128k")
    board.format()
    board.write({"boot.py": b"", "main.py": _FREE.encode()})
    simulated = _free(board.boot_once(timeout=20).output)
    print(f"free before boot.py: plain {plain}, simulated {simulated}")
    assert plain - 2048 < simulated <= plain
