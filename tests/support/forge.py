"""Bundles as an attacker makes them: every part can be wrong while all the others are right, its signature among them.

A Forgery is a bundle taken apart. What a test changes in it is wrong afterwards; the places and the signature are made anew to
fit whatever it has become, unless the test gives them too.

>>> forged = Forgery({"a.py": b"1", "version": b"1.1.0"})
>>> forged.groups[0].packed = [gzip(b"anything")]
>>> forged.pack()[:4]
b'\\x1f\\x8b\\x08\\x04'
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import tracemalloc
import types
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ota_boot
from iot_platform.slots import Slots

from iotctl import archive, keys
from iotctl.board_code import finish
from modules.ota.bundle import lists, reader
from modules.ota.install import prepare
from modules.ota.install.stage import Stage
from modules.ota.release import manifest, paths, policy, signature
from modules.ota.transport.ranges import FromFile

NAME = "sim-board"
MISSING = object()
END = archive.END
NOTHING: Mapping[str, Any] = MappingProxyType({})
Members = list[tuple[str, bytes]]
Entry = dict[str, Any]


@cache
def key(number: int) -> keys.PrivateKey:
    """One of the tests' signing keys."""
    return keys.generate()


def pinned(*numbers: int) -> list[keys.Jwk]:
    return [keys.jwk(key(number)) for number in numbers]


def profile(*numbers: int, **ota: Any) -> bytes:
    """A profile that pins these keys."""
    section: dict[str, Any] = {
        "url": "http://127.0.0.1:1",
        "tmp_filename": "new_firmware.tar.gz",
        "excluded_files": [],
        "delete": [],
        **({"public_keys": pinned(*numbers)} if numbers else {}),
        **ota,
    }
    return json.dumps({"shortName": NAME, "activeModules": ["serial_log", "ota"], "ota": section}).encode()


# -- the list


def entry(path: str, data: bytes, at: int = 0) -> Entry:
    return {"path": path, "size": len(data), "digest": hashlib.sha256(data).digest(), "at": at}


def listing(files: Mapping[str, bytes], **changes: Any) -> bytes:
    """The `.release` of a bundle of these files, with changes to its header; MISSING takes a field out."""
    return Forgery(files, changes).listing


def listing_of(entries: list[Entry], changes: Mapping[str, Any] = NOTHING) -> bytes:
    """A `.release` of entries in just this order, whatever they are."""
    header: dict[str, Any] = {
        "format": 2,
        "name": NAME,
        "version": "1.1.0",
        "sequence": 1_001_000,
        "micropython": "1.22",
        "mpy": 6,
        "created": 0,
        "expires": None,
        "notes": "",
        "files": len(entries),
        "size": sum(found["size"] for found in entries if isinstance(found.get("size"), int)),
        "delete": [],
        **changes,
    }
    return written({name: value for name, value in header.items() if value is not MISSING}, entries)


def written(header: Mapping[str, Any], entries: list[Entry]) -> bytes:
    """A `.release`: a line each, then the digests, bytes of any length."""
    lines: list[object] = [header, *([value for name, value in found.items() if name != "digest"] for found in entries)]
    digests = b"".join(found.get("digest", b"") for found in entries)
    return b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines) + digests


# -- the archive


def gzip(data: bytes, says: int = 12, window: int = 12, tail: bytes | None = None) -> bytes:
    """A gzip member.

    :param says: the window that its header names, in bits; `window`: the one that it has.
    :param tail: in place of its checksum and size.
    """
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -window)
    body = squeeze.compress(data) + squeeze.flush()
    end = struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF) if tail is None else tail
    return START[:-1] + bytes((says,)) + body + end


START = archive.gzip(b"")[:17]  # what a gzip member begins with, up to its window


def tar_member(name: str | bytes, data: bytes, **wrong: Any) -> bytes:
    """A member of a tar archive: its header (see header), its content and its padding."""
    return header(name, len(data), **wrong) + data + bytes(-len(data) % 512)


def header(
    name: str | bytes, size: int | bytes, kind: bytes = b"0", link: bytes = b"", prefix: bytes = b"",
    magic: bytes = b"ustar\x0000", checksum: bytes | None = None,
) -> bytes:  # fmt: skip
    """A tar header with a right checksum. Unlike iotctl's it takes any name, size, type and link."""
    raw = name if isinstance(name, bytes) else name.encode()
    number = size if isinstance(size, bytes) else b"%011o\0" % size
    block = raw[:100].ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + number.ljust(12, b"\0") + b"%011o\0" % 0
    block += b" " * 8 + kind + link.ljust(100, b"\0") + magic + bytes(64) + b"0000000\0" * 2 + prefix.ljust(155, b"\0")
    block += bytes(12)
    given = b"%06o\0 " % sum(block) if checksum is None else checksum
    return block[:148] + given.ljust(8, b"\0") + block[156:]


def tar(members: Members) -> bytes:
    """A whole archive, as one single stream would have it."""
    return b"".join(tar_member(*member) for member in members) + bytes(1024)


@dataclass
class Group:
    """Files as the list has them, and the gzip members that are there for them."""

    entries: list[Entry]
    packed: list[bytes]


@dataclass
class Forgery:
    """See the module. `files` need not be allowed, nor in order: they come as the host sorts them, unless `order` is False."""

    files: Mapping[str, bytes]
    changes: Mapping[str, Any] = field(default_factory=dict)  # to the header
    order: bool = True
    groups: list[Group] = field(init=False)
    end: bytes = END
    more: bytes = b""  # in the head, behind the list and its signature
    signature: bytes | None = None  # in place of a right one

    def __post_init__(self) -> None:
        names = sorted(self.files, key=paths.key) if self.order else list(self.files)
        self.groups = []
        for group in archive.groups((path, len(self.files[path])) for path in names):
            members = [(path, self.files[path]) for path in group]
            self.groups.append(Group([entry(*member) for member in members], pack_group(members)))
        self.place()

    def place(self) -> None:
        """Let every entry say where its group is now."""
        at = 0
        for group in self.groups:
            for found in group.entries:
                found["at"] = at
            at += sum(map(len, group.packed))

    @property
    def entries(self) -> list[Entry]:
        return [found for group in self.groups for found in group.entries]

    @property
    def listing(self) -> bytes:
        return listing_of(self.entries, self.changes)

    def head(self, signer: keys.PrivateKey | None) -> Members:
        """What is in the first gzip member."""
        return head(self.listing, signer, self.signature)

    def pack(self, signer: keys.PrivateKey | None = None) -> bytes:
        """The bundle, its places as they are (see place)."""
        first = b"".join(tar_member(*member) for member in self.head(signer)) + self.more
        return gzip(first) + self.body

    @property
    def body(self) -> bytes:
        """What follows the head."""
        return b"".join(piece for group in self.groups for piece in group.packed) + self.end


def head(listed: bytes, signer: keys.PrivateKey | None, signature: bytes | None = None) -> Members:
    """The members that come first, whatever the list is."""
    raw = keys.sign(signer, listed) if signer and signature is None else signature
    return [(".release", listed)] + ([] if raw is None else [(".release.sig", raw)])


def pack(listed: bytes, files: Mapping[str, bytes], signer: keys.PrivateKey | None = None) -> bytes:
    """A bundle of these files with any list."""
    return pack_members(head(listed, signer), files)


def pack_members(first: Members, files: Mapping[str, bytes]) -> bytes:
    """A bundle of these files with anything in its head."""
    return gzip(b"".join(tar_member(*member) for member in first)) + Forgery(files).body


def pack_group(members: Members) -> list[bytes]:
    """The gzip members of a group: of a large file one for each piece of it."""
    data = b"".join(tar_member(*member) for member in members)
    size = len(members[0][1])
    if len(members) > 1 or size <= PIECE:
        return [gzip(data)]
    cuts = [0, *(512 + at for at in range(PIECE, size, PIECE)), len(data)]
    return [gzip(data[begin:end]) for begin, end in zip(cuts, cuts[1:], strict=False)]


PIECE = archive.PIECE


def head_size(data: bytes) -> int:
    """Bytes of the first gzip member, 100 where there is none: it has to say something."""
    first = zlib.decompressobj(31)
    try:
        first.decompress(data)
    except zlib.error:
        return 100
    return len(data) - len(first.unused_data)


def head_of(data: bytes) -> tuple[int, str]:
    """What a channel file says of its head, whatever is in it."""
    first = zlib.decompressobj(31)
    try:
        unpacked = first.decompress(data)
        listed = unpacked[512 : 512 + int(unpacked[124:135], 8)]
    except (zlib.error, ValueError):
        listed = b""
    return head_size(data), hashlib.sha256(listed).hexdigest()


# -- a board's code on this computer


@dataclass
class Accepted:
    """What a board accepts: lists that one of the keys has signed, where it pins any, and that the rules let pass."""

    keys: list[keys.Jwk]
    rules: Callable[[dict[str, Any]], None]


def rules(*numbers: int, **changes: Any) -> Accepted:
    """What a board accepts that pins these keys."""
    return Accepted(pinned(*numbers), lambda header: policy.check(header, NAME, **changes))


class Job:
    """What the stage uses of a job: the buffer, the state and the log of a board that has no kept version to give up."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(1024))
        self.store = Slots((ota_boot.ota("state.0"), ota_boot.ota("state.1")))
        self.excluded: tuple[str, ...] = ()
        self.done = 0
        self.platform = types.SimpleNamespace(board=self)

    def disk_free(self) -> int:
        status = os.statvfs(ota_boot.ROOT)
        return status.f_frsize * status.f_bavail

    def log(self, *parts: Any) -> None:
        assert all(isinstance(part, str | int) for part in parts)

    def progress(self, done: int, total: int) -> None:
        assert self.done <= done <= total
        self.done = done

    def give_up_previous(self) -> Iterator[None]:
        yield


def install(
    data: bytes, accepted: Accepted, root: Path, running: Mapping[str, bytes] = NOTHING, memory: int | None = None
) -> dict[str, bytes]:
    """Read and stage a bundle with the board's code below `root`; the staged files by path. OtaError when it is refused.

    AssertionError when it changes, makes or removes any file or folder but those that reading a bundle may: see STAGED.

    :param root: an empty folder, or one where something has been staged before.
    :param running: what is on the board before; what is equal in the bundle is not staged.
    :param memory: the most bytes that the reader may take, beside its buffer of 1 KiB.
    """
    for path, content in running.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    with board_at(root):
        (root / "download").write_bytes(data)
        before, job = below(root), Job()
        source = FromFile(str(root / "download"))
        try:
            with flat(memory):
                finish(_fill(job, source, accepted))
            found = {path: Path(lists.target(n, path)) for n, (path, _size, _digest, _at) in lists.entries()}
            return {path: file.read_bytes() for path, file in found.items() if file.exists()}
        finally:
            source.close()
            only_changed(root, before, STAGED)
            (root / "download").unlink()


def _fill(job: Job, source: FromFile, accepted: Accepted) -> Generator[Any, None, None]:
    """As updates does it, one phase after the other."""
    digest, signed, base = yield from reader.read_head(source, job.view)
    if accepted.keys:
        yield from signature.checking(digest, signed, accepted.keys)
    with open(ota_boot.ota("list"), "rb") as f:
        header = yield from manifest.check(f, accepted.rules)
    wanted, total = yield from prepare.plan(job, header, digest)
    yield from reader.read_files(source, base, job.view, Stage(job, wanted, total))


# What reading and staging a bundle may make; folders have a slash behind them, and those of the stage ten files. The state
# remembers how much there is of a large file.
STAGED = re.compile(r"\.ota/(list|state\.[01]|loader|stage/(id|e\d|\d{1,3}/(e\d)?)?)?")


def below(root: Path) -> dict[str, bytes]:
    """Every file, folder (with a slash behind it) and link below a folder, by its path there."""
    found = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = b"-> " + bytes(path.readlink())
        elif path.is_dir():
            found[name + "/"] = b""
        else:
            found[name] = path.read_bytes()
    return found


def only_changed(root: Path, before: Mapping[str, bytes], allowed: re.Pattern[str]) -> None:
    """AssertionError when a path below `root` is not as `before`, and not `allowed`."""
    after = below(root)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    strange = sorted(path for path in changed if not allowed.fullmatch(path) or after.get(path, b"").startswith(b"-> "))
    assert not strange, f"written outside the stage: {strange}"


@contextmanager
def flat(most: int | None) -> Iterator[None]:
    """AssertionError when what is done in it takes more than `most` bytes of memory at any time."""
    if most is None:
        yield
        return
    tracemalloc.start()
    try:
        yield
    finally:
        taken = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert taken <= most, f"{taken} bytes of memory, not {most}"


@contextmanager
def board_at(root: Path) -> Iterator[None]:
    """The loader's functions, and with them all of OTA, work below `root`. A boot has imported what they use."""
    (root / ".ota").mkdir(parents=True, exist_ok=True)
    loader: Any = ota_boot
    before = loader.ROOT
    loader.ROOT = str(root)
    for module in _IMPORTED:
        setattr(loader, module.__name__, module)
    try:
        yield
    finally:
        loader.ROOT = before


_IMPORTED: tuple[types.ModuleType, ...] = (os, json, hashlib)
