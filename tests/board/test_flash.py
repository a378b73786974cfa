"""iotctl flash and console over a serial line: a pty, with a simulated board at its other end that speaks the raw REPL."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import tty
from pathlib import Path

import pytest
import serial

from iotctl import ROOT, flash
from iotctl.errors import IotctlError
from sim.board import Board
from tests.support.serial_port import SerialPort
from tests.support.world import PATIENCE_S, World
from tests.unit.iotctl_fixture import make_place

SLOTS = "iot_platform/slots.py"
FILES = {
    "main.py": b"print('it runs')\n",
    "boot.py": b"",
    "ota_boot.py": b"state = ''\n",
    "modules/door/__init__.mpy": bytes(range(256)) * 5,
    "modules/door/index.html": b"<p>it's \"the\" door</p>\r\n",
    "lib/empty.py": b"",
    SLOTS: (ROOT / "platform" / SLOTS).read_bytes(),
    "profile.json": b"{}",
    ".ota/release": b"{}\n",
}
SECRETS: dict[str, object] = {"wifi.ssid": "home", "wifi.password": "quo\"te's", "name": "kitchen"}


@pytest.fixture
def board(tmp_path: Path) -> Board:
    made = Board(tmp_path / "board.img", like="pico-w")
    made.format()
    return made


def write(board: Board, cut_at: int | None = None, recover: bool = False, files: dict[str, bytes] = FILES) -> list[str]:
    """What was told, and how many files went over the line."""
    told: list[str] = []
    with SerialPort(board, cut_at) as port:
        flash.flash(files, port.name, recover, SECRETS, "pico-w", told.append)
        return [*told, f"{len(port.files)} files"]


def test_a_tree_gets_onto_an_empty_board_with_its_secrets(board: Board) -> None:
    told = write(board)
    assert "Raspberry Pi Pico W with RP2040, MicroPython 1." in told[0]
    assert told[1].startswith(f"writing {len(FILES)} of {len(FILES)} files, ") and "te's" not in told[1]
    assert told[1].endswith("; preferences: wifi.ssid, wifi.password, name") and told[2] == f"{len(FILES)} files"
    found = board.read().files
    prefs = json.loads(found.pop("prefs.json").splitlines()[0])
    assert found == FILES and prefs == SECRETS
    left = {".ota/trial.1": b"", ".ota/state.0": b"{}", "mine.txt": b"1"}
    board.write({**left, "lib/empty.mpy": b"a twin"})
    assert write(board, recover=True)[2] == "2 files", "only what starts the board: the rest is right"
    found = board.read().files
    assert {path: found.get(path) for path in left} == {**left, ".ota/trial.1": None} and "lib/empty.mpy" not in found


def test_the_command_says_what_is_connected_above_its_progress_bar(board: Board, tmp_path: Path) -> None:
    place = make_place(tmp_path / "place")
    terminal, slave = pty.openpty()
    with SerialPort(board) as port:
        command: list[str | Path] = [sys.executable, "-m", "iotctl", "flash", port.name, "--profile", place.profile]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=slave, timeout=PATIENCE_S)
    shown = os.read(terminal, 1 << 20)
    os.close(slave)
    os.close(terminal)
    assert done.returncode == 0 and b"files, " in done.stdout, shown
    for line in (port.name.encode() + rb": Raspberry Pi Pico W ", rb"writing \d+ of \d+ files, \d+ bytes; "):
        assert re.search(rb"(?:^|\n|\r|\x1b\[2K)" + line + rb"[^\r\n]*\r\n", shown), shown


def test_a_cable_pulled_at_any_file_leaves_nothing_that_starts_and_it_goes_on(board: Board) -> None:
    board.write({"main.py": b"old", "boot.py": b"old", "profile.json": b"old"})
    files = {path: data for path, data in FILES.items() if not path.startswith(("modules/door/index", "lib", "profile"))}
    for done in range(1, len(files)):
        with pytest.raises(IotctlError, match="the connection broke.*run it again"):
            write(board, cut_at=2, files=files)
        found = board.read().files
        assert "main.py" not in found
        assert sum(found.get(path) == data for path, data in files.items()) >= done
    write(board, files=files)
    assert {path: board.read().files[path] for path in files} == files


def test_a_ctrl_c_that_comes_with_the_first_word_restarts_no_board(board: Board) -> None:
    for _n in range(20):
        with SerialPort(board) as port, flash.opened(port.name):
            assert port.starts == 1


READ_ONLY = b"import vfs\nfs = vfs.mount()[0][0]\nvfs.umount('/')\nvfs.mount(fs, '/', readonly=True)\n"


@pytest.mark.parametrize(("there", "words"), [
    ({"mine.bin": bytes(150 * 1024)}, "its disk is full"), ({"boot.py": READ_ONLY}, "its file system is read-only"),
])  # fmt: skip
def test_a_disk_that_takes_nothing_is_said_in_words(tmp_path: Path, there: dict[str, bytes], words: str) -> None:
    board = Board(tmp_path / "board.img", size=48 * 4096, like="pico-w")
    board.format()
    board.write(there)
    with pytest.raises(IotctlError, match=f": {words}$"):
        write(board, files={**FILES, "large.bin": bytes(range(256)) * 100})
    assert "main.py" not in board.read().files


def test_a_port_that_somebody_else_has_and_one_where_nobody_speaks_micropython(monkeypatch: pytest.MonkeyPatch) -> None:
    line, slave = pty.openpty()
    name = os.ttyname(slave)
    with serial.Serial(name, exclusive=True), pytest.raises(IotctlError, match="cannot be opened.*no other program at it"):
        flash.flash(FILES, name, False)
    for limit in ("_STOP_S", "_SILENCE_S"):
        monkeypatch.setattr(flash, limit, 0.05)
    tty.setraw(slave)
    os.write(line, b"ets Jun  8 2016 00:22:57 rst:0x1\r\n")
    with pytest.raises(IotctlError, match="does not run MicroPython, or does not stop"):
        flash.flash(FILES, name, False)
    os.close(line)
    os.close(slave)


def test_what_is_refused_is_not_touched(board: Board) -> None:
    board.write({"main.py": b"print('mine')"})
    with SerialPort(board) as port, pytest.raises(IotctlError, match="the profile is for esp32"):
        flash.flash(FILES, port.name, False, None, "esp32", lambda line: None)
    assert board.read().files == {"main.py": b"print('mine')"}


def test_a_board_that_runs_is_stopped_written_and_started_again(world: World) -> None:
    """It has a watchdog, which nobody would feed at the REPL after a soft reset."""
    old = world.release("1.0.0")
    world.flash(old)
    new = {**old.files, ".ota/release": old.bundle.listing, "www/note.txt": b"new"}
    with SerialPort(world.board) as port:
        console = [sys.executable, "-m", "iotctl", "console", port.name]
        pipe = subprocess.PIPE

        def answers() -> None:
            """What a console of its own shows when somebody types."""
            with subprocess.Popen(console, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
                assert process.stdin and process.stdout
                process.stdin.write("help\n")
                process.stdin.flush()
                assert any("commands: status" in line for line in process.stdout)
                process.send_signal(signal.SIGINT)
                assert process.wait(PATIENCE_S) == 0

        answers()
        flash.flash(new, port.name, False, None, "pico-w", lambda line: None)
        assert len(port.files) == 3
        answers()
    found = world.board.read().files
    assert {path: found[path] for path in new} == new
