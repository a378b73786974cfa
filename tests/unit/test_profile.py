"""Every key of a profile, missing or wrong, is named together with the form that is expected."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iot_platform import profile

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
