"""The archive of a bundle: any gzip and tar reads it, and so does a reader that begins at a place that the list names."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import struct
import tarfile
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iotctl import archive, bundle, keys
from iotctl.profile import Profile
from modules.ota.errors import OtaError
from modules.ota.release.manifest import PIECE
from tests.support import forge
from tests.unit.iotctl_fixture import key

START = 17  # bytes of a gzip member's header
PROFILE = Profile(Path("profile.json"), b"", {"shortName": "door", "activeModules": [], "ota": {"delete": []}})
NAMES = st.sampled_from(["a.py", "a/b.py", "a/c/d.py", "a.pyx", "lib/x.mpy", "lib/x/y.mpy", "www/z", "version", "B", "b.txt"])
SIZES = st.integers(0, 3 * PIECE) | st.sampled_from([0, 1, 511, 512, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1])
TREES = st.dictionaries(NAMES, SIZES, max_size=8)


def content(path: str, size: int) -> bytes:
    """Bytes that neither compress to nothing nor repeat."""
    words = b"".join(hashlib.sha256(f"{path} {n}".encode()).hexdigest().encode() for n in range(size // 64 + 1))
    return words[:size]


def made_of(sizes: dict[str, int]) -> bundle.Bundle:
    files = {path: content(path, size) for path, size in sizes.items()}
    return bundle.make(PROFILE, files, bundle.Options("1.0.0", 1))


def members(data: bytes) -> dict[int, bytes]:
    """Each gzip member by its offset: what it unpacks to by itself, with a window of 4 KiB."""
    found, at = {}, 0
    while at < len(data):
        assert data[at : at + 4] == b"\x1f\x8b\x08\x04" and data[at + 10 : at + START] == bytes.fromhex("0500 5742 0100 0c")
        inflater = zlib.decompressobj(-12)
        found[at] = inflater.decompress(data[at + START :])
        assert inflater.eof
        end = len(data) - len(inflater.unused_data)
        assert struct.unpack("<II", data[end : end + 8]) == (zlib.crc32(found[at]), len(found[at]))
        at = end + 8
    return found


def expected(entries: list[archive.Entry], files: dict[str, bytes]) -> list[tuple[int, bytes]]:
    """The place and the content of every member behind the head, as the list has it; -1 for a place that it does not name."""
    found: list[tuple[int, bytes]] = []
    for at in sorted({entry.at for entry in entries}):
        group = [entry.path for entry in entries if entry.at == at]
        size, data = len(files[group[0]]), b"".join(archive.tar_member(path, files[path]) for path in group)
        assert len(group) == 1 or all(len(files[path]) <= PIECE for path in group)
        cuts = [0, *(range(512 + PIECE, 512 + size, PIECE) if size > PIECE else ()), len(data)]
        found += [(-1 if begin else at, data[begin:end]) for begin, end in itertools.pairwise(cuts)]
    return [*found, (-1, bytes(1024))]


def without_clashes(sizes: dict[str, int]) -> dict[str, int]:
    return {p: n for p, n in sizes.items() if not any(other.lower().startswith(p.lower() + "/") for other in sizes)}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TREES.map(without_clashes), st.booleans())
def test_any_tree_is_read_back_by_tar_by_us_and_from_every_place_in_the_list(sizes: dict[str, int], signed: bool) -> None:
    made = made_of(sizes)
    made = bundle.sign(made, key(0)) if signed else made
    data = bundle.pack(made)
    head = archive.head(made.listing, made.signature)
    unpacked = members(data)
    behind = [(at - len(head), part) for at, part in unpacked.items()][1:]
    assert unpacked[0] + b"".join(part for _at, part in behind) == gzip.decompress(data)
    wanted = expected(made.entries, made.files)
    assert [part for _at, part in behind] == [part for _at, part in wanted]
    assert all(at in (-1, place) for (at, _), (place, _) in zip(wanted, behind, strict=True))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        read = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    signature = {} if made.signature is None else {".release.sig": made.signature}
    assert read == {".release": made.listing, **signature, **made.files}
    assert list(read) == [".release", *signature, *(entry.path for entry in made.entries)]


@settings(max_examples=30, deadline=None)
@given(TREES.map(without_clashes))
def test_reading_gives_what_was_packed(tmp_path_factory: pytest.TempPathFactory, sizes: dict[str, int]) -> None:
    made = made_of(sizes)
    path = tmp_path_factory.mktemp("bundle") / "1.0.0.tar.gz"
    path.write_bytes(bundle.pack(made))
    assert bundle.read(path) == made
    assert bundle.verify(path).files == len(sizes)


def test_the_same_files_give_the_same_bytes_in_whatever_order_they_come() -> None:
    sizes = {"a.py": 900, "b.py": 4000, "c.py": 70_000, "d.py": 20, "version": 6}
    backwards = dict(reversed(list(sizes.items())))
    assert bundle.pack(made_of(sizes)) == bundle.pack(made_of(backwards))


def test_small_neighbours_share_a_member_and_the_version_has_its_own() -> None:
    made = made_of({"a.py": 900, "b.py": 4000, "c.py": 4000, "d.py": 70_000, "e.py": 20, "version": 6})
    places = {entry.path: entry.at for entry in made.entries}
    assert places["a.py"] == places["b.py"] == 0
    assert len(set(places.values())) == 5


def test_a_change_of_one_file_changes_no_member_but_its_own_and_the_versions() -> None:
    old = {f"m{n}.py": content(f"m{n}", 1000 + 397 * n) for n in range(12)}
    new = {**old, "m7.py": old["m7.py"] + b"x"}
    before, after = (bundle.make(PROFILE, files, bundle.Options("1.0.0", 1)) for files in (old, new))
    changed = set(members(after.packed).values()) - set(members(before.packed).values())
    assert len(changed) == 1


# -- what is no bundle


LISTED = {"a.py": 900, "b.py": 4000, "c.bin": 70_000, "d.py": 20, "version": 6}


class Forgery:
    """A bundle whose members are changed before they are packed; the list stays as it was."""

    def __init__(self) -> None:
        self.made = made_of(LISTED)
        self.head = archive.head(self.made.listing, None)
        self.parts = [(at, part) for at, part in members(self.made.packed).items()]

    @property
    def plain(self) -> list[bytes]:
        return [part for _at, part in self.parts]

    def packed(self, *parts: bytes) -> bytes:
        return self.head + b"".join(archive.gzip(part) for part in parts)

    def with_part(self, n: int, *parts: bytes) -> bytes:
        """The part n replaced by others, each a member of its own."""
        return self.packed(*self.plain[:n], *parts, *self.plain[n + 1 :])

    def with_head(self, more: bytes) -> bytes:
        """More in the head, behind the list."""
        return archive.gzip(archive.tar_member(".release", self.made.listing) + more) + self.made.packed

    def with_list(self, **changes: Any) -> bytes:
        """Fields of the entry of d.py changed."""
        changed = [entry._replace(**(changes if entry.path == "d.py" else {})) for entry in self.made.entries]
        listing = forge.written(self.made.header, [entry._asdict() for entry in changed])
        return archive.head(listing, None) + self.made.packed


def refusal(data: bytes, folder: Path) -> str:
    path = folder / "bundle.tar.gz"
    path.write_bytes(data)
    reasons = []
    for check in (bundle.verify, bundle.read):
        with pytest.raises(OtaError) as caught:
            check(path)
        reasons.append(caught.value.reason)
    assert reasons[0] == reasons[1]
    return str(reasons[0])


FORGERIES: dict[str, tuple[Any, str]] = {
    "a place that is another": (lambda f: f.with_list(at=f.made.entries[3].at - 1), "bad_member"),
    "a place in its neighbour's group": (lambda f: f.with_list(at=f.made.entries[4].at), "bad_member"),
    "a place in the middle of a large file": (lambda f: f.with_list(at=f.parts[2][0]), "bad_member"),
    "a place beyond the end": (lambda f: f.with_list(at=1 << 30), "bad_bundle"),
    "another size": (lambda f: f.with_list(size=21), "bad_bundle"),
    "another digest": (lambda f: f.with_list(digest=bytes(32)), "bad_digest"),
    "a file too many in a group": (lambda f: f.with_part(0, f.plain[0] + archive.tar_member("z.py", b"")), "bad_bundle"),
    "a file too few in a group": (lambda f: f.with_part(0, f.plain[0][: 512 + 1024]), "bad_member"),
    "a file in two members": (lambda f: f.with_part(0, f.plain[0][:3000], f.plain[0][3000:]), "bad_bundle"),
    "a group in two members": (lambda f: f.with_part(0, f.plain[0][:1536], f.plain[0][1536:]), "bad_member"),
    "an empty member between two groups": (lambda f: f.with_part(0, f.plain[0], b""), "bad_member"),
    "two pieces in one member": (lambda f: f.packed(f.plain[0], f.plain[1] + f.plain[2], *f.plain[3:]), "bad_bundle"),
    "a large file cut in another place": (lambda f: f.with_part(1, f.plain[1][:9000], f.plain[1][9000:]), "bad_bundle"),
    "the end in the last group": (lambda f: f.packed(*f.plain[:-2], f.plain[-2] + bytes(1024)), "bad_bundle"),
    "no end": (lambda f: f.packed(*f.plain[:-1]), "bad_bundle"),
    "an end that is too short": (lambda f: f.with_part(len(f.parts) - 1, bytes(512)), "bad_bundle"),
    "an end that is too long": (lambda f: f.with_part(len(f.parts) - 1, bytes(1536)), "bad_bundle"),
    "a file at the end": (lambda f: f.with_part(len(f.parts) - 1, archive.tar([("z.py", b"")])), "bad_bundle"),
    "an end that is none": (lambda f: f.with_part(len(f.parts) - 1, b"x" * 1024), "bad_member"),
    "a file of another size": (lambda f: f.with_part(4, archive.tar_member("d.py", b"x")), "bad_member"),
    "a file of another name": (lambda f: f.with_part(0, archive.tar_member("A.py", f.made.files["a.py"])), "bad_member"),
    "a folder": (lambda f: f.with_part(0, archive.tar_member("a.py/", b"")), "bad_member"),
    "no tar": (lambda f: f.with_part(0, bytes(range(256)) * 4), "bad_bundle"),
    "something behind the end": (lambda f: f.head + f.made.packed + b"x", "bad_member"),
    "a member behind the end": (lambda f: f.head + f.made.packed + archive.gzip(b""), "bad_member"),
    "a file in the head": (lambda f: f.with_head(archive.tar_member("z.py", b"")), "bad_signature"),
    "a short signature": (lambda f: f.with_head(archive.tar_member(".release.sig", bytes(383))), "bad_signature"),
    "something behind the signature": (
        lambda f: f.with_head(archive.tar_member(".release.sig", bytes(384)) + archive.tar_member("z.py", b"")), "bad_bundle"),
    "no list": (lambda f: archive.gzip(archive.tar_member("z.py", b"")) + f.made.packed, "bad_bundle"),
    "one single gzip member": (lambda f: archive.gzip(gzip.decompress(f.head + f.made.packed)), "bad_signature"),
    "a window of 32 KiB": (lambda f: gzip.compress(gzip.decompress(f.head)) + f.made.packed, "bad_bundle"),
    "a window that is another than it says": (lambda f: f.head[:16] + wide() + f.made.packed, "bad_bundle"),
    "a wrong checksum": (lambda f: f.head + f.made.packed[:-8] + bytes(4) + f.made.packed[-4:], "bad_bundle"),
    "a wrong length": (lambda f: f.head + f.made.packed[:-1] + b"\1", "bad_bundle"),
    "nothing": (lambda f: b"", "bad_bundle"),
}  # fmt: skip


def wide() -> bytes:
    """From the window's byte on: a member that looks back further than 4 KiB."""
    data = archive.tar_member(".release", content("x", 6000) + content("x", 6000))
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"\x0c" + squeeze.compress(data) + squeeze.flush() + struct.pack("<II", zlib.crc32(data), len(data))


@pytest.mark.parametrize("name", FORGERIES)
def test_refuses_an_archive_that_is_not_as_its_list_says(tmp_path: Path, name: str) -> None:
    forge, reason = FORGERIES[name]
    assert refusal(forge(Forgery()), tmp_path) == reason


def test_the_forger_itself_makes_what_is_accepted(tmp_path: Path) -> None:
    forged, path = Forgery(), tmp_path / "bundle.tar.gz"
    path.write_bytes(forged.packed(*forged.plain))
    assert bundle.verify(path).files == len(LISTED)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_refuses_every_cut(tmp_path: Path, data: st.DataObject) -> None:
    whole = bundle.pack(made_of(LISTED))
    keep = data.draw(st.integers(0, len(whole) - 1))
    assert refusal(whole[:keep], tmp_path) == "bad_bundle"


def test_checking_a_large_bundle_takes_little_memory(tmp_path: Path) -> None:
    made = made_of({f"f{n}.bin": 1_000_000 for n in range(8)})
    path = tmp_path / "bundle.tar.gz"
    path.write_bytes(bundle.pack(bundle.sign(made, key(0))))
    tracemalloc.start()
    verdict = bundle.verify(path, "door", [keys.jwk(key(0))])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert verdict.signature == "good" and verdict.size == 8_000_000 and peak < 1_000_000


def test_a_large_list_is_refused_before_it_is_read(tmp_path: Path) -> None:
    data = archive.gzip(archive.tar_member(".release", bytes(archive.MAX_LIST + 1)))
    assert refusal(data, tmp_path) == "too_large"
