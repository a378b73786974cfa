"""Every field of the release header, of an entry and of the channel file: missing, twice, of a wrong type, huge, negative.

All of it correctly signed, and read as a board reads it, so that only the field can be the reason. Each table is read twice: on
CPython, as iotctl does, and by MicroPython on a simulated board, whose JSON reader takes much that CPython's refuses. The pure
versions are in tests/unit/test_manifest.py and test_channel.py.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from iotctl import ROOT, keys
from iotctl.board_code import finish
from modules.ota.errors import OtaError
from modules.ota.release import channel
from tests.support import forge
from tests.support.driver import new_board, run


class Case(NamedTuple):
    """What is read, and what must come of it: a reason, "" when it must be taken, or ANY reason."""

    what: str
    data: bytes
    wanted: str


ANY = "refused for whatever reason"
TWICE = (b'%s,"%s":%s}', b'%s,"%s",%s}', b'%s "%s" %s}', b'%s}\0,"%s":%s}')  # one more name and value in an object
FILES = {"a.py": b"1\n", "version": b"1.1.0\n"}
ENTRIES = forge.Forgery(FILES).entries
LISTED = forge.listing(FILES)
FIRST = LISTED.split(b"\n")[0]
HEADER = json.loads(FIRST)
WRONG: list[Any] = [
    forge.MISSING, None, True, False, -1, -(1 << 70), 1 << 53, 1 << 70, 1e300, float("nan"), 0.5, "", "x" * 5000, "1", "\0",
    "../x", "1.1.0\n", "ä", [], [1], ["x"] * 65, {}, {"a": 1}, [[[[[]]]]],
]  # fmt: skip
GOOD: dict[str, list[Any]] = {  # of the above, what is a right value there, though another one
    "version": ["1"],
    "expires": [None, 1 << 30],
    "notes": ["", "1", "\0", "../x", "1.1.0\n", "ä"],
    "delete": [[]],
    "micropython": ["", "1"],
    "mpy": [],
}


def is_one_of(value: Any, good: list[Any]) -> bool:
    return any(value is g or (type(value) is type(g) and value == g) for g in good)


def without_missing(value: dict[str, Any]) -> dict[str, Any]:
    return {name: v for name, v in value.items() if v is not forge.MISSING}


# -- lists: what stands in `.release`


def wrong_header_fields() -> Iterator[Case]:
    for field in HEADER:
        for value in WRONG:
            good = is_one_of(value, GOOD.get(field, []))
            yield Case(f"{field} = {value!r:.30}", forge.listing_of(ENTRIES, {field: value}), "" if good else ANY)


def header_fields_that_stand_twice() -> Iterator[Case]:
    """The second one also escaped, and with what MicroPython takes for a colon: JSON readers keep the last one."""
    for field in HEADER:
        escaped = "\\u%04x%s" % (ord(field[0]), field[1:])
        for second in (HEADER[field], 0, "x", None):
            value = json.dumps(second).encode()
            for name in (field, escaped):
                for form in TWICE:
                    twice = form % (FIRST[:-1], name.encode(), value)
                    yield Case(f"{form!r} {name} {value!r:.30}", LISTED.replace(FIRST, twice), "bad_bundle")
        before = b'{"%s":%s,' % (field.encode(), json.dumps(HEADER[field]).encode()) + FIRST[1:]
        yield Case(f"{field} in front", LISTED.replace(FIRST, before), "bad_bundle")


def wrong_entry_fields() -> Iterator[Case]:
    good, last = ENTRIES
    for field in ("path", "size", "at"):
        for value in [*WRONG, 3, 1, "b.py", "0" * 64]:
            changed = without_missing({**good, field: value})
            yield Case(f"{field} = {value!r:.30}", forge.listing_of([changed, last]), ANY)


def wrong_digests() -> Iterator[Case]:
    """They are what is left behind the last line: 32 bytes a file, no more and no less."""
    right, digests = LISTED[:-64], LISTED[-64:]
    text = base64.b64encode(digests)
    for what, other, wanted in (
        ("none", b"", "bad_bundle"),
        ("one", digests[:32], "bad_bundle"),
        ("a byte too few", digests[:-1], "bad_bundle"),
        ("a byte too many", digests + b"\0", "bad_bundle"),
        ("a line end behind them", digests + b"\n", "bad_bundle"),
        ("a line end before them", b"\n" + digests, "bad_bundle"),
        ("one too many", digests + digests[:32], "bad_bundle"),
        ("an entry in their place", b'["z",0,1000]\n'.ljust(64), "bad_digest"),
        ("an entry before them", b'["z",0,1000]\n' + digests, "bad_bundle"),
        ("base64", text, "bad_bundle"),
        ("base64 in a line", text + b"\n", "bad_bundle"),
        ("base64 as long as they are", text[:64], "bad_digest"),
        ("hexadecimal", digests.hex().encode(), "bad_bundle"),
        ("zeros, as for what a profile excludes", bytes(64), "bad_digest"),
        ("line ends", b"\n" * 64, "bad_digest"),
        ("in another order", digests[32:] + digests[:32], "bad_digest"),
        ("one twice", digests[:32] * 2, "bad_digest"),
        ("one bit", digests[:-1] + bytes((digests[-1] ^ 1,)), "bad_digest"),
    ):
        yield Case(what, right + other, wanted)
    for n in (0, 1, 3, 5000):
        yield Case(f"of {n} files", LISTED.replace(b'"files":2', b'"files":%d' % n), "bad_bundle")
    in_line = LISTED.replace(b'["a.py",2,0]', b'["a.py",2,"%s",0]' % text[:44])
    yield Case("one in its line as well", in_line, "bad_bundle")


def more_in_entries() -> Iterator[Case]:
    good, last = ENTRIES
    for more in ("excluded", "mode", "base"):
        yield Case(f"with {more}", forge.listing_of([{**good, more: 1}, last]), "bad_bundle")


def lists_that_are_none() -> Iterator[Case]:
    notes = b'"notes":""'
    for what, listed, wanted in (
        ("no last line end", LISTED[:-1], "bad_bundle"),
        ("an empty last line", LISTED + b"\n", "bad_bundle"),
        ("an empty object", LISTED + b"{}\n", "bad_bundle"),
        ("CR LF: JSON's own white space", LISTED.replace(b"\n", b"\r\n"), "bad_bundle"),
        ("an empty first line", b"\n" + LISTED, "bad_bundle"),
        ("empty lines", LISTED.replace(b"\n", b"\n\n"), "bad_bundle"),
        ("an entry behind an empty line", LISTED + b'\n["../x",0,"",0]\n', "bad_bundle"),
        ("no UTF-8", LISTED.replace(notes, b'"notes":"\xff"'), "bad_bundle"),
        ("3,000 brackets", LISTED.replace(notes, b'"notes":' + b"[" * 3000 + b"]" * 3000), "bad_bundle"),
        ("700 brackets", LISTED.replace(notes, b'"notes":' + b"[" * 700 + b"]" * 700), "bad_bundle"),
        ("a long text", LISTED.replace(notes, b'"notes":"' + b"x" * 100_000 + b'"'), "bad_bundle"),
        ("a long number", LISTED.replace(b'"sequence":', b'"sequence":' + b"1" * 3000), "bad_bundle"),
        ("brackets alone", b"[" * 4000 + b"\n", "bad_bundle"),
        ("empty lists alone", b"[" + b"[]" * 2000 + b"\n", "bad_bundle"),
        ("a number", b"1\n", "bad_bundle"),
        ("null", b"null\n", "bad_bundle"),
        ("line ends", b"\n" * 1000, "bad_bundle"),
        ("a long line", b"x" * 100_000, "bad_bundle"),
    ):
        yield Case(what, listed, wanted)


def lists_that_are_almost_json() -> Iterator[Case]:
    """CPython refuses them. MicroPython takes some, and reads nothing else in them than what the owner has signed: harmless."""
    for what, changed in (
        ("a NUL at the end", FIRST + b"\0"),
        ("no brace at the end", FIRST[:-1]),
        ("a comma at the end", FIRST[:-1] + b",}"),
        ("a comma for a colon", FIRST.replace(b'"files":', b'"files",')),
        ("a space for a comma", FIRST.replace(b',"files"', b' "files"')),
        ("a name that is null", FIRST[:-1] + b",null:1}"),
        ("a name that is a number", FIRST[:-1] + b",1:2}"),
        ("a zero in front", FIRST.replace(b'"format":2', b'"format":02')),
        ("an escape that there is not", FIRST.replace(b'"notes":""', b'"notes":"\\x"')),
        ("a tab in a text", FIRST.replace(b'"notes":""', b'"notes":"\t"')),
        ("quotes of another kind", FIRST.replace(b'"notes"', b"'notes'")),
        ("two objects", FIRST + FIRST),
        ("a second object behind a NUL", FIRST + b"\0" + FIRST),
    ):
        yield Case(what, LISTED.replace(FIRST, changed), "bad_bundle")


def deletes_that_name_what_must_stay() -> Iterator[Case]:
    for name in ("prefs.json", "Prefs.json", ".ota", "boot.py", "ota_boot.py", "os.py", "crash.log"):
        yield Case(name, forge.listing(FILES, delete=[name]), "protected_path")
    for name in ("/a", "../a", "", ".", "a b"):
        yield Case(name, forge.listing(FILES, delete=[name]), "bad_path")


LISTS = {
    "wrong header fields": wrong_header_fields,
    "header fields that stand twice": header_fields_that_stand_twice,
    "wrong entry fields": wrong_entry_fields,
    "wrong digests": wrong_digests,
    "more in entries": more_in_entries,
    "lists that are none": lists_that_are_none,
    "lists that are almost JSON": lists_that_are_almost_json,
    "deletes that name what must stay": deletes_that_name_what_must_stay,
}

# -- channel files: their first line

CHANNEL: dict[str, Any] = {
    "format": 2,
    "name": forge.NAME,
    "channel": "stable",
    "version": "1.1.0",
    "sequence": 1_001_000,
    "published": 1_700_000_000,
    "expires": None,
    "notes": "New.",
    "bundle": {"file": "1.1.0.tar.gz", "size": 1000, "head": 500, "sha256": "0" * 64},
    "rollout": {"percent": 100},
}
GOOD_CHANNEL: dict[str, list[Any]] = {
    "version": ["1"],
    "expires": [forge.MISSING, None],
    "notes": ["", "1", "\0", "../x", "1.1.0\n", "ä"],
    "rollout": [forge.MISSING],
}
GOOD_BUNDLE: dict[str, list[Any]] = {"file": ["1"]}


def dumped(value: dict[str, Any]) -> bytes:
    return json.dumps(without_missing(value)).encode()


def true_channel_files() -> Iterator[Case]:
    yield Case("the true one", dumped(CHANNEL), "")


def wrong_channel_fields() -> Iterator[Case]:
    for field in CHANNEL:
        for value in WRONG:
            good = is_one_of(value, GOOD_CHANNEL.get(field, []))
            yield Case(f"{field} = {value!r:.30}", dumped({**CHANNEL, field: value}), "" if good else ANY)


def wrong_fields_of_the_announced_bundle() -> Iterator[Case]:
    for field in CHANNEL["bundle"]:
        for value in [*WRONG, "/etc/passwd", "..", "a/b", "http://x/", *((0, 1000, 1001) if field == "head" else (0, 499, 500))]:
            if is_one_of(value, GOOD_BUNDLE.get(field, [])):
                continue
            wrong = without_missing({**CHANNEL["bundle"], field: value})
            what = f"{field} = {value!r:.30}"
            yield Case(what, dumped({**CHANNEL, "bundle": wrong}), "too_large" if value == "x" * 5000 else "bad_channel")


def channel_fields_that_stand_twice() -> Iterator[Case]:
    line = dumped(CHANNEL)
    for field in CHANNEL:
        for second in (CHANNEL[field], 0, "x", None):
            for form in TWICE:
                twice = form % (line[:-1], field.encode(), json.dumps(second).encode())
                yield Case(f"{form!r} {field} {second!r:.30}", twice, "bad_channel")
        escaped = b', "\\u%04x%s": 0}' % (ord(field[0]), field[1:].encode())
        yield Case(f"{field}, escaped", line[:-1] + escaped, "bad_channel")
    for field in CHANNEL["bundle"]:
        inner = json.dumps(CHANNEL["bundle"])
        doubled = inner[:-1] + f', "{field}": {json.dumps(CHANNEL["bundle"][field])}}}'
        yield Case(f"bundle.{field}", line.replace(inner.encode(), doubled.encode()), "bad_channel")
    yield Case("hidden by a name that is no text", line[:-1] + b', "name": "sim-board", 1: 2}', "bad_channel")
    yield Case("a name that is no text", line[:-1] + b", null: 2}", "bad_channel")
    yield Case("text behind NUL", line + b'\0{"name": 2}', "bad_channel")
    yield Case("nothing but NUL", line[:-1] + b"\0}", "bad_channel")
    yield Case("rollout.percent", line.replace(b'"percent": 100', b'"percent": 0, "percent": 100'), "bad_channel")


def rollouts_that_are_no_percentage() -> Iterator[Case]:
    for percent in (-1, 101, 1e9, "100", None, True, [100], 99.5):
        yield Case(repr(percent), dumped({**CHANNEL, "rollout": {"percent": percent}}), "bad_channel")
    names: tuple[Any, ...] = ({"../house": 1}, {"": 1}, {"x" * 65: 1})
    for groups in ([], "house", None, {"a": "1"}, {"a": 101}, {"a": True}, {"a": [1]}, *names):
        yield Case(repr(groups), dumped({**CHANNEL, "rollout": {"percent": 1, "groups": groups}}), "bad_channel")


CHANNELS = {
    "true channel files": true_channel_files,
    "wrong channel fields": wrong_channel_fields,
    "wrong fields of the announced bundle": wrong_fields_of_the_announced_bundle,
    "channel fields that stand twice": channel_fields_that_stand_twice,
    "rollouts that are no percentage": rollouts_that_are_no_percentage,
}


def signed_channel(line: bytes, signer: int = 0) -> bytes:
    return line + b"\n" + base64.b64encode(keys.sign(forge.key(signer), line)) + b"\n"


def judge(case: Case, reason: str) -> None:
    assert reason == case.wanted or (reason and case.wanted == ANY), (case.what, reason)


# -- on CPython


@pytest.mark.parametrize("table", LISTS)
def test_cpython_refuses(table: str, tmp_path: Path) -> None:
    for n, case in enumerate(LISTS[table]()):
        try:
            staged = forge.install(forge.pack(case.data, FILES, forge.key(0)), forge.rules(0), tmp_path / str(n))
        except OtaError as error:
            assert error.kind in ("damage", "verification"), case.what
            judge(case, error.reason)
        else:
            judge(case, "")
            assert staged == FILES


def channel_refusal(raw: bytes) -> str:
    try:
        channel.check(finish(channel.parse(raw, forge.pinned(0))), forge.NAME, "stable", 0, None)
    except OtaError as error:
        assert error.kind in ("damage", "verification") or error.reason in ("too_large", "bad_response")
        return str(error.reason)
    return ""


@pytest.mark.parametrize("table", CHANNELS)
def test_cpython_refuses_in_channel_files(table: str) -> None:
    for case in CHANNELS[table]():
        judge(case, channel_refusal(signed_channel(case.data)))


def test_a_channel_file_of_another_key_is_refused() -> None:
    assert channel_refusal(signed_channel(dumped(CHANNEL), signer=1)) == "bad_signature"


# -- on MicroPython

_READ = (ROOT / "tests/support/visitor.py").read_text() + """
import gc
import ota_boot
from modules.ota.bundle import reader
from modules.ota.release import channel, manifest, policy, signature

accepted = lambda header: policy.check(header, "sim-board")
view = memoryview(bytearray(1024))

class Memory:
    head = None
    def __init__(self, data):
        self.data, self.size = data, len(data)
    def go(self, begin, end):
        self.at = begin
        yield
    def read_into(self, view):
        part = self.data[self.at : self.at + len(view)]
        view[: len(part)] = part
        self.at += len(part)
        yield
        return len(part)

def read(data):
    if VALUES["what"] == "channels":
        channel.check(finish(channel.parse(data, VALUES["keys"])), "sim-board", "stable", 0, None)
    else:
        source = Memory(data)
        digest, signed, base = finish(reader.read_head(source, view))
        finish(signature.checking(digest, signed, VALUES["keys"]))
        with open(ota_boot.ota("list"), "rb") as f:
            finish(manifest.check(f, accepted))
        finish(reader.read_files(source, base, view, TakesAll()))

reasons = []
with open("/cases", "rb") as f:
    for size in VALUES["sizes"]:
        try:
            read(f.read(size))
            reasons.append(["", ""])
        except OtaError as error:
            reasons.append([error.reason, error.kind])
        except Exception as error:
            reasons.append(["!" + repr(error), ""])
        gc.collect()
return reasons
"""


def on_a_board(folder: Path, what: str, data: list[bytes]) -> list[tuple[str, str]]:
    """What MicroPython says to each of these bundles or channel files: a reason and its kind, "" where it is taken."""
    board = new_board(folder / "board.img", heap="192k", fs="fat")  # the quick one, where it is never memory that is the reason
    board.write({"cases": b"".join(data)})
    reasons = run(board, _READ, what=what, keys=forge.pinned(0), sizes=[len(piece) for piece in data])
    assert len(reasons) == len(data)
    return [(reason, kind) for reason, kind in reasons]


@pytest.mark.parametrize("table", LISTS)
def test_micropython_refuses(table: str, tmp_path: Path) -> None:
    cases = list(LISTS[table]())
    packed = [forge.pack(case.data, FILES, forge.key(0)) for case in cases]
    for case, (reason, kind) in zip(cases, on_a_board(tmp_path, "lists", packed), strict=True):
        if reason or table != "lists that are almost JSON":
            judge(case, reason)
        assert kind in (("damage", "verification") if reason else ("",)), case.what


@pytest.mark.parametrize("table", CHANNELS)
def test_micropython_refuses_in_channel_files(table: str, tmp_path: Path) -> None:
    cases = list(CHANNELS[table]())
    answers = on_a_board(tmp_path, "channels", [signed_channel(case.data) for case in cases])
    for case, (reason, kind) in zip(cases, answers, strict=True):
        judge(case, reason)
        assert kind in (("damage", "verification", "transport") if reason else ("",)), case.what
