"""The simulated board's heap is the board's: what its drivers take, which are C on a chip, is added, and not a byte more."""

from __future__ import annotations

import subprocess
from pathlib import Path

from sim import micropython
from sim.board import Board

_FREE = "import gc\ngc.collect()\nprint('FREE', gc.mem_free())\n"
_NAMES = """
class Names:
    pass
for n in range(1_150):
    setattr(Names, "a_name_" + str(n), n)
    delattr(Names, "a_name_" + str(n))
"""


def _free(output: str) -> int:
    return next(int(line.split()[1]) for line in output.splitlines() if line.startswith("FREE "))


def _both(tmp_path: Path, script: str) -> tuple[int, int]:
    """Bytes that are free after a script: in plain MicroPython, and on a simulated board."""
    command = [str(micropython.find()), "-X", "heapsize=128k", "-c", script]
    plain = _free(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    board = Board(tmp_path / "board.img", heap="128k")
    board.format()
    board.write({"boot.py": b"", "main.py": script.encode()})
    simulated = _free(board.boot_once(timeout=20).output)
    print(f"free: plain {plain}, simulated {simulated}")
    return plain, simulated


def test_a_board_has_as_much_heap_as_plain_micropython(tmp_path: Path) -> None:
    plain, simulated = _both(tmp_path, _FREE)
    assert plain - 2048 < simulated <= plain


def test_the_names_of_the_simulators_drivers_take_no_room_from_a_boards(tmp_path: Path) -> None:
    """With them among its own a board's 1,150 names would need one table more: of 9 KB."""
    plain, simulated = _both(tmp_path, _NAMES + _FREE)
    assert plain - 2048 < simulated <= plain
