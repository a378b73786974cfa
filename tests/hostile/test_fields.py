"""Every field of the release header, of an entry and of the channel file: missing, twice, of a wrong type, huge, negative.

All of it correctly signed, and read as a board reads it, so that only the field can be the reason. The pure versions are in
tests/unit/test_release.py and test_channel.py.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from iotctl import keys
from modules.ota import channel
from modules.ota.errors import OtaError
from tests.hostile import forge

FILES = {"a.py": b"1\n", "version": b"1.1.0\n"}
ENTRIES = [forge.entry(path, data) for path, data in sorted(FILES.items())]
LISTED = forge.listing(FILES)
HEADER = json.loads(LISTED.split(b"\n")[0])
WRONG: list[Any] = [
    forge.MISSING, None, True, False, -1, -(1 << 70), 1 << 53, 1 << 70, 1e300, float("nan"), 0.5, "", "x" * 5000, "1", "\0",
    "../x", "1.1.0\n", "ä", [], [1], ["x"] * 65, {}, {"a": 1}, [[[[[]]]]],
]  # fmt: skip
GOOD: dict[str, list[Any]] = {  # of the above, what is a right value there, though another one
    "version": ["1"],
    "base": [None],
    "expires": [None, 1 << 30],
    "notes": ["", "1", "\0", "../x", "1.1.0\n", "ä"],
    "delete": [[]],
    "micropython": ["", "1"],
    "mpy": [],
}


def is_good(field: str, value: Any) -> bool:
    return any(value is good or (type(value) is type(good) and value == good) for good in GOOD.get(field, []))


def refusal(listed: bytes, root: Path) -> str:
    try:
        staged = forge.install(forge.pack(listed, FILES, forge.key(0)), forge.rules(0), root)
    except OtaError as error:
        assert error.kind == "verification"
        return str(error.reason)
    assert staged == FILES
    return ""


@pytest.mark.parametrize("field", HEADER)
def test_a_wrong_field_of_the_header(field: str, tmp_path: Path) -> None:
    for n, value in enumerate(WRONG):
        reason = refusal(forge.listing_of(ENTRIES, {field: value}), tmp_path / str(n))
        assert bool(reason) != is_good(field, value), (field, value, reason)


@pytest.mark.parametrize("field", HEADER)
def test_a_field_of_the_header_that_stands_twice(field: str, tmp_path: Path) -> None:
    for n, second in enumerate((HEADER[field], 0, "x", None)):
        first = LISTED.split(b"\n")[0]
        twice = first[:-1] + b',"%s":%s}' % (field.encode(), json.dumps(second).encode())
        assert refusal(LISTED.replace(first, twice), tmp_path / str(n)) == "bad_bundle"
        hidden = first[:-1] + b',"\\u%04x%s":%s}' % (ord(field[0]), field[1:].encode(), json.dumps(second).encode())
        assert refusal(LISTED.replace(first, hidden), tmp_path / f"{n}u") == "bad_bundle"


@pytest.mark.parametrize("field", ["path", "size", "sha256"])
def test_a_wrong_field_of_an_entry(field: str, tmp_path: Path) -> None:
    good = forge.entry("a.py", FILES["a.py"])
    last = forge.entry("version", FILES["version"])
    for n, value in enumerate([*WRONG, 3, 1, "b.py", "0" * 64, "A" * 64, "0" * 63]):
        changed = {name: v for name, v in {**good, field: value}.items() if v is not forge.MISSING}
        assert refusal(forge.listing_of([changed, last]), tmp_path / str(n)), (field, value)
    assert refusal(forge.listing_of([{**good, "excluded": True}, last]), tmp_path / "x") == "bad_bundle"
    assert refusal(forge.listing_of([{**good, "mode": 0}, last]), tmp_path / "y") == "bad_bundle"


@pytest.mark.parametrize(
    "listed",
    [
        LISTED[:-1],
        LISTED + b"\n",
        LISTED + b"{}\n",
        LISTED.replace(b"\n", b"\r\n"),
        LISTED.replace(b"\n", b" \n", 1)[:-1] + b"\0\n",
        b"\n" + LISTED,
        LISTED.replace(b"\n", b"\n\n"),
        LISTED + b'\n{"path":"../x","size":0,"sha256":""}\n',
        LISTED.replace(b'"notes":""', b'"notes":"\xff"'),
        LISTED.replace(b'"notes":""', b'"notes":' + b"[" * 3000 + b"]" * 3000),
        LISTED.replace(b'"notes":""', b'"notes":"' + b"x" * 100_000 + b'"'),
        LISTED.replace(b'"notes":""', b'"notes":' + b"[" * 700 + b"]" * 700),
        LISTED.replace(b'"sequence":', b'"sequence":' + b"1" * 3000),
        b"[" * 4000 + b"\n",
        b"1\n",
        b"null\n",
        b"\n" * 1000,
        b"x" * 100_000,
    ],
)  # fmt: skip
def test_a_list_that_is_no_list(listed: bytes, tmp_path: Path) -> None:
    reason = refusal(listed, tmp_path)
    if b"\r" in listed:
        assert reason == ""  # JSON's own white space
    else:
        assert reason == "bad_bundle"


@pytest.mark.parametrize(
    "name", ["/a", "../a", "", ".", "prefs.json", "Prefs.json", ".ota", "boot.py", "ota_boot.py", "os.py", "a b", "crash.log"]
)
def test_a_delete_that_names_what_must_stay(name: str, tmp_path: Path) -> None:
    assert refusal(forge.listing(FILES, delete=[name]), tmp_path) in ("bad_path", "protected_path")


# -- the channel file

CHANNEL: dict[str, Any] = {
    "format": 1,
    "name": forge.NAME,
    "channel": "stable",
    "version": "1.1.0",
    "sequence": 1_001_000,
    "published": 1_700_000_000,
    "expires": None,
    "bundle": {"file": "1.1.0.tar.gz", "size": 1000, "sha256": "0" * 64, "unpacked": 2000},
    "deltas": {},
    "rollout": {"percent": 100},
}
GOOD_CHANNEL: dict[str, list[Any]] = {
    "version": ["1"],
    "name": ["1"],
    "channel": ["1"],
    "expires": [forge.MISSING, None],
    "deltas": [forge.MISSING, {}],
    "rollout": [forge.MISSING],
}


def channel_refusal(line: bytes, signer: int = 0) -> str:
    raw = line + b"\n" + base64.b64encode(keys.sign(forge.key(signer), line)) + b"\n"
    try:
        value = channel.parse(raw, forge.pinned(0))
        channel.check(value, forge.NAME, "stable", 0, None)
    except OtaError as error:
        assert error.kind == "verification" or error.reason == "too_large"
        return str(error.reason)
    return ""


def dumped(value: dict[str, Any]) -> bytes:
    return json.dumps({name: v for name, v in value.items() if v is not forge.MISSING}).encode()


def test_the_true_channel_file_is_taken() -> None:
    assert channel_refusal(dumped(CHANNEL)) == ""
    assert channel_refusal(dumped(CHANNEL), signer=1) == "bad_signature"


@pytest.mark.parametrize("field", CHANNEL)
def test_a_wrong_field_of_the_channel_file(field: str) -> None:
    for value in WRONG:
        good = any(value is g or (type(value) is type(g) and value == g) for g in GOOD_CHANNEL.get(field, []))
        good = good and field not in ("name", "channel")
        assert bool(channel_refusal(dumped({**CHANNEL, field: value}))) != good, (field, value)


@pytest.mark.parametrize("field", ["file", "size", "sha256", "unpacked"])
def test_a_wrong_field_of_the_announced_bundle(field: str) -> None:
    goods: dict[str, list[Any]] = {"file": ["1"], "unpacked": [forge.MISSING]}
    good = goods.get(field, [])
    wrong = [value for value in WRONG if value not in good]
    for value in [*wrong, *(["/etc/passwd", "..", "a/b", "http://x/"] if field == "file" else [])]:
        for place in ("bundle", "deltas"):
            inner = {name: v for name, v in {**CHANNEL["bundle"], field: value}.items() if v is not forge.MISSING}
            changed = {**CHANNEL, place: inner if place == "bundle" else {"1.0.0": inner}}
            assert channel_refusal(dumped(changed)) in ("bad_channel", "too_large"), (place, field, value)


@pytest.mark.parametrize("field", CHANNEL)
def test_a_field_of_the_channel_file_that_stands_twice(field: str) -> None:
    line = dumped(CHANNEL)
    assert channel_refusal(line[:-1] + b', "%s": %s}' % (field.encode(), json.dumps(CHANNEL[field]).encode())) == "bad_channel"


@pytest.mark.parametrize("percent", [-1, 101, 1e9, "100", None, True, [100], 99.5])
def test_a_rollout_that_is_no_percentage(percent: Any) -> None:
    assert channel_refusal(dumped({**CHANNEL, "rollout": {"percent": percent}})) == "bad_channel"
