"""Every key of a profile, missing or wrong, is named together with the form that is expected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iot_platform import profile

from iotctl import profile as profiles
from iotctl.errors import IotctlError
from tests.support import origin
from tests.unit.iotctl_fixture import run

OTA: dict[str, Any] = {"url": "https://example.org/fw", "tmp_filename": "new.tar.gz", "excluded_files": [], "delete": []}
GOOD: dict[str, Any] = {"shortName": "door", "activeModules": ["ota"], "ota": OTA}
KEY = {"kty": "RSA", "n": "gA" + "A" * 509 + "B", "e": "AQAB"}

WRONG: list[tuple[str, Any]] = [
    ("url", "ftp://x"), ("url", "http://user@host/"), ("url", "http://a b"), ("url", 7),
    ("tmp_filename", "../x"), ("tmp_filename", "main.py"), ("tmp_filename", ".ota/journal"), ("tmp_filename", "Prefs.json"),
    ("excluded_files", "x"), ("excluded_files", ["/../x"]), ("delete", ["main.py"]), ("delete", [".ota"]),
    ("delete", ["boot.py"]),
    ("channel", "../x"), ("check_interval_s", 9), ("check_interval_s", True), ("auto_install", 1), ("confirm_timeout_s", 0),
    ("confirm_wakes", 0), ("max_boot_attempts", 11), ("keep_previous", "yes"), ("window", "25:00-01:00"), ("window", "1:00-2:00"),
    ("headers", {"A": "b\r\nc"}), ("headers", ["x"]), ("ca", ""), ("ca", "not checked"), ("redirect_hosts", "x"),
    ("redirect_hosts", ["HTTP://x"]), ("mip", {}), ("mip", {"index": "x"}),
    ("public_keys", []), ("public_keys", [KEY] * 5), ("public_keys", "x"),
    ("release_keys", [KEY]), ("channel_keys", [KEY]),  # one without the other
]  # fmt: skip


def _keys(value: dict[str, Any]) -> list[str]:
    return [key for key, _problem, expected in profile.check(value) if expected]


def test_a_good_profile_has_no_errors() -> None:
    full = {
        **OTA, "channel": "canary", "check_interval_s": 60, "auto_install": False, "confirm_timeout_s": 60, "confirm_wakes": 2,
        "max_boot_attempts": 3, "keep_previous": True, "window": "22:00-04:30", "headers": {"Authorization": "Bearer x"},
        "ca": "ca.der", "mip": {"index": "https://example.org/mip", "sha256": {"lib/requests.mpy": "0" * 64}},
    }  # fmt: skip
    assert profile.check(GOOD) == []
    assert profile.check({**GOOD, "ota": full, "watchdog_s": 8}) == []


@pytest.mark.parametrize("key", OTA)
def test_a_missing_key_is_named(key: str) -> None:
    assert _keys({**GOOD, "ota": {k: v for k, v in OTA.items() if k != key}}) == [f"ota.{key}"]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_wrong_value_is_named(key: str, value: Any) -> None:
    assert [found.split("[")[0] for found in _keys({**GOOD, "ota": {**OTA, key: value}})] == [f"ota.{key}"]


def test_what_could_be_read_on_the_way_needs_a_certificate_or_the_words() -> None:
    """An access token, and all that MQTT says."""
    token = {**OTA, "headers": {"Authorization": "Bearer x"}}
    assert _keys({**GOOD, "ota": token}) == ["ota.ca"]
    mqtt: dict[str, Any] = {"host": "broker", "tls": True}
    both = {**GOOD, "activeModules": ["ota", "mqtt"]}
    assert _keys({**both, "mqtt": mqtt}) == ["mqtt.ca"]
    for ca in ("ca.pem", "not verified"):
        assert profile.check({**both, "ota": {**token, "ca": ca}, "mqtt": {**mqtt, "ca": ca}}) == []
    assert profile.check({**GOOD, "ota": {**token, "url": "http://example.org/fw"}}) == []  # that hides nothing anyway


def test_commands_of_mqtt_are_those_that_there_are() -> None:
    both: dict[str, Any] = {**GOOD, "activeModules": ["ota", "mqtt"]}
    assert profile.check({**both, "mqtt": {"commands": ["rollback", "confirm", "channel", "restart"]}}) == []
    for wrong in ("restart", ["check"], [1], {"restart": True}):
        assert _keys({**both, "mqtt": {"commands": wrong}}) == ["mqtt.commands"]


def test_keys_are_pinned_for_both_roles_or_for_each() -> None:
    each = {**OTA, "release_keys": [KEY], "channel_keys": [KEY] * 4}
    assert profile.check({**GOOD, "ota": each}) == []
    assert _keys({**GOOD, "ota": {**each, "public_keys": [KEY]}}) == ["ota.public_keys"]
    assert _keys({**GOOD, "ota": {**each, "channel_keys": []}}) == ["ota.channel_keys"]
    assert _keys({**GOOD, "ota": {**each, "release_keys": [KEY, {}]}}) == ["ota.release_keys[1]"]


@pytest.mark.parametrize("value", ["", "a/b", "..", None, 7, "x" * 65])
def test_a_wrong_short_name_is_named(value: Any) -> None:
    assert _keys({**GOOD, "shortName": value}) == ["shortName"]


def test_the_ota_section_is_needed_only_by_the_ota_module() -> None:
    assert profile.check({"shortName": "door", "activeModules": ["wifi"]}) == []
    assert _keys({"shortName": "door", "activeModules": ["ota"]}) == ["ota"]


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=4)


@given(st.dictionaries(st.text(max_size=12), JSON))
def test_any_object_gives_errors_and_never_an_exception(value: dict[str, Any]) -> None:
    assert profile.check(value)
    profile.check({**GOOD, "ota": value})


# -- what iotctl finds beyond that

SECTIONS = {"wifi": {"ssid": "home"}, "mqtt": {}, "web": {}}
UNKNOWN = [
    ({"wiffi": {}}, "wiffi", "wifi?"), ({"activemodules": []}, "activemodules", "activeModules?"),
    ({"ota": {**OTA, "chanel": "x"}}, "ota.chanel", "ota.channel?"),
    ({"ota": {**OTA, "release_key": []}}, "ota.release_key", "ota.release_keys?"),
    ({"ota": {**OTA, "mip": {"index": "https://a/b", "sha": {}}}}, "ota.mip.sha", "ota.mip.sha256?"),
    ({"mqtt": {"tsl": True}}, "mqtt.tsl", "mqtt.tls?"), ({"web": {"prot": 80}}, "web.prot", "web.port?"),
    ({"wifi": {"pass": "12345678"}}, "wifi.pass", "wifi.password?"),
    ({"wifi": {"zzz": 1}}, "wifi.zzz", "ap_password, password, ssid"),
]  # fmt: skip
WRONG_VALUES: list[tuple[dict[str, Any], str]] = [
    ({"wifi": []}, "wifi"), ({"wifi": {"ssid": 12}}, "wifi.ssid"), ({"wifi": {"ssid": "\u00fc" * 17}}, "wifi.ssid"),
    ({"wifi": {"password": 12345678}}, "wifi.password"), ({"wifi": {"password": "short"}}, "wifi.password"),
    ({"wifi": {"password": "g" * 64}}, "wifi.password"), ({"wifi": {"ap_password": 12345678}}, "wifi.ap_password"),
    ({"wifi": {"ap_password": None}}, "wifi.ap_password"), ({"board": "abacus"}, "board"), ({"board": []}, "board"),
    ({"ota": {**OTA, "url": "http://a b/c"}}, "ota.url"), ({"ota": {**OTA, "url": "http://host:99999/"}}, "ota.url"),
    ({"ota": {**OTA, "url": "https:///firmware"}}, "ota.url"), ({"ota": {**OTA, "url": "http://caf\u00e9/"}}, "ota.url"),
]  # fmt: skip


def _found(folder: Path, value: dict[str, Any]) -> list[profiles.Problem]:
    (folder / "profile.json").write_text(json.dumps(value, ensure_ascii=False))
    return profiles.problems(profiles.read(folder / "profile.json"))


@pytest.mark.parametrize(("change", "key", "nearest"), UNKNOWN)
def test_an_unknown_key_is_told_with_the_nearest_one(tmp_path: Path, change: dict[str, Any], key: str, nearest: str) -> None:
    assert _found(tmp_path, {**GOOD, **SECTIONS, **change}) == [profiles.Problem(key, "is unknown", nearest)]


def test_a_module_that_is_not_there_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    for name, meant in (("serial_lgo", "serial_log?"), ("zzz", "a module with a folder modules/zzz")):
        found = _found(tmp_path, {**GOOD, "activeModules": ["ota", name]})
        assert found == [profiles.Problem("activeModules", f"names {name}", meant)]


@pytest.mark.parametrize(("change", "key"), WRONG_VALUES)
def test_a_value_that_would_strand_a_board_is_named(tmp_path: Path, change: dict[str, Any], key: str) -> None:
    assert [problem.key for problem in _found(tmp_path, {**GOOD, **change})] == [key]


def test_a_profile_of_the_platform_before_is_known_and_says_the_way(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_bytes(origin.tree("http://127.0.0.1:1")["profile.json"])
    result = run("check", path, "--json")
    first = json.loads(result.stdout)["errors"][0]
    assert result.exit_code == 1 and "public-micropython-iot-platform" in first["problem"] and "migration.md" in first["expected"]
    assert "migration.md" in run("build", path, "--version", "1.0.0", "--out", tmp_path / "dist").stderr


def test_good_sections_and_those_of_modules_are_no_problem(tmp_path: Path) -> None:
    (tmp_path / "modules" / "mill").mkdir(parents=True)
    (tmp_path / "modules" / "mill" / "__init__.py").write_text("")
    wifi = {"ssid": "home", "password": "0123456789abcdefABCDEF" + "0" * 42, "ap_password": ""}
    assert _found(tmp_path, {**GOOD, **SECTIONS, "board": "esp32", "wifi": wifi, "mill": {"anything": 1}}) == []


def test_a_module_of_ones_own_checks_its_section(tmp_path: Path) -> None:
    folder = tmp_path / "modules" / "mill"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("import machine\n")
    check = "def check(section):\n    return [] if section else [('mill', 'is missing', 'an object')]\n"
    (folder / "config.py").write_text("from iot_platform.profile import field\n" + check)
    value = {**GOOD, "activeModules": ["ota", "mill"]}
    assert _found(tmp_path, value) == [profiles.Problem("mill", "is missing", "an object")]
    assert _found(tmp_path, {**value, "mill": {"sails": 4}}) == []
    (folder / "config.py").write_text("import abacus\n")
    with pytest.raises(IotctlError, match="config.py: ModuleNotFoundError: No module named 'abacus'"):
        _found(tmp_path, value)


@pytest.mark.parametrize(("text", "says"), [
    (r'"\ud83d\udcf6"', r"has \ud83d\udcf6"), (r'"x\\\ud83d"', r"has \ud83d"), ('"\U0001f4f6 \\u00e9 \\\\ud83d"', ""),
])  # fmt: skip
def test_an_escape_that_a_board_reads_otherwise_is_told_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    good = json.dumps({**GOOD, "mill": {"name": "?"}}, indent=1)
    (tmp_path / "modules" / "mill").mkdir(parents=True)
    (tmp_path / "modules" / "mill" / "__init__.py").write_text("")
    (tmp_path / "profile.json").write_text(good.replace('"?"', text))
    found = profiles.problems(profiles.read(tmp_path / "profile.json"))
    line = good[: good.index('"?"')].count("\n") + 1
    assert all(problem.key == f"line {line}" and problem.problem == says for problem in found) and bool(found) == bool(says)


def test_what_is_no_json_for_a_board_is_refused(tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text('{"shortName": NaN}')
    with pytest.raises(IotctlError, match="is not JSON: it has NaN"):
        profiles.read(tmp_path / "profile.json")
    (tmp_path / "profile.json").write_bytes(b"\xef\xbb\xbf{}")  # as some editors save it
    with pytest.raises(IotctlError, match="begins with a byte order mark"):
        profiles.read(tmp_path / "profile.json")
