"""iotctl new and new-module: a project of one's own, outside of any checkout."""

from __future__ import annotations

import json
import os
import runpy
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from iot_platform import profile

from iotctl import ROOT, bundle, errors, keys, new, project
from tests.unit.iotctl_fixture import key, run


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = key(0)
    monkeypatch.setattr(keys, "generate", lambda: made)
    folder = tmp_path / "house"
    assert run("new", folder).exit_code == 0
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("board", new.BOARDS)
def test_a_new_project_is_good_and_pins_its_own_key(tmp_path: Path, board: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = key(0)
    monkeypatch.setattr(keys, "generate", lambda: made)
    result = run("new", tmp_path / "green-house", "--board", board)
    assert result.exit_code == 0, result.output
    monkeypatch.chdir(tmp_path / "green-house")
    result = run("check", *([] if board == "sim" else ["--board", board.removesuffix("s3")]))
    assert result.exit_code == 0, result.output
    assert result.stdout.count("is good") == len(result.stdout.splitlines()) == 1
    assert result.stderr.startswith("warning: ota.url: is an example") == (board != "sim")
    value = json.loads(Path("profile.json").read_text())
    assert value["shortName"] == "green-house" and "web" in value["activeModules"]
    assert value["ota"]["public_keys"] == [keys.jwk(key(0))]
    assert stat.S_IMODE(Path("owner.pem").stat().st_mode) == 0o600
    assert {"*.pem", "secrets.toml"} <= set(Path(".gitignore").read_text().split("\n"))
    assert "your-password" not in Path("profile.json").read_text()
    assert project.secrets(Path()) == {}


def test_what_a_project_has_is_in_its_releases(house: Path) -> None:
    assert run("new-module", "thermometer").exit_code == 0
    (house / "files" / "www").mkdir()
    (house / "files" / "www" / "page.html").write_text("mine")
    (house / "lib" / "driver.py").write_text("SPEED = 9600\n")
    (house / "modules" / "wifi").mkdir()
    (house / "modules" / "wifi" / "__init__.py").write_text("# mine instead of iotctl's\n")
    result = run("build", "profile.json", "--version", "1.0.0", "--key", "owner.pem", "--out", "dist")
    assert result.exit_code == 0, result.output
    files = bundle.read(house / "dist" / "1.0.0.tar.gz").files
    assert {"modules/thermometer.mpy", "lib/driver.mpy", "www/page.html", "iot_platform/runtime.mpy"} <= files.keys()
    assert files["www/page.html"] == b"mine" and len(files["modules/wifi.mpy"]) < 100
    assert not [path for path in files if "secrets" in path or path.endswith(".pem")]


def test_a_new_module_counts_tells_and_obeys_as_its_own_test_says(house: Path) -> None:
    assert run("test").exit_code == errors.FILE, "there is none yet"
    assert run("new-module", "wind_mill").exit_code == 0
    assert "wind_mill" in json.loads(Path("profile.json").read_text())["activeModules"]
    file = house / "modules" / "wind_mill" / "__init__.py"
    mill = runpy.run_path(str(file))["Module"](SimpleNamespace())
    assert profile.panels({"wind_mill": mill}) == []
    command, env = [sys.executable, "-m", "iotctl", "test"], {**os.environ, "PYTHONPATH": str(ROOT)}
    for add, code in (("+= ", 0), ("+= 2 * ", 1)):  # one that counts twice
        file.write_text(file.read_text().replace("+= ", add))
        done = subprocess.run(command, env=env, capture_output=True)
        assert done.returncode == code and b"Ran 1 test" in done.stderr, done.stderr


@pytest.mark.parametrize(("words", "said"), [
    (("new", "."), "is not empty"),
    (("new", "other", "--board", "abacus"), "there is no board 'abacus'"),
    (("new", "my house"), "no name for boards: letters a to z, digits, _ . and -, at most 64, such as my-house"),
    (("new", "Gew\u00e4chshaus S\u00fcd"), "such as Gewaechshaus-Sued"),
    (("new", "C:\\boards\\caf\u00e9"), "such as cafe"),
    (("new", "\u6e29\u5ba4"), "such as greenhouse"),
    (("new-module", "Two-Words"), "no name for a module"),
    (("new-module", "class"), "no name for a module"),
    (("new-module", "wifi"), "there is a module wifi already, of iotctl's own: choose another name"),
    (("new-module", "mine"), "there is a module mine already: choose another name, or delete modules/mine"),
])  # fmt: skip
def test_what_is_refused_changes_nothing(house: Path, words: tuple[str, ...], said: str) -> None:
    (house / "modules" / "mine").mkdir()
    before = sorted(house.rglob("*"))
    result = run(*words)
    assert result.exit_code in (1, 2) and said in result.stderr and len(result.stderr.splitlines()) == 1
    assert sorted(house.rglob("*")) == before


def test_secrets_are_preferences(house: Path) -> None:
    (house / "secrets.toml").write_text('[wifi]\nssid = "home"\npassword = "tea\\"pot"\n[mqtt]\nport = 8883\n')
    assert project.secrets(house) == {"wifi.ssid": "home", "wifi.password": 'tea"pot', "mqtt.port": 8883}
    for text, said in (
        ('[wifi]\npasword = "x"\n', "wifi.pasword is unknown"),
        ("[wifi\n", "secrets.toml"),
        ('ssid = "x"\n', "ssid is unk"),
    ):
        (house / "secrets.toml").write_text(text)
        result = run("flash", "--dry-run")
        assert result.exit_code == 1 and said in result.stderr, text
