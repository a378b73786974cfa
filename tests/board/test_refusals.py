"""Each refusal of the design's section 7, one after the other against running boards: the reason is on the console, the tree is
untouched byte by byte, and nothing of the refused release is left on the flash."""

from __future__ import annotations

import base64
import itertools
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from iotctl import archive, keys
from tests.support import forge
from tests.support.world import Changes, Member, Release, World, assert_tree, digest, owner, stranger

Line = dict[str, Any]


_FEW = 6  # a board must take so many refusals in one life
_uses = itertools.count(1)


@pytest.fixture
def running(flashed: World) -> World:
    """A board that runs 1.0.0, with the owner's key pinned, and nothing to do."""
    if next(_uses) % _FEW == 0:
        flashed.board.stop()
        old = old_release(flashed)
        flashed.offer_raw({**old.bundle.header}, old.archive)
        flashed.boot()
    return flashed


@pytest.fixture(scope="module")
def flashed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("refusals")) as world:
        old = old_release(world)
        world.flash(old, {"prefs.json": b"{}"})
        world.offer(old)
        world.boot()
        yield world


def old_release(world: World) -> Release:
    return world.release("1.0.0", {"www/a.txt": b"a" * 5000})


@dataclass
class Draft:
    """Release 1.1.0 on its way to the server, to be spoilt by a test."""

    world: World
    header: Line
    entries: list[Line]
    members: dict[str, Member]
    key: keys.PrivateKey | None = None
    listing: bytes | None = None
    signature: bytes | None = None
    channel: Line | None = None

    def listed(self) -> bytes:
        """The bytes of .release, its numbers and places right for its entries."""
        if self.listing is not None:
            return self.listing
        at = 0
        for group, packed in self.groups():
            for entry in group:
                entry["at"] = at
            at += len(packed)
        right = {"files": len(self.entries), "size": sum(e["size"] for e in self.entries)}
        return forge.written({**right, **self.header}, self.entries)

    def groups(self) -> Iterator[tuple[list[Line], bytes]]:
        """Entries that share a gzip member, and that; last what no entry names."""
        rest = dict(self.members)
        entries = iter(self.entries)
        for paths in archive.groups((str(entry["path"]), int(entry["size"])) for entry in self.entries):
            found = [rest.pop(path) for path in paths if path in rest]
            yield [next(entries) for _path in paths], pack_group(found)
        if rest:
            yield [], pack_group(list(rest.values()))

    def add(self, path: str, data: bytes = b"x", listed: bool = True) -> None:
        """One more file, in its place."""
        if listed:
            self.entries.append({"path": path, "size": len(data), "digest": digest(data), "at": 0})
            self.sort()
        self.members[path] = Member(path, data)

    def sort(self) -> None:
        self.entries.sort(key=lambda entry: str(entry["path"]).lower().replace("/", "\0"))

    def entry(self, path: str) -> Line:
        return next(entry for entry in self.entries if entry["path"] == path)

    def archive(self) -> bytes:
        listing = self.listed()
        signature = keys.sign(self.key, listing) if self.key and self.signature is None else self.signature
        signed = b"" if signature is None else archive.tar_member(".release.sig", signature)
        head = archive.gzip(archive.tar_member(".release", listing) + signed)
        return b"".join([head, *(packed for _entries, packed in self.groups()), archive.END])

    def publish(self) -> None:
        self.world.offer_raw(self.announced, self.archive(), **(self.channel or {}))

    @property
    def announced(self) -> Line:
        """What the channel file says of it: what it was before it was spoilt."""
        return {"version": "1.1.0", "sequence": 1_001_000, "size": sum(entry["size"] for entry in self.entries)}


def pack_group(members: list[Member]) -> bytes:
    return archive.gzip(b"".join(forge.tar_member(m.name, m.data, kind=m.kind, link=m.target.encode()) for m in members))


DRAFTS = itertools.count(1)


def draft(world: World, changes: Changes | None = None, **ota: Any) -> Draft:
    """A good 1.1.0, and none that was there before: what was staged of that would be used again."""
    release = world.release("1.1.0", {"www/a.txt": b"a" * 5000, "www/b.txt": b"b" * 100, **(changes or {})}, **ota)
    header = {key: value for key, value in release.bundle.header.items() if key not in ("files", "size")}
    header["created"] = next(DRAFTS)
    members = {path: Member(path, data) for path, data in release.files.items()}
    return Draft(world, header, [entry._asdict() for entry in release.bundle.entries], members, world.key)


def assert_untouched(world: World, staged: bool = False) -> None:
    """The board still runs exactly 1.0.0, and nothing of what was refused is there; `staged`: but what is right in the stage."""
    found = world.peek()
    assert_tree(found.without(".ota/stage", ".ota/list") if staged else found, old_release(world).tree)


Spoil = Callable[[Draft], None]


def unsigned(d: Draft) -> None:
    d.key = None


def wrong_key(d: Draft) -> None:
    d.key = stranger()


def flipped_signature(d: Draft) -> None:
    good = bytearray(keys.sign(owner(), d.listed()))
    good[200] ^= 1
    d.signature = bytes(good)


def short_signature(d: Draft) -> None:
    d.signature = keys.sign(owner(), d.listed())[:-1]


def changed_after_signing(d: Draft) -> None:
    d.signature = keys.sign(owner(), d.listed())
    d.listing = d.listed().replace(b'"notes":""', b'"notes":"x"')


def header(**values: Any) -> Spoil:
    def spoil(d: Draft) -> None:
        d.header.update(values)

    return spoil


def unlisted_member(d: Draft) -> None:
    d.add("zz.txt", listed=False)


def missing_member(d: Draft) -> None:
    del d.members["www/b.txt"]


def swapped_members(d: Draft) -> None:
    d.members["www/a.txt"], d.members["www/b.txt"] = d.members["www/b.txt"], d.members["www/a.txt"]


def swapped_entries(d: Draft) -> None:
    d.entries[-1], d.entries[-2] = d.entries[-2], d.entries[-1]


def listed_twice(d: Draft) -> None:
    d.entries.append(d.entries[-1])


def case_twin(d: Draft) -> None:
    d.add("www/B.txt")


def file_and_folder(d: Draft) -> None:
    d.add("www/b.txt/c.txt")


def wrong_size(d: Draft) -> None:
    d.members["www/b.txt"].data += b"b"


def wrong_digest(d: Draft) -> None:
    d.members["www/b.txt"].data = b"c" * 100


def wrong_count(d: Draft) -> None:
    d.header["files"] = 3


def unknown_key(d: Draft) -> None:
    d.entry("www/b.txt")["mode"] = 511


def member(kind: bytes, target: str = "") -> Spoil:
    def spoil(d: Draft) -> None:
        d.members["www/b.txt"] = Member("www/b.txt", b"", kind, target)

    return spoil


def brings(path: str) -> Spoil:
    def spoil(d: Draft) -> None:
        d.add(path)

    return spoil


def deletes(path: str) -> Spoil:
    def spoil(d: Draft) -> None:
        d.header["delete"] = [path]

    return spoil


def cut_short(d: Draft) -> None:
    whole = d.archive()
    d.archive = lambda: whole[: len(whole) // 2]  # type: ignore[method-assign]


def no_gzip(d: Draft) -> None:
    d.archive = lambda: b"<html>" + bytes(3000)  # type: ignore[method-assign]


def no_list(d: Draft) -> None:
    d.archive = lambda: pack_group(list(d.members.values())[:3]) + archive.END  # type: ignore[method-assign]


def profile_with(public_keys: list[Any] | None) -> Spoil:
    def spoil(d: Draft) -> None:
        data = d.world.profile(public_keys=public_keys).raw
        d.members["profile.json"].data = data
        d.entry("profile.json").update(size=len(data), digest=digest(data))

    return spoil


def profile_is(data: bytes) -> Spoil:
    def spoil(d: Draft) -> None:
        d.members["profile.json"].data = data
        d.entry("profile.json").update(size=len(data), digest=digest(data))

    return spoil


def no_profile(d: Draft) -> None:
    d.entries.remove(d.entry("profile.json"))
    del d.members["profile.json"]


BUNDLES: list[tuple[str, Spoil, str]] = [
    ("unsigned", unsigned, "no_signature"),
    ("wrong key", wrong_key, "bad_signature"),
    ("flipped signature", flipped_signature, "bad_signature"),
    ("short signature", short_signature, "bad_signature"),
    ("changed after signing", changed_after_signing, "bad_signature"),
    ("wrong name", header(name="other-board"), "wrong_name"),
    ("another version than announced", header(version="1.2.0"), "version_mismatch"),
    ("another sequence than announced", header(sequence=1001001), "version_mismatch"),
    ("wrong mpy", header(mpy=5), "wrong_mpy"),
    ("later mpy", header(mpy=7), "wrong_mpy"),
    ("MicroPython too old here", header(micropython="9.0"), "wrong_mpy"),
    ("expired", header(expires=1_700_000_000), "expired"),
    ("unknown format", header(format=3), "bad_bundle"),
    ("the format before", header(format=1), "bad_bundle"),
    ("unknown header key", header(extra=1), "bad_bundle"),
    ("member not listed", unlisted_member, "bad_member"),
    ("member missing", missing_member, "bad_member"),
    ("members swapped", swapped_members, "bad_member"),  # what is not needed is skipped by the size that the list gives it
    ("entries swapped", swapped_entries, "bad_member"),
    ("listed twice", listed_twice, "bad_member"),
    ("case twin", case_twin, "bad_member"),
    ("file and folder", file_and_folder, "bad_member"),
    ("wrong size", wrong_size, "bad_member"),
    ("wrong digest", wrong_digest, "bad_digest"),
    ("wrong count", wrong_count, "bad_bundle"),
    ("unknown entry key", unknown_key, "bad_bundle"),
    ("symlink", member(tarfile.SYMTYPE, "../boot.py"), "bad_member"),
    ("hard link", member(tarfile.LNKTYPE, "boot.py"), "bad_member"),
    ("device", member(tarfile.CHRTYPE), "bad_member"),
    ("folder", member(tarfile.DIRTYPE), "bad_member"),
    ("archive cut short", cut_short, "bad_bundle"),
    ("no gzip", no_gzip, "bad_bundle"),
    ("no list", no_list, "bad_bundle"),
    ("profile without a key", profile_with(None), "bad_key"),
    ("profile with another key", profile_with([keys.jwk(stranger())]), "bad_key"),
    ("profile that is none", profile_is(b"[1]"), "bad_key"),
    ("profile that is no JSON", profile_is(b'{"ota": '), "bad_key"),
    ("release without a profile", no_profile, "bad_key"),
    ("delete of a protected file", deletes("prefs.json"), "protected_path"),
    ("delete of the loader", deletes("boot.py"), "protected_path"),
    ("delete outside", deletes("../x"), "bad_path"),
]
BAD_PATHS = ("../x", "/x", "a//b", "a/./b", "zz/", "a b", "x.")
BUNDLES += [(f"path {path}", brings(path), "bad_path") for path in BAD_PATHS]
BUNDLES += [(f"path {path}", brings(path), "bad_bundle") for path in ("a\\b", "é")]  # JSON writes these in another way
BUNDLES += [
    (f"protected {path}", brings(path), "protected_path")
    for path in (
        "prefs.json", "Prefs.JSON", "prefs.json.1", ".ota/x", ".OTA/state.0", "Boot.py", "BOOT.mpy", "boot/x.py", "boot.keep",
        "ota_boot.mpy", "Ota_Boot.py", "ota_boot_old.py", "os.py", "OS.mpy", "json/x.py", "lib/json.mpy", "lib/boot.py",
        "crash.log",
    )
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "reason"), [pytest.param(spoil, reason, id=name) for name, spoil, reason in BUNDLES])
def test_a_bad_bundle_is_refused(running: World, spoil: Spoil, reason: str) -> None:
    made = draft(running)
    spoil(made)
    made.publish()
    asked, begun = len(running.requested("stable.json")), running.downloads("1.1.0.tar.gz")
    running.refused(reason)
    assert len(running.requested("stable.json")) == asked + 1
    assert running.downloads("1.1.0.tar.gz") == begun + 1
    assert_untouched(running, reason in ("bad_member", "bad_digest", "bad_bundle"))


@pytest.mark.parametrize("sequence", [999_999, 1_000_000])
@pytest.mark.parametrize("force", [False, True])
def test_a_lower_sequence_is_never_taken(running: World, sequence: int, force: bool) -> None:
    made = draft(running)
    made.header["sequence"] = sequence
    made.channel = {"sequence": sequence}
    asked = len(running.server.requests)
    if sequence == 1_000_000 and force:
        made.key = stranger()  # by force the floor itself is looked at: but not believed
        made.publish()
        running.refused("bad_signature", "ota force")
    elif force:
        made.publish()
        running.refused("old_sequence", "ota force")
        assert [request.path for request in running.server.requests[asked:]] == ["/sim-board/stable.json"]
    else:
        made.publish()
        since = running.type("ota check")
        running.board.expect("ota: up to date: running 1.0.0", 30, since)
        assert [request.path for request in running.server.requests[asked:]] == ["/sim-board/stable.json"]
    assert_untouched(running)


def test_what_was_refused_is_not_fetched_again_until_the_channel_changes(running: World) -> None:
    made = draft(running)
    made.header["name"] = "other-board"
    made.publish()
    running.refused("wrong_name")
    asked = running.downloads("1.1.0.tar.gz")
    line = running.refused("wrong_name")
    assert "was refused before" in line and running.downloads("1.1.0.tar.gz") == asked
    assert running.requested("stable.json")[-1].status == 200
    made.publish()
    running.refused("wrong_name")
    assert running.downloads("1.1.0.tar.gz") == asked + 1
    assert_untouched(running)


# -- the channel file

CHANNELS: list[tuple[str, Line, str]] = [
    ("for another board", {"name": "other-board"}, "wrong_name"),
    ("for another channel", {"channel": "canary"}, "bad_channel"),
    ("replayed", {"published": 1_700_000_000}, "old_sequence"),
    ("expired", {"expires": 1_700_000_000}, "expired"),
    ("of an unknown format", {"format": 3}, "bad_channel"),
    ("of the format before", {"format": 1}, "bad_channel"),
    ("with a path for its file", {"bundle": {"file": "../x", "size": 9, "head": 5, "sha256": "0" * 64}}, "bad_channel"),
    ("with a URL for its file", {"bundle": {"file": "http://evil/x", "size": 9, "head": 5, "sha256": "0" * 64}}, "bad_channel"),
    ("with a head as long as the bundle", {"bundle": {"file": "x", "size": 9, "head": 10, "sha256": "0" * 64}}, "bad_channel"),
    ("without a head", {"bundle": {"file": "x", "size": 9, "sha256": "0" * 64}}, "bad_channel"),
    ("with notes that are too long", {"notes": "x" * 256}, "bad_channel"),
    ("too large", {"rollout": {"percent": 100, "why": "x" * 5000}}, "too_large"),
]


@pytest.mark.parametrize(("change", "reason"), [pytest.param(change, reason, id=name) for name, change, reason in CHANNELS])
def test_a_bad_channel_file_is_refused(running: World, change: Line, reason: str) -> None:
    made = draft(running)
    asked = len(running.server.requests)
    running.put_channel(running.announcement(made.announced, made.archive(), **change))
    running.refused(reason)
    assert [request.path for request in running.server.requests[asked:]] == ["/sim-board/stable.json"]
    assert_untouched(running)


@pytest.mark.parametrize(("key", "reason"), [(None, "no_signature"), ("stranger", "bad_signature")])
def test_a_channel_file_needs_the_owners_signature(running: World, key: str | None, reason: str) -> None:
    made = draft(running)
    asked = len(running.server.requests)
    running.put_channel(running.announcement(made.announced, made.archive()), stranger() if key else None)
    running.refused(reason)
    assert len(running.server.requests) == asked + 1
    assert_untouched(running)


@pytest.mark.parametrize("second", [b"A" * 511, b"%" * 512, base64.b64encode(bytes(384))])
def test_a_channel_files_signature_must_be_one(running: World, second: bytes) -> None:
    made = draft(running)
    line = json.dumps(running.announcement(made.announced, made.archive())).encode()
    running.channel_file().write_bytes(line + b"\n" + second + b"\n")
    running.refused("bad_signature")
    assert_untouched(running)


def test_an_archive_that_is_longer_than_announced_is_refused(running: World) -> None:
    made = draft(running)
    made.publish()
    with (running.site / "sim-board" / "1.1.0.tar.gz").open("ab") as f:
        f.write(b"more")
    running.refused("too_large")
    assert_untouched(running)


def test_another_release_of_the_owner_in_its_place_is_refused(running: World) -> None:
    made, other = draft(running), draft(running)
    other.header["sequence"] += 1
    archived = other.archive()
    value = running.announcement(made.announced, archived)
    (running.site / "sim-board" / "1.1.0.tar.gz").write_bytes(archived)
    running.put_channel(value)
    running.refused("version_mismatch")
    assert_untouched(running)
