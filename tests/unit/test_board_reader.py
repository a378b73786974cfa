"""The board's reader and `iotctl verify` say the same to every bundle, in the same word."""

from __future__ import annotations

import subprocess
from pathlib import Path

from iotctl import ROOT, bundle
from sim import micropython
from tests.unit.test_archive import FORGERIES, LISTED, Forgery, made_of

_SCRIPT = Path(__file__).with_name("board_reader.py")
# A board does not look at what is behind a member's data: each file's size and digest are in the signed list.
_ONLY_HERE = ("a wrong checksum", "a wrong length")


def test_the_board_says_what_iotctl_says(tmp_path: Path) -> None:
    bundles, board = tmp_path / "bundles", tmp_path / "board"
    bundles.mkdir()
    board.mkdir()
    names = {f"{n:02}": name for n, name in enumerate(name for name in FORGERIES if name not in _ONLY_HERE)}
    for number, name in names.items():
        (bundles / number).write_bytes(FORGERIES[name][0](Forgery()))
    for number, sizes in {"good": LISTED, "empty": {}, "pieces": {"a": 65536, "b": 65537, "c": 32768}}.items():
        (bundles / number).write_bytes(bundle.pack(made_of(sizes)))
    command = [micropython.find(), _SCRIPT, ROOT, bundles, board]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    said = {names.get(number, number): reason for number, reason in (line.split() for line in done.stdout.splitlines())}
    wanted = {name: FORGERIES[name][1] for name in names.values()}
    assert said == {**wanted, "good": "good", "empty": "good", "pieces": "good"}
