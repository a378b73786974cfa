"""iotctl new and new-module: a project of one's own, outside of any checkout."""

from __future__ import annotations

import json
import runpy
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from iot_platform import profile

from iotctl import bundle, keys, new, project
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


def test_a_new_module_counts_tells_and_obeys(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("new-module", "mill").exit_code == 0
    clock = SimpleNamespace(now=0)
    ticks = SimpleNamespace(ticks_ms=lambda: clock.now, ticks_diff=lambda later, earlier: later - earlier)
    monkeypatch.setitem(sys.modules, "time", ticks)
    said: list[str] = []
    mill = runpy.run_path("modules/mill/__init__.py")["Module"](SimpleNamespace(profile={"mill": {"step_s": 5}}, log=said.append))
    mill.start()
    for clock.now in (4_999, 5_000, 9_999, 10_000):
        mill.tick()
    keys = [value[0] for value in mill.panels["values"]]
    assert mill.telemetry() == dict(zip(keys, (2, True), strict=True)) and profile.panels({"mill": mill}) == []
    (panel,) = mill.panels
    mill.on_command(SimpleNamespace(path=f"mill/{panel['actions'][0][0]}"))
    mill.on_command(SimpleNamespace(path="mill/runs", payload=False))
    assert mill.telemetry() == {"mill/minutes": 0, "mill/runs": False} and said == ["mill: starts again"]
    assert "mill" in json.loads(Path("profile.json").read_text())["activeModules"]


@pytest.mark.parametrize(("words", "said"), [
    (("new", "."), "is not empty"),
    (("new", "other", "--board", "abacus"), "there is no board 'abacus'"),
    (("new", "my house"), "no name for boards"),
    (("new-module", "Two-Words"), "no name for a module"),
    (("new-module", "class"), "no name for a module"),
    (("new-module", "wifi"), "there is a module wifi already"),
])  # fmt: skip
def test_what_is_refused_changes_nothing(house: Path, words: tuple[str, ...], said: str) -> None:
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
