"""The list of a release: what is accepted, and every field missing, of the wrong type, huge, negative or named twice."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.ota.bundle import lists
from modules.ota.errors import OtaError
from modules.ota.release import fields, policy
from modules.ota.release.manifest import DIGEST, MAX_FILE, PIECE, entry_line, header_line, parse_entry, parse_header
from modules.ota.release.manifest import HEADER as KEYS

HEADER: dict[str, Any] = {
    "format": 2,
    "name": "sim-board",
    "version": "1.2.3",
    "sequence": 7,
    "micropython": "1.22",
    "mpy": 6,
    "created": 0,
    "expires": None,
    "notes": "",
    "files": 1,
    "size": 3,
    "delete": [],
}
ENTRY = ["main.py", 3, 0]
JUNK: tuple[Any, ...] = (-1, 1 << 60, 1.5, True, [], {}, None, "x" * 5000, "../x", "")


def written(entry: list[Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode()


def test_accepts_a_whole_header_and_entry() -> None:
    assert parse_header(json.dumps(HEADER).encode()) == HEADER
    assert parse_entry(written(ENTRY), None) == ENTRY


@pytest.mark.parametrize("key", HEADER)
def test_refuses_a_header_without_one_of_its_keys(key: str) -> None:
    with pytest.raises(OtaError):
        parse_header(json.dumps({k: v for k, v in HEADER.items() if k != key}))


@pytest.mark.parametrize("n", range(3))
def test_refuses_an_entry_without_one_of_its_fields(n: int) -> None:
    with pytest.raises(OtaError):
        parse_entry(written(ENTRY[:n] + ENTRY[n + 1 :]), None)


ALLOWED = {("expires", None), ("notes", ""), ("micropython", "")}


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
@pytest.mark.parametrize("n", range(3))
def test_refuses_an_entry_with_junk_in_a_field(n: int, value: Any) -> None:
    with pytest.raises(OtaError):
        parse_entry(written([*ENTRY[:n], value, *ENTRY[n + 1 :]]), None)


@pytest.mark.parametrize(
    "line",
    [
        b" %s", b"%s ", b"%s\r", b"%s%s", b"%s,0", b"[%s]", b"%s\0", b"\0%s", b"", b"[]", b"{}", b"null", b"\xff", b'"abcd"',
        b'{"a":1,"b":2,"c":3,"d":4}', b"[" * 200, b"[1,2,3,4",
    ],
)  # fmt: skip
def test_an_entry_is_written_in_one_way_only(line: bytes) -> None:
    good = written(ENTRY)
    others = good.replace(b"m", b"\\u006d"), good.replace(b",", b", "), good.replace(b"3,", b"3.0,")
    for wrong in (line.replace(b"%s", good), *others):
        with pytest.raises(OtaError) as caught:
            parse_entry(wrong, None)
        assert caught.value.reason == "bad_bundle"


def test_refuses_an_unknown_key() -> None:
    for key in ("extra", "base", "tree"):
        with pytest.raises(OtaError):
            parse_header(json.dumps(dict(HEADER, **{key: None})))
    with pytest.raises(OtaError):
        parse_entry(written([*ENTRY, True]), None)


@pytest.mark.parametrize("key", HEADER)
def test_refuses_a_key_that_stands_twice(key: str) -> None:
    text = json.dumps(HEADER)
    with pytest.raises(OtaError):
        parse_header(text[:-1] + ", " + json.dumps({key: HEADER[key]})[1:])


@pytest.mark.parametrize("format", [1, 3, 2.5, "2"])
def test_refuses_another_format(format: object) -> None:
    with pytest.raises(OtaError) as caught:
        parse_header(json.dumps(dict(HEADER, format=format)))
    assert caught.value.reason == "bad_bundle"


@pytest.mark.parametrize("name", ["/etc", "../x", "prefs.json", ".ota", "boot.py", "ota_boot.py", "os.py", 7])
def test_refuses_a_delete_of_what_must_stay(name: object) -> None:
    with pytest.raises(OtaError):
        parse_header(json.dumps(dict(HEADER, delete=[name])))


@given(st.binary(max_size=300))
def test_garbage_is_refused_with_our_error(raw: bytes) -> None:
    for parse in (parse_header, lambda line: parse_entry(line, None)):
        with pytest.raises(OtaError):
            parse(raw)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_any_json_is_refused_with_our_error(value: object) -> None:
    with pytest.raises(OtaError):
        parse_header(json.dumps(value))


@given(st.dictionaries(st.text(), st.recursive(st.text(), lambda inner: st.dictionaries(st.text(), inner), max_leaves=10)))
def test_counting_members_takes_no_clean_object_for_a_double_one(value: dict[str, Any]) -> None:
    assert fields.load_object(json.dumps(value), "it") == value


@pytest.mark.parametrize("text", ['{"a":' + "[" * 4000, '{"a":[' + "[] " * 1400 + "]}", '{"a":[' + ",".join(["{}"] * 256) + "]}"])
def test_more_lists_and_objects_than_memory_would_hold_are_not_even_read(text: str) -> None:
    for form in (text, text.encode()):
        with pytest.raises(OtaError, match="too many parts"):
            fields.load_object(form, "it")


def test_brackets_in_a_text_are_no_lists() -> None:
    value = {"a": "[{" * 2000, "b": [{}] * 254}
    assert fields.load_object(json.dumps(value), "it") == value


def test_a_rollout_takes_about_its_share_of_boards_and_grows_only() -> None:
    boards = [f"board-{i}" for i in range(2000)]
    offers = [{"sequence": 9, "rollout": {"percent": percent}} for percent in (0, 10, 50, 100)]
    shares = [{b for b in boards if policy.rollout_allows(offer, b)} for offer in offers]
    assert len(shares[0]) == 0 and len(shares[3]) == len(boards)
    assert 140 < len(shares[1]) < 260 and 900 < len(shares[2]) < 1100
    assert shares[1] <= shares[2]


# -- where an entry's file lies


def placed(path: str, size: int, at: int) -> list[Any]:
    return [path, size, at]


def accepted(entry: list[Any], previous: list[Any] | None) -> bool:
    try:
        return bool(parse_entry(written(entry), previous) == entry)
    except OtaError as error:
        assert error.reason == "bad_bundle"
        return False


def test_the_first_file_lies_right_behind_the_head() -> None:
    assert accepted(placed("a", 3, 0), None)
    assert not accepted(placed("a", 3, 1), None)


@pytest.mark.parametrize(
    ("before", "size", "at", "good"),
    [
        (3, 3, 100, True), (3, 3, 101, True), (3, 3, 99, False), (3, 3, 0, False),
        (PIECE, PIECE, 100, True), (PIECE + 1, 3, 100, False), (3, PIECE + 1, 100, False), (MAX_FILE, 0, 100, False),
        (PIECE + 1, PIECE + 1, 101, True), (3, MAX_FILE, 1 << 40, True),
    ],
)  # fmt: skip
def test_places_never_fall_and_a_large_file_shares_its_own_with_nobody(before: int, size: int, at: int, good: bool) -> None:
    assert accepted(placed("b", size, at), placed("a", before, 100)) is good


# -- the lines as they are written


def test_a_reader_of_lists_knows_how_long_a_digest_is_without_their_rules() -> None:
    assert lists.DIGEST == DIGEST == len(hashlib.sha256().digest())


def test_lines_are_read_back_as_they_were_written() -> None:
    header = dict(HEADER, notes='Fixes the "door".', delete=["old.py"], expires=9)
    assert parse_header(header_line(header)[:-1]) == header
    assert list(json.loads(header_line(header))) == KEYS.split() and header_line(header).endswith(b"}\n")
    assert parse_entry(entry_line(*ENTRY)[:-1], None) == ENTRY
    assert entry_line(*ENTRY) == written(ENTRY) + b"\n"


@pytest.mark.parametrize(("before", "path"), [("b", "a"), ("a", "A"), ("a", "a/b")])
def test_entries_come_in_the_order_of_their_paths(before: str, path: str) -> None:
    with pytest.raises(OtaError) as caught:
        parse_entry(written(placed(path, 0, 0)), placed(before, 0, 0))
    assert caught.value.reason == "bad_member"
