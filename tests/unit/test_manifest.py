"""The list of a release: what is accepted, and every field missing, of the wrong type, huge, negative or named twice."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.ota import checks, policy, release
from modules.ota.errors import OtaError
from modules.ota.header import parse_header

DIGEST = "0123456789abcdef" * 4
HEADER: dict[str, Any] = {
    "format": 1,
    "name": "sim-board",
    "version": "1.2.3",
    "sequence": 7,
    "base": None,
    "tree": DIGEST,
    "micropython": "1.22",
    "mpy": 6,
    "created": 0,
    "expires": None,
    "notes": "",
    "files": 1,
    "size": 3,
    "delete": [],
}
ENTRY: dict[str, Any] = {"path": "main.py", "size": 3, "sha256": DIGEST}
JUNK: tuple[Any, ...] = (-1, 1 << 60, 1.5, True, [], {}, None, "x" * 5000, "../x", "")


def test_accepts_a_whole_header_and_entry() -> None:
    assert parse_header(json.dumps(HEADER).encode()) == HEADER
    assert release.parse_entry(json.dumps(ENTRY).encode(), None) == ENTRY


@pytest.mark.parametrize("key", HEADER)
def test_refuses_a_header_without_one_of_its_keys(key: str) -> None:
    with pytest.raises(OtaError):
        parse_header(json.dumps({k: v for k, v in HEADER.items() if k != key}))


@pytest.mark.parametrize("key", ENTRY)
def test_refuses_an_entry_without_one_of_its_keys(key: str) -> None:
    with pytest.raises(OtaError):
        release.parse_entry(json.dumps({k: v for k, v in ENTRY.items() if k != key}), None)


ALLOWED = {("base", None), ("expires", None), ("notes", ""), ("micropython", "")}


@pytest.mark.parametrize("value", JUNK, ids=lambda v: repr(v)[:12])
@pytest.mark.parametrize("key", HEADER)
def test_refuses_a_header_with_junk_in_a_field(key: str, value: Any) -> None:
    if (key == "delete" and value == []) or (not isinstance(value, (list, dict)) and (key, value) in ALLOWED):
        return
    if key == "notes" and value == "../x":  # notes are free text
        return
    if key == "format" and value is True:
        return
    with pytest.raises(OtaError):
        parse_header(json.dumps(dict(HEADER, **{key: value})))


@pytest.mark.parametrize("value", JUNK, ids=lambda v: repr(v)[:12])
@pytest.mark.parametrize("key", ENTRY)
def test_refuses_an_entry_with_junk_in_a_field(key: str, value: Any) -> None:
    with pytest.raises(OtaError):
        release.parse_entry(json.dumps(dict(ENTRY, **{key: value})), None)


def test_refuses_an_unknown_key() -> None:
    for value in (dict(HEADER, extra=1),):
        with pytest.raises(OtaError):
            parse_header(json.dumps(value))
    with pytest.raises(OtaError):
        release.parse_entry(json.dumps(dict(ENTRY, patch="x")), None)


@pytest.mark.parametrize("key", HEADER)
def test_refuses_a_key_that_stands_twice(key: str) -> None:
    text = json.dumps(HEADER)
    with pytest.raises(OtaError):
        parse_header(text[:-1] + ", " + json.dumps({key: HEADER[key]})[1:])


@pytest.mark.parametrize("name", ["/etc", "../x", "prefs.json", ".ota", "boot.py", "ota_boot.py", "os.py", 7])
def test_refuses_a_delete_of_what_must_stay(name: object) -> None:
    with pytest.raises(OtaError):
        parse_header(json.dumps(dict(HEADER, delete=[name])))


@given(st.binary(max_size=300))
def test_garbage_is_refused_with_our_error(raw: bytes) -> None:
    for parse in (parse_header, lambda line: release.parse_entry(line, None)):
        with pytest.raises(OtaError):
            parse(raw)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_json_is_refused_with_our_error(value: object) -> None:
    with pytest.raises(OtaError):
        parse_header(json.dumps(value))


@given(st.dictionaries(st.text(), st.recursive(st.text(), lambda inner: st.dictionaries(st.text(), inner))))
def test_counting_members_takes_no_clean_object_for_a_double_one(value: dict[str, Any]) -> None:
    assert checks.load_object(json.dumps(value), "it") == value


def test_a_rollout_takes_about_its_share_of_boards_and_grows_only() -> None:
    boards = [f"board-{i}" for i in range(2000)]
    shares = [{b for b in boards if policy.in_rollout(9, b, percent)} for percent in (0, 10, 50, 100)]
    assert len(shares[0]) == 0 and len(shares[3]) == len(boards)
    assert 140 < len(shares[1]) < 260 and 900 < len(shares[2]) < 1100
    assert shares[1] <= shares[2]
