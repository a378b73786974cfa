"""The two commands that show a board: the demo from beginning to end, and the simulator under a terminal's hands."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from iotctl import ROOT
from tests.support import figures

_PATIENCE_S = 240


def iotctl(*words: str) -> list[str]:
    return [sys.executable, "-m", "iotctl", *words]


def test_the_demo_updates_a_board_and_says_what_it_took() -> None:
    done = subprocess.run(iotctl("demo"), cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    story = done.stdout
    steps = ("running 1.0.0", "verified", "downloading", "staged", "committed", "trial of 1.1.0", "confirmed: version 1.1.0")
    places = [story.index(step) for step in steps]
    assert places == sorted(places)
    assert "files are exactly those of 1.1.0" in story
    summary = " ".join(re.sub(r"\W*\n\W*", " ", story).split())  # a frame around it, as wide as the terminal
    heap = re.search(r"main loop: (\d+) bytes; lowest in the update: (\d+)", summary)
    assert heap, story
    figures.note("free heap of the demo's board", f"{heap[1]} bytes in the main loop, {heap[2]} at the update's lowest point")
    assert 0 < int(heap[2]) < int(heap[1]) < 188 * 1024


def test_a_simulated_board_has_a_console_and_keeps_its_state(tmp_path: Path) -> None:
    command = iotctl("sim", "profile.json", "--image", str(tmp_path / "board.img"), "--device-id", "mine", "--wifi", "off")
    for made in (True, False):
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as board:  # fmt: skip
            assert board.stdin and board.stdout
            said = []
            for line in board.stdout:
                said.append(line)
                if "could not join" in line:  # by then every module has told its values
                    board.stdin.write("values\n")
                    board.stdin.flush()
                if "version = " in line:
                    board.send_signal(signal.SIGINT)
            assert board.wait(_PATIENCE_S) == 0, "".join(said)
        assert any("made " in line for line in said) is made
        assert "power off" in "".join(said)


def test_a_file_system_that_there_is_not_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        iotctl("sim", "--fs", "ext4", "--image", str(tmp_path / "x.img")), cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.strip() == "iotctl: the file system must be lfs or fat"
