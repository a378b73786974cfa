"""The simulated board itself: no process of it outlives whoever has started it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from iotctl import ROOT, bundle, profile, tree
from iotctl import sim as simulators
from iotctl.errors import IotctlError
from iotctl.sim import claim
from sim.board import Board
from tests.unit.iotctl_fixture import make_place, run

_MAIN = b"import os, time\nprint('alive')\ntime.sleep(600)\n"
_REACH = b"""
import machine, network, os, sys, vfs

found = []
for module, names in (("ffi", ("open", "func", "callback")), ("os", ("system", "VfsPosix")), ("vfs", ("VfsPosix",))):
    sys.modules.pop(module, None)
    try:
        fresh = __import__(module)
    except ImportError:
        continue
    found += [module + "." + name for name in names if hasattr(fresh, name)]
for driver in (machine, network):
    found += [name for name in dir(driver) if type(getattr(driver, name)).__name__ == "ffimod" or name == "ffi"]
print("reach:", found)
machine.WDT(timeout=5000).feed()
machine.reset()
"""
_HOST = """
import pathlib, sys, time
from sim.board import Board
board = Board(pathlib.Path(sys.argv[1]))
board.start()
board.expect("alive")
print(board._process.pid, flush=True)
time.sleep(600)
"""


class _SlowToStart(Board):
    """Takes its time to begin a second life, as on a busy machine."""

    def __init__(self, image: Path) -> None:
        super().__init__(image)
        self.begun: list[subprocess.Popen[bytes]] = []
        self.restarting, self.go_on = threading.Event(), threading.Event()

    def _spawn(self, *arguments: Any) -> subprocess.Popen[bytes]:
        if len(self.begun) == 1:
            self.restarting.set()
            self.go_on.wait(60)
        process = super()._spawn(*arguments)
        self.begun.append(process)
        return process


def _flashed(image: Path) -> None:
    board = Board(image)
    board.format()
    board.write({"main.py": _MAIN})


def test_stop_in_the_middle_of_a_restart_leaves_no_process_behind(tmp_path: Path) -> None:
    _flashed(tmp_path / "board.img")
    board = _SlowToStart(tmp_path / "board.img")
    board.start()
    board.expect("alive")
    board.power_cycle()
    assert board.restarting.wait(60)
    stopping = threading.Thread(target=board.stop)
    stopping.start()
    stopping.join(0.3)  # it has had the time to kill what ran before
    board.go_on.set()
    stopping.join(60)
    assert len(board.begun) == 2
    assert [process.wait(10) for process in board.begun] == [-signal.SIGKILL] * 2


def test_a_board_ends_with_the_program_that_runs_it(tmp_path: Path) -> None:
    _flashed(tmp_path / "board.img")
    command = [sys.executable, "-c", _HOST, str(tmp_path / "board.img")]
    host = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert host.stdout
    number = re.fullmatch(r"(\d+)\n", host.stdout.readline())
    assert number
    host.kill()
    host.wait()
    _ended(int(number[1]))


def _ended(number: int) -> None:
    deadline = time.monotonic() + 20
    while _runs(number):
        assert time.monotonic() < deadline, "the board runs on"
        time.sleep(0.05)


def _runs(number: int) -> bool:
    """False for one that has ended, even if nobody has asked how."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_image_has_one_board_at_a_time_and_sigterm_leaves_none_running(tmp_path: Path) -> None:
    _flashed(tmp_path / "board.img")
    sim = [sys.executable, "-m", "iotctl", "sim", "--image", str(tmp_path / "board.img")]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(sim, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env) as first:
        try:
            assert first.stdout and any("alive" in line for line in first.stdout)
            second = subprocess.run(sim, capture_output=True, text=True, cwd=ROOT, timeout=60)
            assert second.returncode == 1 and len(second.stderr.splitlines()) == 1
            assert f"another simulated board runs on {tmp_path / 'board.img'}" in second.stderr
            (board,) = (path.read_text() for path in Path(f"/proc/{first.pid}/task").glob("*/children") if path.read_text())
        finally:
            first.terminate()
    _ended(int(board))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The boards that `iotctl sim` would have switched on: it ends there, and keeps no image."""
    found: list[str] = []

    def live(board: Board) -> int:
        found.append(board.port.name)
        return 0

    monkeypatch.setattr(simulators, "live", live)
    monkeypatch.setattr(simulators, "claim", lambda image: None)
    return found


def test_an_image_runs_on_as_it_is_says_when_its_project_has_changed_and_is_made_anew_only_by_word(
    tmp_path: Path, ran: list[str]
) -> None:
    """One that has updated itself is not thrown back, and what an update has brought is no news to the project that it is of."""
    place, image = make_place(tmp_path), tmp_path / "board.img"
    sim = ("sim", place.profile, "--image", image)
    changed = "profile.json or modules have changed since: --fresh makes it anew"
    assert "made " in run(*sim).stdout
    assert run(*sim).stdout == ""
    (place.source / "modules" / "door" / "hinge.py").write_text("ANGLE = 80\n")
    before = image.read_bytes()
    result = run(*sim)
    assert f"this is {image} as it is, version 1.0.0; {changed}" in result.stdout and len(result.stdout.splitlines()) == 1
    assert image.read_bytes() == before
    given = profile.read_good(place.profile)
    update = bundle.make(given, tree.collect(given, "1.1.0"), bundle.Options("1.1.0", 7, "Another sequence, and notes."))
    Board(image).write(update.flashed)
    assert run(*sim).stdout == "", "it has updated itself to what the project is"
    place.change_ota(channel="canary")
    assert f"version 1.1.0; {changed}" in run(*sim).stdout
    assert "made " in run(*sim, "--fresh").stdout and run(*sim).stdout == ""
    assert Board(image).read().files["version"] == b"1.0.0\n"
    assert len(ran) == 7


def test_an_image_of_another_board_is_refused_before_a_board_runs_from_it(tmp_path: Path, ran: list[str]) -> None:
    place, image = make_place(tmp_path), tmp_path / "x.img"
    sim = ("sim", place.profile, "--image", image)
    assert run(*sim).exit_code == 0
    for other, says in (
        (("--like", "pico-w"), "was made for another board (2048 KB of disk, a pico-w has 848): name another --image"),
        (("--fs", "fat"), "cannot be read as fat"),
    ):
        result = run(*sim, *other)
        assert result.exit_code == 1 and says in result.stderr and len(result.stderr.splitlines()) == 1
    place.change(board="esp32")
    for words in ((), ("--like", "pico", "--fresh")):
        assert run(*sim, *words).exit_code == 0
    assert ran == ["unix", "esp32", "pico"], "the profile says whose habits a board has, where nobody says otherwise"


def test_the_first_demo_on_a_computer_makes_the_folder_that_it_keeps(tmp_path: Path) -> None:
    """In a fresh clone there is none yet."""
    claim(tmp_path / "cache" / "demo")
    with pytest.raises(IotctlError, match="another simulated board runs on"):
        claim(tmp_path / "cache" / "demo")


def test_board_code_does_not_reach_the_computer(tmp_path: Path) -> None:
    """Not through the unix port's ffi, os.system and VfsPosix; the simulator's own drivers go on working."""
    for file in ("boot.py", "main.py"):
        board = Board(tmp_path / f"{file}.img")
        board.format()
        board.write({file: _REACH})
        boot = board.boot_once(timeout=20)
        assert "reach: []" in boot.output and boot.cause == "hard", boot.output
