"""`iotctl migrate`: what it writes, what it warns of, and how the preferences of that platform become ours."""

from __future__ import annotations

import json
import runpy
import tarfile
from pathlib import Path
from typing import Any

import pytest

from iotctl import ROOT, migrate
from tests.support import origin
from tests.support.world import noise
from tests.unit.iotctl_fixture import Place, make_place, run


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = make_place(tmp_path)
    (made.source / "modules" / "door" / "sound.raw").write_bytes(noise(1, 12_000))
    return made


def test_an_archive_that_is_too_small_for_that_updater_is_refused(place: Place, old: Path) -> None:
    (place.source / "modules" / "door" / "sound.raw").unlink()
    result = migrated(place, old)
    assert (result.exit_code, "takes none below 10000" in result.stderr) == (1, True)
    assert not (place.root / "site").exists()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """What the boards run: version 1.9.0 of the old platform."""
    path = tmp_path / "firmware.tar.gz"
    path.write_bytes(origin.archive(origin.tree("https://old.example/firmware")))
    return path


def migrated(place: Place, old: Path, *more: object, version: str = "9.0.0") -> Any:
    site = place.root / "site"
    return run("migrate", place.profile, "--version", version, "--old", old, "--key", place.key, "--out", site, *more)


def test_boot_py_comes_last_and_before_it_nothing_that_the_old_tree_has(place: Place, old: Path) -> None:
    result = migrated(place, old)
    assert result.exit_code == 0, result.output
    site = place.root / "site"
    assert [Path(line).relative_to(site).as_posix() for line in result.stdout.split()] == [
        "door-1/9.0.0.tar.gz",
        "door-1/stable.json",
        "S2mini-Lamp/9.0.0-migrate.tar.gz",
        "S2mini-Lamp/latest",
        "s2mini-lamp/9.0.0-migrate.tar.gz",
        "s2mini-lamp/latest",
    ]
    version, name, _kb, size, _digest = (site / "S2mini-Lamp" / "latest").read_text().strip().rstrip(";").split(";")
    assert (version, int(size)) == ("9.0.0", (site / "S2mini-Lamp" / name).stat().st_size)
    assert int(size) >= 10_000
    with tarfile.open(site / "S2mini-Lamp" / name) as tar:
        names = [member.name + "/" * member.isdir() for member in tar.getmembers()]
    before = {path for path, _data in origin.tree("").items()}
    assert names[-2:] == [".ota/loader_0.py", "boot.py"]
    assert not before & set(names[:-1])
    for at, name in enumerate(names):
        folder = name.rstrip("/").rpartition("/")[0]
        assert not folder or f"{folder}/" in names[:at], f"{name} comes before its folder"


def test_the_plan_names_every_file_of_the_old_tree_once_and_none_of_the_new(place: Place, old: Path) -> None:
    assert migrated(place, old).exit_code == 0
    with tarfile.open(place.root / "site" / "s2mini-lamp" / "9.0.0-migrate.tar.gz") as tar:
        text = tar.extractfile(".ota/stage/plan").read().decode()  # type: ignore[union-attr]
    first, *rows = text.splitlines()
    assert json.loads(first)["new"] == "9.0.0"
    put = [row[1:] for row in rows if row[0] == "+"]
    gone = [row[1:] for row in rows if row[0] == "-"]
    assert len(set(put) | set(gone)) == len(put) + len(gone) == len(rows)
    for path in origin.tree(""):
        covered = path in put or path == "boot.py" or any(f"{path}/".startswith(f"{name}/") for name in gone)
        assert covered, f"{path} would stay"
    assert not [path for path in put for name in gone if path.startswith(f"{name}/")]
    assert {"new_firmware.tar.gz", "new_firmware.tar.gz.1", "prefs.json.1"} <= set(gone)


@pytest.mark.parametrize(("version", "warned"), [("1.10.0", True), ("1.9.0", True), ("2.0.0", False), ("10.0.0", False)])
def test_a_version_that_text_does_not_find_newer_is_warned_of(place: Place, old: Path, version: str, warned: bool) -> None:
    result = migrated(place, old, version=version)
    assert result.exit_code == 0, result.output
    assert ("compare versions as text" in result.stderr) == warned
    assert "45 KB of free heap" in result.stderr


def test_the_canaries_have_a_line_of_their_own(place: Place, old: Path) -> None:
    result = migrated(place, old, "--channel", "canary")
    assert result.exit_code == 0, result.output
    written = {Path(line).name for line in result.stdout.split()}
    assert {"canary", "canary.json"} <= written
    assert not {"latest", "stable.json"} & written


@pytest.mark.parametrize("what", ["no archive", "no version", "no profile"])
def test_refuses_what_is_no_old_tree_and_writes_nothing(place: Place, tmp_path: Path, what: str) -> None:
    path, files = tmp_path / "what.tar.gz", origin.tree("")
    files.pop({"no version": "version", "no profile": "profile.json"}.get(what, ""), None)
    path.write_bytes(b"no archive" if what == "no archive" else origin.archive(files))
    result = migrated(place, path)
    assert result.exit_code == 1
    assert str(path) in result.stderr
    assert not (place.root / "site").exists()


def test_a_name_that_leads_out_of_the_site_is_refused(place: Place, tmp_path: Path) -> None:
    (tmp_path / "what.tar.gz").write_bytes(origin.archive({"version": b"1.9.0", "profile.json": b'{"shortName": "../lamp"}'}))
    result = migrated(place, tmp_path / "what.tar.gz")
    assert (result.exit_code, "no name of a folder" in result.stderr) == (1, True)
    assert not (place.root / "lamp").exists()


def test_a_copy_of_a_board_is_as_good_as_its_archive(old: Path, tmp_path: Path) -> None:
    files = {**origin.tree(""), "prefs.json": b"{}"}
    for path, data in files.items():
        (tmp_path / "board" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "board" / path).write_bytes(data)
    found = migrate.read_old(tmp_path / "board")
    assert (found.version, found.name, found.temporary) == ("1.9.0", origin.NAME, origin.ARCHIVE)
    assert set(found.files) - {"prefs.json"} == set(migrate.read_old(old).files)


# -- the preferences

HOME = {"wifi.ssid": "home", "wifi.password": "secret"}
WIFI = {"ssid": "home", "password": "secret", "type": "DHCP", "ip": "", "netmask": "", "gateway": ""}
SHAPES: dict[str, tuple[dict[str, bytes], dict[str, Any]]] = {
    "none": ({}, {}),
    "empty": ({"prefs.json": b"{}"}, {}),
    "wifi": ({"prefs.json": json.dumps({"wifi": WIFI}).encode()}, HOME),
    "an open network": ({"prefs.json": b'{"wifi": {"ssid": "home", "password": ""}}'}, {"wifi.ssid": "home"}),
    "null": ({"prefs.json": b'{"wifi": {"ssid": null, "password": null}, "ota": null}'}, {}),
    "not configured": ({"prefs.json": b'{"wifi": {"ssid": "NOT-CONFIGURED", "password": "no-password-set"}}'}, {}),
    "numbers": ({"prefs.json": b'{"wifi": {"ssid": 5}, "ota": 7, "mqtt": [], "x": 1}'}, {}),
    "a list": ({"prefs.json": b"[1]"}, {}),
    "cut short": ({"prefs.json": b'{"wifi": {"ssid": "ho'}, {}),
    "no text": ({"prefs.json": b"\xff\xfe{}"}, {}),
    "nothing in it": ({"prefs.json": b""}, {}),
    "channel": ({"prefs.json": b'{"ota": {"release": "canary"}}'}, {"ota.channel": "canary"}),
    "another channel": ({"prefs.json": b'{"ota": {"release": "nightly"}}'}, {}),
    "modules": (
        {"prefs.json": b'{"ledStrip": {"brightness": 220, "primary": "00ff00", "x": {}}, "web": {"password": "p"}}'},
        {"ledStrip.brightness": 220, "ledStrip.primary": "00ff00"},
    ),
    "home assistant": (
        {"prefs.json": b'{"homeassistant": {"enabled": "Y", "mqtt_server": "b", "mqtt_user": "u", "mqtt_password": "p"}}'},
        {"mqtt.host": "b", "mqtt.user": "u", "mqtt.password": "p"},
    ),
    "mqtt before home assistant": (
        {"prefs.json": b'{"homeassistant": {"mqtt_server": "b"}, "mqtt": {"server": "c", "port": "1884", "password": "p"}}'},
        {"mqtt.host": "c", "mqtt.port": 1884},
    ),
    "mqtt is off": ({"prefs.json": b'{"mqtt": {"enabled": "N", "server": "c"}}'}, {}),
    "mqtt was never set": ({"prefs.json": b'{"homeassistant": {"enabled": "Y", "mqtt_server": "mqtt.example.com"}}'}, {}),
    "lines in files": (
        {"net.settings": b"home,secret,DHCP,,,", "mqtt.settings": b"Y,broker,,,me,pw"},
        {**HOME, "mqtt.host": "broker", "mqtt.user": "me", "mqtt.password": "pw"},
    ),
    "older lines": ({"net.settings": b"home,secret,DHCP,,,", "mqtt.settings": b"Y,broker,a,b"}, {**HOME, "mqtt.host": "broker"}),
    "torn lines": ({"net.settings": b"home,sec", "mqtt.settings": b"\xff,"}, {}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_preferences_of_every_shape(tmp_path: Path, shape: str) -> None:
    files, wanted = SHAPES[shape]
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    code = runpy.run_path(str(ROOT / "iotctl" / "device" / "migrate.py"))
    code["preferences"].__globals__["open"] = lambda path, *mode: open(f"{tmp_path}{path}", *mode)  # noqa: SIM115
    assert code["preferences"]() == wanted
