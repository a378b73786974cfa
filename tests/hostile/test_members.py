"""Bundles whose members or names are not what they should be, each signed with the right key so that only that is wrong."""

from __future__ import annotations

import gzip
import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iotctl import keys
from modules.ota.errors import OtaError
from modules.ota.release import paths, signature
from sim.board import Board
from tests.support import forge
from tests.support.driver import new_board, run
from tests.support.forge import Forgery, tar_member

# In order: a group of two files, a file of three pieces, and the version alone: not quite as the header says it, so it is read.
FILES = {"a.py": b"1\n", "lib/b.py": b"2" * 700, "lib/big.bin": bytes(range(256)) * 300, "version": b"1.1.0"}
SMALL = {path: FILES[path] for path in ("a.py", "lib/b.py")}
LISTED = forge.listing(FILES)
HEAD = forge.head(LISTED, forge.key(0))
BIG = FILES["lib/big.bin"]


def refusal(data: bytes, root: Path, *numbers: int, **changes: Any) -> str:
    """Why a board that pins these keys (without one: key 0) refuses the bundle; "" when it takes it."""
    try:
        staged = forge.install(data, forge.rules(*numbers or (0,), **changes), root)
    except OtaError as error:
        assert error.kind in ("damage", "verification") or error.reason in ("too_large", "no_space")
        return str(error.reason)
    assert staged == FILES
    return ""


def forged(change: Callable[[Forgery], Any], place: bool = True) -> bytes:
    """The true bundle with a change; the list says where its groups are then, unless `place` is False."""
    made = Forgery(FILES)
    change(made)
    if place:
        made.place()
    return made.pack(forge.key(0))


def plain(packed: list[bytes]) -> bytes:
    """What a group's members unpack to."""
    return b"".join(map(gzip.decompress, packed))


def group(made: Forgery, n: int, *parts: bytes) -> None:
    """Other gzip members in the place of group n."""
    made.groups[n].packed = [forge.gzip(part) for part in parts]


def head_refusal(members: forge.Members, root: Path, files: dict[str, bytes] = FILES) -> str:
    return refusal(forge.pack_members(members, files), root)


def test_the_true_bundle_is_taken(tmp_path: Path) -> None:
    assert refusal(Forgery(FILES).pack(forge.key(0)), tmp_path) == ""
    made = Forgery(FILES)
    assert [[e["path"] for e in g.entries] for g in made.groups] == [["a.py", "lib/b.py"], ["lib/big.bin"], ["version"]]
    assert [len(g.packed) for g in made.groups] == [1, 3, 1]
    unpacked = gzip.decompress(made.pack(forge.key(0)))
    assert unpacked == forge.tar(HEAD + list(FILES.items()))


@pytest.mark.parametrize("told", [b"1.1.0\n", b"1.1.0", b"1.1.1\n", b""])
def test_the_version_is_what_the_list_says_whatever_the_header_says(told: bytes, tmp_path: Path) -> None:
    """Where both say the same nobody reads the archive for it; what is in there instead comes nowhere."""
    files, wrong = {**SMALL, "version": told}, {**SMALL, "version": b"9" * len(told)}
    assert forge.install(forge.pack(forge.listing(files), files), forge.rules(), tmp_path / "right") == files
    made = forge.pack(forge.listing(files), wrong)
    if told == b"1.1.0\n" or not told:
        assert forge.install(made, forge.rules(), tmp_path / "wrong") == files
    else:
        with pytest.raises(OtaError, match="version is not what was announced"):
            forge.install(made, forge.rules(), tmp_path / "wrong")


A, B = (tar_member(*member) for member in SMALL.items())
WITH_A: dict[str, tuple[bytes, str]] = {
    # in the place of the first group's only member; everything else fits
    "out of order": (B + A, "bad_member"),
    "repeated": (A + A + B, "bad_member"),
    "repeated at the end": (A + B + B, "bad_bundle"),
    "an extra file": (A + B + tar_member("x.py", b""), "bad_bundle"),
    "an extra file at the beginning": (tar_member("0.py", b"") + A + B, "bad_member"),
    "the second one missing": (A, "bad_member"),
    "the first one missing": (B, "bad_member"),
    "none at all": (b"", "bad_member"),
    "a folder": (tar_member("lib/", b"", kind=b"5") + A + B, "bad_member"),
    "other content": (tar_member("a.py", b"2\n") + B, "bad_digest"),
    "a shorter file": (tar_member("a.py", b"1") + B, "bad_member"),
    "a longer file": (tar_member("a.py", b"1\n1") + B, "bad_member"),
    "another case": (tar_member("A.py", b"1\n") + B, "bad_member"),
    "./": (tar_member("./a.py", b"1\n") + B, "bad_member"),
    "absolute": (tar_member("/a.py", b"1\n") + B, "bad_member"),
    "a name behind a NUL": (tar_member("a.py\0x", b"1\n") + B, "bad_member"),
    "a name that is no text": (tar_member(b"\xff.py", b"1\n") + B, "bad_bundle"),
    "a prefix": (tar_member("a.py", b"1\n", prefix=b"lib") + B, "bad_member"),
    "a link's target": (tar_member("a.py", b"1\n", link=b"/prefs.json") + B, "bad_member"),
    "no ustar": (tar_member("a.py", b"1\n", magic=bytes(8)) + B, "bad_bundle"),
    "GNU's magic": (tar_member("a.py", b"1\n", magic=b"ustar  \0") + B, ""),
    "a wrong checksum": (tar_member("a.py", b"1\n", checksum=b"000000\0 ") + B, "bad_bundle"),
    "a checksum that is no number": (tar_member("a.py", b"1\n", checksum=b"xxxxxxxx") + B, "bad_bundle"),
    "no checksum": (tar_member("a.py", b"1\n", checksum=b"") + B, "bad_bundle"),
    "a negative checksum": (tar_member("a.py", b"1\n", checksum=b"-1") + B, "bad_bundle"),
    "no header": (bytes(512) + A[512:] + B, "bad_bundle"),
    "a header in the padding": (A[:514] + bytes(510) + A + B, "bad_member"),
    "cut short within a header": (A[:100], "bad_bundle"),
    "cut short within a file": (A + B[:700], "bad_bundle"),
    "cut short within the padding": (A + B[:1500], "bad_bundle"),
    "a byte too many": (A + B + b"\0", "bad_bundle"),
    "a block too many": (A + B + bytes(512), "bad_bundle"),
    "padding that is not empty": (A[:-1] + b"x" + B, ""),  # nobody looks at it, and it goes nowhere
}


@pytest.mark.parametrize("what", WITH_A)
def test_a_group_must_be_what_the_list_says(what: str, tmp_path: Path) -> None:
    data, reason = WITH_A[what]
    assert refusal(forged(lambda made: group(made, 0, data)), tmp_path) == reason


@pytest.mark.parametrize(
    "size", [b"-0000000002\0", b"-2", b"+2", b"0_2", b" 2", b"\t2", b"0o2", b"0x2", b"", b"2x", b"\x80\0\0\0\0\0\0\0\0\0\0\2"]
)
@pytest.mark.parametrize("name", ["a.py", ".release", ".release.sig"])
def test_a_size_that_is_no_octal_number(name: str, size: bytes, tmp_path: Path) -> None:
    """A copy of less than nothing would never end."""
    bad = forge.header(name, size) + bytes(4096)
    if name == "a.py":
        data = forged(lambda made: group(made, 0, bad))
    else:
        before = [] if name == ".release" else HEAD[:1]
        data = forge.gzip(b"".join(tar_member(*member) for member in before) + bad) + Forgery(FILES).body
    assert refusal(data, tmp_path) in ("bad_bundle", "bad_signature" if name == ".release.sig" else "bad_member")


@pytest.mark.parametrize("kind", list(b"1234567gxKLSV\x7f"))
@pytest.mark.parametrize("where", [0, 1, 2])
def test_links_devices_and_extensions_are_refused(kind: int, where: int, tmp_path: Path) -> None:
    """In the place of the list, of the signature, and of a file."""
    strange = forge.header((".release", ".release.sig", "a.py")[where], 0, bytes((kind,)), link=b"/prefs.json")
    if where == 2:
        data = forged(lambda made: group(made, 0, strange + B))
    else:
        data = forge.gzip(b"".join(tar_member(*member) for member in HEAD[:where]) + strange) + Forgery(FILES).body
    assert refusal(data, tmp_path) in ("bad_bundle", "bad_signature", "bad_member")


@pytest.mark.parametrize("kind", [b"0", b"\0"])
def test_both_types_of_a_regular_file_are_taken(kind: bytes, tmp_path: Path) -> None:
    assert refusal(forged(lambda made: group(made, 0, tar_member("a.py", b"1\n", kind=kind) + B)), tmp_path) == ""


# -- the head


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        pytest.param(HEAD[::-1], "bad_bundle", id="the signature first"),
        pytest.param(HEAD[:1], "no_signature", id="no signature"),
        pytest.param(HEAD[:1] * 2 + HEAD[1:], "bad_signature", id="the list twice"),
        pytest.param(HEAD + HEAD[1:], "bad_bundle", id="the signature twice"),
        pytest.param([*HEAD, ("a.py", b"1\n")], "bad_bundle", id="a file behind the signature"),
        pytest.param([HEAD[0], ("a.py", b"1\n"), HEAD[1]], "bad_signature", id="a file in front of the signature"),
        pytest.param([("a.py", b"1\n"), *HEAD], "bad_bundle", id="a file in front of the list"),
        pytest.param([(".release", LISTED + b"\n"), HEAD[1]], "bad_signature", id="a longer list"),
        pytest.param([(".RELEASE", LISTED), HEAD[1]], "bad_bundle", id="a list of another name"),
        pytest.param([HEAD[0], (".release.sig/", HEAD[1][1])], "bad_signature", id="a signature of another name"),
        pytest.param([], "bad_bundle", id="empty"),
        pytest.param([(".release", b""), HEAD[1]], "bad_signature", id="an empty list"),
        pytest.param(forge.head(b"", forge.key(0)), "bad_bundle", id="an empty list, signed"),
        pytest.param([(".release", b"{}\n" * 500_000), HEAD[1]], "too_large", id="a huge list"),
    ],
)
def test_the_head_must_be_a_list_and_its_signature(members: forge.Members, reason: str, tmp_path: Path) -> None:
    assert head_refusal(members, tmp_path) == reason


def test_no_head_at_all(tmp_path: Path) -> None:
    assert refusal(Forgery(FILES).body, tmp_path) == "bad_bundle"


def whole() -> bytes:
    return b"".join(tar_member(*member) for member in HEAD)


@pytest.mark.parametrize("at", [0, 100, 512, 700, 1000, *range(len(whole()) - 1024, len(whole()), 100), len(whole()) - 1])
def test_a_head_that_is_cut_short_within_a_sound_member(at: int, tmp_path: Path) -> None:
    """Within a header, the list, the signature, and the padding."""
    assert refusal(forge.gzip(whole()[:at]) + Forgery(FILES).body, tmp_path) in ("bad_bundle", "no_signature")


@pytest.mark.parametrize("cut", [512, 700, len(whole()) - 1024, len(whole()) - 512, len(whole()) - 200])
def test_a_head_in_two_members(cut: int, tmp_path: Path) -> None:
    data = forge.gzip(whole()[:cut]) + forge.gzip(whole()[cut:]) + Forgery(FILES).body
    assert refusal(data, tmp_path) in ("bad_bundle", "no_signature")


@pytest.mark.parametrize("more", [b"\0", bytes(512), bytes(1024), tar_member("x.py", b"x"), bytes(1 << 20)])
def test_a_head_that_is_too_long(more: bytes, tmp_path: Path) -> None:
    made = Forgery(FILES)
    made.more = more
    assert refusal(made.pack(forge.key(0)), tmp_path) == "bad_bundle"


@pytest.mark.parametrize("change", [-100, -1, 1, 100])
@pytest.mark.parametrize("longer", [False, True])
def test_a_head_that_is_not_as_long_as_announced(
    change: int, longer: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a channel file announces it; what lies there is a bundle that is right in itself."""
    data = Forgery(FILES, {"notes": os.urandom(900).hex() if longer else ""}).pack(forge.key(0))
    head = len(data) - len(Forgery(FILES).body)
    monkeypatch.setattr(forge.FromFile, "head", head)
    assert refusal(data, tmp_path / "right") == ""
    monkeypatch.setattr(forge.FromFile, "head", head + change)
    assert refusal(data, tmp_path / "wrong") == "bad_bundle"


# -- the chain of gzip members


def at(made: Forgery, path: str, place: Any) -> bool:
    """Let the list say that a file is there."""
    next(found for found in made.entries if found["path"] == path)["at"] = place
    return True


def place_of(n: int) -> int:
    return int(Forgery(FILES).groups[n].entries[0]["at"])


PLACES: dict[str, tuple[Callable[[Forgery], Any], str]] = {
    # the list says, signed, that a group is where it is not
    "one before": (lambda made: at(made, "lib/big.bin", place_of(1) - 1), "bad_member"),
    "one behind": (lambda made: at(made, "lib/big.bin", place_of(1) + 1), "bad_member"),
    "in its neighbour": (lambda made: at(made, "lib/big.bin", 20), "bad_member"),
    "in the middle of a file": (lambda made: at(made, "version", place_of(1) + 200), "bad_member"),
    "at the second piece of a file": (
        lambda made: at(made, "version", len(made.groups[1].packed[0]) + place_of(1)),
        "bad_member",
    ),
    "at the end of the archive": (
        lambda made: at(made, "version", sum(len(p) for g in made.groups for p in g.packed)),
        "bad_member",
    ),
    "beyond the end of the archive": (lambda made: at(made, "version", 10_000_000), "bad_member"),
    "at the largest number there is": (lambda made: at(made, "version", (1 << 53) - 1), "bad_member"),
    "a larger number": (lambda made: at(made, "version", 1 << 53), "bad_bundle"),
    "negative": (lambda made: at(made, "a.py", -1), "bad_bundle"),
    "not at the beginning": (lambda made: [at(made, path, 1) for path in SMALL], "bad_bundle"),
    "falling": (lambda made: at(made, "version", place_of(1) - 1), "bad_bundle"),
    "a large file in a group": (lambda made: [at(made, path, 0) for path in ("lib/big.bin", "version")], "bad_bundle"),
    "two groups as one": (lambda made: at(made, "version", place_of(1)), "bad_bundle"),
    "one group as two": (lambda made: at(made, "lib/b.py", 10), "bad_bundle"),
    "no number": (lambda made: at(made, "version", "1"), "bad_bundle"),
    "true": (lambda made: at(made, "a.py", False), "bad_bundle"),
}


@pytest.mark.parametrize("what", PLACES)
def test_a_group_must_be_where_the_list_says(what: str, tmp_path: Path) -> None:
    assert refusal(forged(PLACES[what][0], place=False), tmp_path) == PLACES[what][1]


def pieces(made: Forgery, *cuts: int) -> None:
    """The large file cut in other places of its tar bytes."""
    data = plain(made.groups[1].packed)
    group(made, 1, *(data[a:b] for a, b in zip((0, *cuts), (*cuts, len(data)), strict=True)))


CHAINS: dict[str, tuple[Callable[[Forgery], Any], str]] = {
    "an empty member between two groups": (lambda made: made.groups[0].packed.append(forge.gzip(b"")), "bad_member"),
    "an empty member in front": (lambda made: made.groups[0].packed.insert(0, forge.gzip(b"")), "bad_member"),
    "an empty member between two pieces": (lambda made: made.groups[1].packed.insert(1, forge.gzip(b"")), "bad_bundle"),
    "junk between two groups": (lambda made: made.groups[0].packed.append(b"junk"), "bad_member"),
    "junk between two pieces": (lambda made: made.groups[1].packed.insert(1, b"junk"), "bad_bundle"),
    "a file too many as a member": (lambda made: made.groups[0].packed.append(forge.gzip(tar_member("x.py", b""))), "bad_member"),
    "a group in two members": (lambda made: group(made, 0, A, B), "bad_member"),
    "a file in two members": (lambda made: group(made, 0, A + B[:600], B[600:]), "bad_bundle"),
    "two pieces in one member": (lambda made: pieces(made, 512 + 65536), "bad_bundle"),
    "pieces of another size": (lambda made: pieces(made, 512 + 10_000, 512 + 40_000), "bad_bundle"),
    "a large file in one member": (lambda made: pieces(made), "bad_bundle"),
    "a tar header in a member of its own": (lambda made: pieces(made, 512, 512 + 32768, 512 + 65536), "bad_bundle"),
    "a piece less": (lambda made: made.groups[1].packed.pop(1), "bad_bundle"),
    "a piece twice": (lambda made: made.groups[1].packed.insert(1, made.groups[1].packed[1]), "bad_bundle"),
    "pieces in another order": (lambda made: made.groups[1].packed.insert(1, made.groups[1].packed.pop()), "bad_bundle"),
    "the first piece again at the end": (lambda made: made.groups[1].packed.append(made.groups[1].packed[0]), "bad_member"),
    "a group less": (lambda made: made.groups[1].packed.clear(), "bad_bundle"),
    "the groups in another order": (lambda made: made.groups[0].packed.insert(0, made.groups[2].packed.pop()), "bad_member"),
    "a window of 32 KiB": (lambda made: one(made, forge.gzip(plain(made.groups[2].packed), says=15, window=15)), "bad_bundle"),
    "a window that is called larger": (lambda made: one(made, forge.gzip(plain(made.groups[2].packed), says=13)), "bad_bundle"),
    "a window of nothing": (lambda made: one(made, forge.gzip(plain(made.groups[2].packed), says=0)), "bad_bundle"),
    "a smaller window": (lambda made: one(made, forge.gzip(plain(made.groups[2].packed), says=9, window=9)), ""),
    "no field of its window": (lambda made: one(made, gzip.compress(plain(made.groups[2].packed))), "bad_bundle"),
    "another field": (lambda made: start(made, 12, b"BW"), "bad_bundle"),
    "a longer field": (lambda made: start(made, 10, b"\6"), "bad_bundle"),
    "a name as well": (lambda made: start(made, 3, b"\x0c"), "bad_bundle"),
    "another method": (lambda made: start(made, 2, b"\7"), "bad_bundle"),
    "a time": (lambda made: start(made, 4, b"\1\2\3\4\5\6"), ""),
    "a wrong checksum": (lambda made: one(made, forge.gzip(plain(made.groups[2].packed), tail=bytes(8))), ""),
    "no checksum": (lambda made: one(made, forge.gzip(plain(made.groups[2].packed), tail=b"")), "bad_bundle"),
    "half a checksum": (lambda made: one(made, made.groups[2].packed[0][:-4]), "bad_bundle"),
    "stored, not deflated": (lambda made: one(made, stored(plain(made.groups[2].packed))), ""),
    "deflate that ends too early": (lambda made: one(made, made.groups[2].packed[0][:-12] + bytes(12)), "bad_bundle"),
    "deflate of a kind that there is not": (lambda made: one(made, forge.START + b"\7" * 40), "bad_bundle"),
    "blocks of nothing for ever": (lambda made: one(made, forge.START + b"\0\0\0\xff\xff" * 5000), "bad_bundle"),
    "no end": (lambda made: setattr(made, "end", b""), "bad_bundle"),
    "an end without its checksum": (lambda made: setattr(made, "end", forge.END[:-8]), "bad_bundle"),
    "an end of one block": (lambda made: setattr(made, "end", forge.gzip(bytes(512))), "bad_bundle"),
    "an end of three blocks": (lambda made: setattr(made, "end", forge.gzip(bytes(1536))), "bad_bundle"),
    "an end that is not empty": (lambda made: setattr(made, "end", forge.gzip(bytes(1023) + b"x")), "bad_member"),
    "an end in two members": (lambda made: setattr(made, "end", forge.gzip(bytes(512)) * 2), "bad_bundle"),
    "a file in the end": (lambda made: setattr(made, "end", forge.gzip(tar_member("x.py", b"x") + bytes(1024))), "bad_bundle"),
    "the end in the last group": (lambda made: end_in_last(made), "bad_bundle"),
    "junk behind the end": (lambda made: setattr(made, "end", forge.END + b"x"), "bad_member"),
    "much junk behind the end": (lambda made: setattr(made, "end", forge.END + os.urandom(5000)), "bad_member"),
    "a member behind the end": (lambda made: setattr(made, "end", forge.END * 2), "bad_member"),
    "junk in front of the end": (lambda made: setattr(made, "end", b"x" + forge.END), "bad_bundle"),
}  # fmt: skip


def end_in_last(made: Forgery) -> None:
    group(made, 2, plain(made.groups[2].packed) + bytes(1024))
    made.end = b""


def one(made: Forgery, packed: bytes) -> None:
    """The version in another gzip member."""
    made.groups[2].packed = [packed]


def start(made: Forgery, at: int, data: bytes) -> None:
    """Other bytes in the version's gzip header."""
    packed = made.groups[2].packed[0]
    made.groups[2].packed = [packed[:at] + data + packed[at + len(data) :]]


def stored(data: bytes) -> bytes:
    size = len(data).to_bytes(2, "little") + (len(data) ^ 0xFFFF).to_bytes(2, "little")
    return forge.START + b"\1" + size + data + forge.gzip(data)[-8:]


@pytest.mark.parametrize("what", CHAINS)
def test_the_chain_must_be_as_the_format_has_it(what: str, tmp_path: Path) -> None:
    """All `at` are right, and so is the signature. Nobody looks at a gzip checksum: each file has its digest in the list."""
    assert refusal(forged(CHAINS[what][0]), tmp_path) == CHAINS[what][1]


def test_a_single_gzip_stream_is_refused(tmp_path: Path) -> None:
    """As format 1 had it, and as `tar czf` makes it."""
    true = gzip.decompress(Forgery(FILES).pack(forge.key(0)))
    assert refusal(forge.gzip(true), tmp_path / "1") == "bad_bundle"
    assert refusal(gzip.compress(true), tmp_path / "2") == "bad_bundle"


def test_a_member_that_looks_back_further_than_its_window(tmp_path: Path) -> None:
    """It says 4 KiB: memory for more is not there."""
    block = os.urandom(8192)
    files = {**FILES, "lib/c.bin": block * 2}
    made = Forgery(files)
    found = next(g for g in made.groups if g.entries[0]["path"] == "lib/c.bin")
    found.packed = [forge.gzip(plain(found.packed), window=15)]
    made.place()
    assert refusal(made.pack(forge.key(0)), tmp_path) == "bad_bundle"


def resumed(root: Path, at: int, done: int, path: str = "lib/big.bin") -> dict[str, bytes]:
    """A stage of the true bundle that was interrupted within the large file, whatever the state says of it; then read again."""
    data = Forgery(FILES).pack(forge.key(0))
    forge.install(data, forge.rules(0), root)
    with forge.board_at(root):
        n = next(n for n, entry in forge.lists.entries() if entry[0] == path)
        staged = Path(forge.lists.target(n, path))
        staged.write_bytes(staged.read_bytes()[:done])
        store = forge.Job().store
        store.set("part", [n, done, at])
        store.save()
    return forge.install(data, forge.rules(0), root)


def second_piece() -> int:
    return place_of(1) + len(Forgery(FILES).groups[1].packed[0])


def test_a_large_file_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    assert resumed(tmp_path, second_piece(), forge.PIECE) == FILES


@pytest.mark.parametrize("at", [0, 1, 100, "-1", "+1", 10_000_000])
def test_a_large_file_that_goes_on_in_a_wrong_place_is_refused(at: Any, tmp_path: Path) -> None:
    """What is remembered of an interrupted file came from bytes that nobody had checked yet."""
    with pytest.raises(OtaError) as refused:
        resumed(tmp_path, second_piece() + int(at) if isinstance(at, str) else at, forge.PIECE)
    assert refused.value.reason in ("bad_bundle", "bad_member", "bad_digest")


def test_a_large_file_whose_part_is_shorter_than_remembered(tmp_path: Path) -> None:
    data = Forgery(FILES).pack(forge.key(0))
    forge.install(data, forge.rules(0), tmp_path)
    with forge.board_at(tmp_path):
        n = next(n for n, entry in forge.lists.entries() if entry[0] == "lib/big.bin")
        Path(forge.lists.target(n, "lib/big.bin")).write_bytes(BIG[:1000])
        store = forge.Job().store
        store.set("part", [n, forge.PIECE, second_piece()])
        store.save()
    with pytest.raises(OtaError) as refused:
        forge.install(data, forge.rules(0), tmp_path)
    assert refused.value.reason == "flash_error"


# -- names


NAMES = {
    "/a.py": "bad_path",
    "//a.py": "bad_path",
    "../a.py": "bad_path",
    "lib/../../a.py": "bad_path",
    "lib/..": "bad_path",
    "..": "bad_path",
    ".": "bad_path",
    "./a.py": "bad_path",
    "lib/./a.py": "bad_path",
    "lib//a.py": "bad_path",
    "lib/": "bad_path",
    "a.py.": "bad_path",
    "a.py ": "bad_path",
    " a.py": "bad_path",
    "lib./a.py": "bad_path",
    "lib /a.py": "bad_path",
    "PREFS~1.JSO": "bad_path",
    "OTA_BO~1.PY": "bad_path",
    # JSON has to write these in another way than they are
    "a\\b.py": "bad_bundle",
    "..\\a.py": "bad_bundle",
    "c:a.py": "bad_path",
    "a.py\x00": "bad_bundle",
    "a\x00.py": "bad_bundle",
    "a\n.py": "bad_bundle",
    "a\t.py": "bad_bundle",
    "ä.py": "bad_bundle",
    "a\u202e.py": "bad_bundle",
    "*": "bad_path",
    "a?.py": "bad_path",
    "": "bad_path",
    "x" * 101: "bad_path",
    "lib/" + "x" * 97: "bad_path",
    ".ota/journal": "protected_path",
    ".OTA/journal": "protected_path",
    ".ota": "protected_path",
    "prefs.json": "protected_path",
    "Prefs.Json": "protected_path",
    "prefs.json.1": "protected_path",
    "PREFS.JSON.1": "protected_path",
    "prefs.json/x": "protected_path",
    "crash.log": "protected_path",
    "CRASH.LOG": "protected_path",
    "Boot.py": "protected_path",
    "BOOT.PY": "protected_path",
    "boot.mpy": "protected_path",
    "boot/__init__.py": "protected_path",
    "boot.keep": "protected_path",
    "bootlib.py": "protected_path",
    "Ota_Boot.py": "protected_path",
    "ota_boot.mpy": "protected_path",
    "ota_boot_old.py": "protected_path",
    "ota_boot/__init__.py": "protected_path",
    "os.py": "protected_path",
    "OS.py": "protected_path",
    "os.mpy": "protected_path",
    "os/__init__.py": "protected_path",
    "json.py": "protected_path",
    "machine.py": "protected_path",
    "time.mpy": "protected_path",
    "deflate.py": "protected_path",
    "lib/hashlib.py": "protected_path",
    "lib/asyncio/__init__.py": "protected_path",
    "lib/ota_boot.py": "protected_path",
    "lib/boot.py": "protected_path",
    "LIB/os.py": "protected_path",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_signed_list_with_a_forbidden_name(name: str, tmp_path: Path) -> None:
    made = Forgery({**FILES, name: b"x"})
    assert refusal(made.pack(forge.key(0)), tmp_path) == NAMES[name]


@pytest.mark.parametrize("name", sorted(name for name in NAMES if name))
def test_a_member_with_a_forbidden_name_that_the_list_does_not_have(name: str, tmp_path: Path) -> None:
    for n, data in enumerate((tar_member(name, b"x") + A + B, A + tar_member(name, b"x") + B, A + B + tar_member(name, b"x"))):
        bad = forged(lambda made, data=data: group(made, 0, data))  # type: ignore[misc]
        assert refusal(bad, tmp_path / str(n)) in ("bad_member", "bad_bundle")


@pytest.mark.parametrize(
    "names",
    [
        ["a.py", "a.py"],
        ["A.py", "a.py"],
        ["b.py", "a.py"],
        ["a", "a/b.py"],
        ["a", "A/b.py"],
        ["lib/x.py", "LIB/x.py"],
    ],
)
def test_a_signed_list_in_the_wrong_order_or_with_twins(names: list[str], tmp_path: Path) -> None:
    made = Forgery(dict.fromkeys(names, b"x"), order=False)
    if len(made.files) < len(names):
        made.groups[0].entries *= 2
        made.groups[0].packed = [forge.gzip(tar_member("a.py", b"x") * 2)]
    made.place()
    assert refusal(made.pack(forge.key(0)), tmp_path) == "bad_member"


# -- bombs


ZEROS = bytes(32 * 1024 * 1024)
BOMBS: dict[str, Callable[[], bytes]] = {
    "a list": lambda: forge.gzip(tar_member(".release", ZEROS)),
    "a list of a negative size": lambda: forge.gzip(forge.header(".release", b"-1") + ZEROS),
    "a signature": lambda: forge.gzip(tar_member(".release", LISTED) + tar_member(".release.sig", ZEROS)),
    "behind the signature": lambda: forge.gzip(whole() + ZEROS),
    "a file": lambda: forged(lambda made: group(made, 0, tar_member("a.py", ZEROS))),
    "behind a file": lambda: forged(lambda made: group(made, 0, A + B + ZEROS)),
    "a piece of a file": lambda: forged(lambda made: group(made, 1, plain(made.groups[1].packed[:1]) + ZEROS)),
    "the end": lambda: forged(lambda made: setattr(made, "end", forge.gzip(ZEROS))),
    "behind the end": lambda: forged(lambda made: setattr(made, "end", forge.END + forge.gzip(ZEROS))),
    "between two groups": lambda: forged(lambda made: made.groups[0].packed.append(forge.gzip(ZEROS))),
}


@pytest.mark.parametrize("what", BOMBS)
def test_a_bomb_takes_no_memory_and_leaves_nothing(what: str, tmp_path: Path) -> None:
    data = BOMBS[what]()
    assert len(data) < 80_000
    tracemalloc.start()
    began = time.process_time()
    reason = refusal(data, tmp_path)
    assert time.process_time() - began < 5
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reason in ("too_large", "bad_signature", "bad_bundle", "bad_member")
    assert peak < 2_000_000
    assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) < 10_000 + sum(map(len, FILES.values()))


# -- whose release it is


def test_another_key_is_refused(tmp_path: Path) -> None:
    assert refusal(forge.pack(LISTED, FILES, forge.key(1)), tmp_path) == "bad_signature"


def test_one_of_four_keys_is_enough_and_a_broken_one_hurts_nobody(tmp_path: Path) -> None:
    accepted = forge.rules(1, 2, 3, 0)
    accepted.keys[0] = {"kty": "RSA", "n": "A" * 512, "e": "AQAB"}
    assert forge.install(forge.pack(LISTED, FILES, forge.key(0)), accepted, tmp_path) == FILES


@pytest.mark.parametrize("size", [0, 1, 383, 385, 512, 4096])
def test_a_signature_of_another_length_is_refused(size: int, tmp_path: Path) -> None:
    good = HEAD[1][1]
    assert head_refusal([HEAD[0], (".release.sig", (good * 11)[:size])], tmp_path) == "bad_signature"


@pytest.mark.parametrize("kind", ["zero", "one", "modulus", "modulus - 1", "+ modulus", "reversed"])
def test_a_signature_that_is_a_special_number_is_refused(kind: str, tmp_path: Path) -> None:
    modulus = forge.key(0).public_key().public_numbers().n
    good = int.from_bytes(HEAD[1][1], "big")
    number = {
        "zero": 0,
        "one": 1,
        "modulus": modulus,
        "modulus - 1": modulus - 1,
        "+ modulus": (good + modulus) % (1 << 3072),
        "reversed": int.from_bytes(HEAD[1][1], "little"),
    }[kind]
    raw = number.to_bytes(signature.KEY_BYTES, "big")
    assert head_refusal([HEAD[0], (".release.sig", raw)], tmp_path) == "bad_signature"


def test_the_signature_of_something_else_is_refused(tmp_path: Path) -> None:
    """The channel file's and the previous release's are good signatures of the same key."""
    other = keys.sign(forge.key(0), b'{"format":2}')
    assert head_refusal([HEAD[0], (".release.sig", other)], tmp_path) == "bad_signature"


@pytest.mark.parametrize(
    ("changes", "rules", "reason"),
    [
        ({"name": "another-board"}, {}, "wrong_name"),
        ({"name": "SIM-BOARD"}, {}, "wrong_name"),
        ({}, {"floor": 1_001_001}, "old_sequence"),
        ({}, {"floor": 1_001_001, "force": True}, "old_sequence"),
        ({}, {"floor": 1_001_000}, "old_sequence"),
        ({}, {"floor": 1_001_000, "force": True}, ""),
        ({"sequence": 0}, {"floor": 1}, "old_sequence"),
        ({}, {"expect": ("1.2.0", 1_001_000)}, "version_mismatch"),
        ({}, {"expect": ("1.1.0", 1_001_001)}, "version_mismatch"),
        ({"expires": 999}, {"now": 1000}, "expired"),
        ({"expires": 1000}, {"now": 1000}, ""),
        ({"expires": 999}, {"now": None}, ""),
        ({"base": "1.0.0"}, {}, "bad_bundle"),
        ({"format": 1}, {}, "bad_bundle"),
    ],
)
def test_a_signed_release_that_is_not_for_this_board_now(
    changes: dict[str, Any], rules: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    assert refusal(forge.pack(forge.listing(FILES, **changes), FILES, forge.key(0)), tmp_path, **rules) == reason


# -- on the board

INSTALL = """
import os
import ota_boot
from iot_platform.runtime import Platform
from modules.ota import phases
from modules.ota.module import Module

platform = Platform()
ota = Module(platform)
platform.modules["ota"] = ota
ota.start()
while ota.job:
    ota.tick()
phases.forget = lambda *_anyway: None  # it would forget what is changed here
from modules.ota import state
from modules.ota.bundle import reader
from modules.ota.install import prepare
for floor in VALUES.get("floor", []):
    state.raise_floor(ota.store, floor)

def change():
    if "by" in VALUES:
        return os.rename(VALUES["by"], VALUES["changed"])
    path = VALUES["changed"]
    with open(path, "rb") as f:
        data = bytearray(f.read())
    data[VALUES.get("at", len(data) // 2)] ^= 1
    with open(path, "wb") as f:
        f.write(data)

read_files, recheck = reader.read_files, prepare.recheck
def change_then_read_files(*args):
    change()
    yield from read_files(*args)
def change_then_recheck(*args):
    change()
    yield from recheck(*args)
if VALUES.get("when") == "head read":
    reader.read_files = change_then_read_files
elif VALUES.get("when") == "staged":
    prepare.recheck = change_then_recheck

ota._complete("install", False)
return [ota.state, ota.error.reason if ota.error else "", os.listdir("/.ota"), ota_boot.exists(ota.archive)]
"""
OLD = {"a.py": b"0\n", "profile.json": forge.profile(0), "version": b"1.0.0\n"}
NEW = {**SMALL, "version": b"1.1.0", "profile.json": forge.profile(0), "main.py": b"print('new')\n"}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Board:
    board = new_board(tmp_path_factory.mktemp("members") / "board.img", heap="192k")
    board.write(OLD)
    board.snapshot(board.image.with_suffix(".pristine"))
    return board


@pytest.fixture
def board(pristine: Board) -> Board:
    pristine.restore(pristine.image.with_suffix(".pristine"))
    return pristine


def install(board: Board, data: bytes, **values: Any) -> Any:
    """[state, reason] after install.install_file; the tree must be the old one then, and nothing left of the refused one."""
    board.write({"new_firmware.tar.gz": data})
    before = board.read().without("main.py", "new_firmware.tar.gz", ".ota")
    state, reason, names, archive = run(board, INSTALL, **values)
    assert board.read().without("main.py", "new_firmware.tar.gz", ".ota", "boot.keep") == before
    if reason:
        assert archive is False and set(names) <= {"state.0", "state.1"}
    return [state, reason]


def packed(files: dict[str, bytes] = NEW, number: int = 0, **changes: Any) -> bytes:
    return Forgery(files, changes).pack(forge.key(number))


def test_a_board_installs_exactly_what_was_signed(board: Board) -> None:
    data = bytearray(packed())
    data[9] ^= 0xFF  # gzip's system: harmless
    data[-1] ^= 0xFF  # and so is the length of the end
    assert install(board, bytes(data)) == ["rebooting", ""]
    assert board.boot_once(only_boot=True).cause == "end"
    found = board.read().files
    assert {path: found[path] for path in NEW} == NEW


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (lambda: packed(number=1), "bad_signature"),
        (lambda: packed(name="another"), "wrong_name"),
        (lambda: packed(mpy=7), "wrong_mpy"),
        (lambda: packed(mpy=5), "wrong_mpy"),
        (lambda: packed(micropython="99.0"), "wrong_mpy"),
        (lambda: packed(base="1.0.0"), "bad_bundle"),
        (lambda: packed({**NEW, "PREFS.JSON": b"{}"}), "protected_path"),
        (lambda: packed({**NEW, "os.py": b""}), "protected_path"),
        (lambda: forged(lambda made: group(made, 0, tar_member("a.py", bytes(8_000_000)))), "bad_member"),
        (lambda: forged(lambda made: group(made, 0, A + B + bytes(8_000_000))), "bad_bundle"),
        (lambda: forged(lambda made: group(made, 1, plain(made.groups[1].packed[:1]) + bytes(8_000_000))), "bad_bundle"),
        (lambda: forged(lambda made: setattr(made, "end", forge.gzip(bytes(8_000_000)))), "bad_bundle"),
        (lambda: forge.gzip(tar_member(".release", bytes(8_000_000))), "too_large"),
        (lambda: forge.gzip(forge.header(".release", b"-1") + bytes(8_000_000)), "bad_bundle"),
        (lambda: packed({**NEW, "big": bytes(3_000_000)}), "no_space"),
        (lambda: Forgery(NEW).pack(), "no_signature"),
        (lambda: b"", "bad_bundle"),
        (lambda: b"\x1f\x8b\x08", "bad_bundle"),
        (lambda: bytes(5000), "bad_bundle"),
        (lambda: packed()[:17] + bytes(5000), "bad_bundle"),
        (lambda: packed()[:-1], "bad_bundle"),
        (lambda: packed()[:-400], "bad_member"),
        (lambda: packed() + b"more", "bad_member"),
        (lambda: gzip.compress(gzip.decompress(packed())), "bad_bundle"),
    ],
)
def test_a_board_refuses(board: Board, data: Any, reason: str) -> None:
    assert install(board, data()) == ["failed" if reason else "rebooting", reason]


def test_an_older_sequence_is_refused_after_a_newer_one_was_confirmed(board: Board) -> None:
    assert install(board, packed(), floor=[2_000_000]) == ["failed", "old_sequence"]


def test_an_archive_that_is_exchanged_while_it_is_read_brings_nothing_of_the_other(board: Board) -> None:
    """By a good bundle of another key, when the list is checked: only what that list has may come of it."""
    board.write({"evil.gz": packed({**NEW, "a.py": b"evil\n"}, number=1), "new_firmware.tar.gz": packed()})
    before = board.read().without("main.py", "new_firmware.tar.gz", "evil.gz", ".ota")
    state, reason, _names, _archive = run(board, INSTALL, when="head read", changed="/new_firmware.tar.gz", by="/evil.gz")
    assert board.read().without("main.py", ".ota", "boot.keep") == before
    assert (state, reason) == ("rebooting", "") or state == "failed"
    board.boot_once(only_boot=True)
    found = board.read().files
    assert found["a.py"] == (NEW if state == "rebooting" else OLD)["a.py"]


@pytest.mark.parametrize("slot", range(4))
def test_a_staged_file_that_changes_on_flash_before_the_commit_is_refused(board: Board, slot: int) -> None:
    staged = sorted(path for path in NEW if NEW[path] != OLD.get(path))[slot]
    n = sorted(NEW, key=paths.key).index(staged)
    assert install(board, packed(), changed=f"/.ota/stage/e{n}", when="staged") == ["failed", "flash_error"]


def test_a_list_that_changes_on_flash_before_the_commit_is_refused(board: Board) -> None:
    """A bit of the digest of a file: the staged file is not the listed one any more."""
    at = forge.listing(NEW).index(forge.entry("a.py", NEW["a.py"])["digest"])
    assert install(board, packed(), changed="/.ota/list", when="staged", at=at)[0] == "failed"
