"""The names of an update boot fit into the tables that a board has at rest: the next one takes 9 KB, in the middle of an update.

MicroPython keeps each name that code brings for ever, in tables each of which holds twice as many as the one before.
"""

from __future__ import annotations

import re
from pathlib import Path

from bench.lab import platform_files
from sim.board import Board

_TABLES = sum(20 << n for n in range(6))  # 1,260 names; the next table would hold 1,280
_OTHERS = 100  # of a profile, of a release's own, of what MQTT's broker and the network's servers say
_FIRST = b"import micropython\nmicropython.qstr_info()\nimport ota_boot\n"
_SCRIPT = """
import gc, micropython, sys
for name in {names!r}:
    __import__(name, None, None, ("x",))
    if name.startswith("modules.ota."):
        sys.modules.pop(name)
    gc.collect()
micropython.qstr_info()
"""
_UPDATE_BOOT = ("serial_log", "wifi", "ota", "mqtt")


def test_the_names_of_an_update_boot_need_no_table_of_nine_kilobytes(tmp_path: Path) -> None:
    files = platform_files(_UPDATE_BOOT)
    paths = [path[:-4].replace("/", ".").removesuffix(".__init__") for path in sorted(files) if path.endswith(".mpy")]
    names = [name for name in paths if name.startswith(("iot_platform.", "modules.")) and ".legacy." not in name]
    assert len(names) > 45
    board = Board(tmp_path / "board.img", heap="512k")
    board.format()
    script = _SCRIPT.format(names=["asyncio", *names]).encode()
    board.write({**files, "boot.py": _FIRST, "main.py": script})
    output = board.boot_once(timeout=60).output
    before, after = (int(n) for n in re.findall(r"n_qstr=(\d+)", output))
    print(f"names: {after - before} of {_TABLES}")
    assert after - before <= _TABLES - _OTHERS, output[-500:]
