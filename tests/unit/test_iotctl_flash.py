"""iotctl flash: the order of writing, and its scripts on a simulated board. tests/board/test_flash.py has the serial line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from iotctl import ROOT, console, flash
from iotctl.errors import IotctlError
from sim.board import Board
from tests.unit.iotctl_fixture import Place, make_place, run

FILES = {
    "main.py": b"print('main')\n",
    "boot.py": b"",
    "ota_boot.py": b"state = ''\n",
    "modules/door/__init__.mpy": b"M\x06\x00new",
    "lib/squeak.mpy": b"M\x06",
    "profile.json": b"{}",
    ".ota/release": b"{}\n",
}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    made = Board(tmp_path / "board.img")
    made.format()
    return made


def on_board(board: Board, script: str) -> str:
    board.write({"script.py": script.encode()})
    code = b"exec(open('/script.py').read())\nimport machine\nmachine.reset()\n"
    kept = board.read().files.get("main.py")
    board.write({"main.py": code})
    output = board.boot_once().output
    board.write({"main.py": kept or b""})
    return output


def test_the_board_says_what_it_is_before_anything_is_written(board: Board) -> None:
    found = flash.connected("some line\r\n" + on_board(board, flash.probe_script()))
    assert found.micropython >= (1, 22) and found.mpy == 6 and not found.missing
    assert 1_000_000 < found.disk <= 2 << 20 and found.heap > 100_000
    flash.check_fits(found, FILES)
    assert f"MicroPython {'.'.join(map(str, found.micropython))}, {found.heap // 1024} KB of heap" in str(found)
    with pytest.raises(IotctlError, match="does not run MicroPython"):
        flash.connected("rst:0x1 (POWERON_RESET)\nets Jun  8 2016")


@pytest.mark.parametrize(("change", "words"), [
    ({"micropython": (1, 21, 0)}, "1.22 or newer is needed"),
    ({"mpy": 5}, "give --py"),
    ({"missing": ("deflate",)}, "without deflate"),
    ({"heap": 60_000}, "are the least"),
    ({"disk": 40_000}, "the tree takes"),
    ({"platform": "rp2"}, "is for esp32"),
])  # fmt: skip
def test_a_board_that_could_not_run_the_tree_is_refused(change: dict[str, Any], words: str) -> None:
    good = flash.Connected("ESP32 module", (1, 25, 0), 6, 160_000, 2 << 20, platform="esp32")
    flash.check_fits(good, FILES, "esp32")
    with pytest.raises(IotctlError, match=words):
        flash.check_fits(dataclasses.replace(good, **change), FILES, "esp32")


def test_native_code_of_another_chip_is_refused() -> None:
    """An ESP32-C3 calls itself esp32, and cannot run what was made for Xtensa."""
    board = flash.Connected("ESP32 module", (1, 25, 0), 6, 160_000, 2 << 20, platform="esp32", chip=10)
    native = {**FILES, "lib/fast.mpy": b"M\x06\x2b\x1f"}
    flash.check_fits(board, native, "esp32")
    for other, words in (({"chip": 11}, "another chip"), ({"micropython": (1, 22, 2)}, "1.23 or newer")):
        with pytest.raises(IotctlError, match=words):
            flash.check_fits(dataclasses.replace(board, **other), native, "esp32")
        flash.check_fits(dataclasses.replace(board, **other), FILES, "esp32")


def test_ports_are_listed_when_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"/dev/ttyUSB0": "CP2102", "/dev/ttyACM0": "Board in FS mode"}
    monkeypatch.setattr(flash, "ports", lambda: found)
    with pytest.raises(IotctlError, match=r"ttyUSB0  CP2102\n.*ttyACM0"):
        flash.choose(None)
    assert flash.choose("/dev/ttyX") == "/dev/ttyX"
    del found["/dev/ttyUSB0"]
    assert flash.choose(None) == "/dev/ttyACM0"
    found.clear()
    with pytest.raises(IotctlError, match="no board is connected"):
        flash.choose(None)


def test_what_starts_the_board_is_written_last() -> None:
    made = flash.plan(FILES)
    assert made.paths[-4:] == (".ota/release", "ota_boot.py", "boot.py", "main.py")
    assert sorted(made.paths) == sorted(FILES)
    assert made.folders == (".ota", "lib", "modules", "modules/door")


def test_the_first_script_makes_folders_and_removes_twins(board: Board) -> None:
    board.write({"modules/door/__init__.py": b"old", "lib/squeak/__init__.py": b"old", "prefs.json": b"{}", "mine.txt": b"1"})
    assert "READY" in on_board(board, flash.prepare_script(flash.plan(FILES)))
    tree = board.read().without("main.py", "script.py")
    assert tree.files == {"prefs.json": b"{}", "mine.txt": b"1"}
    assert tree.folders == {".ota", "lib", "modules", "modules/door"}
    assert "READY" in on_board(board, flash.prepare_script(flash.plan(FILES))), "it can be done again"


@pytest.mark.parametrize("recover", [False, True])
def test_recovering_forgets_an_unfinished_update_but_not_the_highest_sequence(board: Board, recover: bool) -> None:
    left = {".ota/trial.2": b"journal", ".ota/stage/e1": b"x", ".ota/fails.3": b"", ".ota/previous/journal": b"j"}
    stays = {".ota/state.0": b"{}", ".ota/release": b"{}", "prefs.json": b"{}"}
    board.write({**left, **stays})
    assert "READY" in on_board(board, flash.prepare_script(flash.plan(FILES, recover)))
    files = board.read().without("main.py", "script.py").files
    assert files == ({**stays} if recover else {**left, **stays})


def test_the_last_script_finds_every_file_that_is_not_right(board: Board) -> None:
    board.write(FILES)
    script = flash.check_script({path: data for path, data in FILES.items() if path != "main.py"})
    assert flash.wrong_files(on_board(board, script)) == []
    board.write({"lib/squeak.mpy": b"M\x07"})
    said = on_board(board, flash.check_script({**FILES, "main.py": b"", "gone.txt": b""}).replace("/main.py", "/boot.py"))
    assert flash.wrong_files(said) == ["gone.txt", "lib/squeak.mpy"]
    with pytest.raises(IotctlError, match="did not answer"):
        flash.wrong_files("Traceback")


def test_secrets_go_into_the_preferences_that_a_board_has(board: Board) -> None:
    slots = (ROOT / "platform" / "iot_platform" / "slots.py").read_bytes()
    board.write({"iot_platform/slots.py": slots, "prefs.json": b'{"wifi.ssid": "old", "mine": 1}'})
    on_board(board, flash.prefs_script({"wifi.ssid": "home", "wifi.password": "quo\"te's", "mqtt.tls": True}))
    left = json.loads(board.read().files["prefs.json.1"].splitlines()[0])
    assert left == {"wifi.ssid": "home", "wifi.password": "quo\"te's", "mqtt.tls": True, "mine": 1}


def test_a_dry_run_says_what_would_be_written(place: Place) -> None:
    result = run("flash", "--profile", place.profile, "--version", "1.4.0", "--dry-run", "--recover", "--json")
    value = json.loads(result.stdout)
    assert value["recover"] is True and value["files"][-1] == "main.py" and ".ota/release" in value["files"]


def test_a_port_that_is_not_there_is_one_line(place: Place) -> None:
    for words in (("flash", place.root / "no-port", "--profile", place.profile), ("console", place.root / "no-port")):
        result = run(*words)
        assert result.exit_code == 1
        assert "no-port cannot be opened" in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(("name", "password", "says"), [
    ("x" * 33, "12345678", "wifi.ssid is wrong"), ("home", "short", "wifi.password is wrong"),
    ("home", "", ""), ("home", "0f" * 32, ""),
])  # fmt: skip
def test_the_network_of_one_board_is_checked_before_it_is_off_it(place: Place, name: str, password: str, says: str) -> None:
    result = run("flash", "--profile", place.profile, "--wifi", name, "--wifi-password", password, "--dry-run")
    assert (says in result.stderr and result.exit_code == 1) if says else result.exit_code == 0, result.output
    assert run("flash", "--profile", place.profile, "--group", "../x", "--dry-run").exit_code == 2


@pytest.mark.parametrize("name", ["K\u00fcche", "my kitchen", "-x", "x" * 33])
def test_a_boards_name_must_be_one_in_its_network(place: Place, name: str) -> None:
    result = run("flash", "--profile", place.profile, f"--name={name}", "--dry-run")
    assert result.exit_code == 2 and "letters a to z, digits and -, such as kitchen" in result.stderr
    assert run("flash", "--profile", place.profile, "--name", "Kitchen-2", "--dry-run").exit_code == 0


def test_the_console_says_where_the_page_is() -> None:
    page = console._Page()
    joined = "I wifi: connected to my as home as 192.168.1.23"
    lines = ["I web: listening on port 80", joined, "I ota: up to date", "I wifi: connected to x as 10.0.0.2"]
    assert [page.hear(line) for line in lines] == [None, "(its page: http://192.168.1.23)", None, "(its page: http://10.0.0.2)"]
    assert page.hear("I web: listening on port 8080") == "(its page: http://10.0.0.2:8080)"
    assert [console._Page().hear(line) for line in lines] == [None] * 4, "no address, or no page"


def test_secrets_that_no_board_could_use_are_refused(place: Place) -> None:
    for text, says in (("[wifi]\npassword = 12345678\n", "wifi.password"), ("[mqtt]\nport = 'x'\n", "mqtt.port")):
        (place.source / "secrets.toml").write_text(text)
        result = run("flash", "--profile", place.profile, "--dry-run")
        assert result.exit_code == 1 and f"{says} is wrong" in result.stderr
