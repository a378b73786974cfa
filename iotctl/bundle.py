"""Bundles: made, signed, read and verified (docs/formats.md has every byte). The same input gives the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from iotctl import board_code, keys, mpy
from iotctl.errors import IotctlError
from iotctl.profile import Profile
from iotctl.tree import Files
from modules.ota import checks, paths, policy, release
from modules.ota.errors import OtaError
from modules.ota.header import MAX_FILES, parse_header
from modules.ota.lines import tree_line
from modules.ota.rules import Rules

Header = dict[str, Any]
WINDOW = 12  # bits: a board needs 16 KB of heap to unpack it
_BLOCK = 512
_MAX_UNPACKED = 512 * 1024 * 1024


@dataclass(frozen=True)
class Options:
    """What a release says about itself beside its files. Times are seconds since 1970."""

    version: str
    sequence: int
    notes: str = ""
    created: int = 0
    expires: int | None = None
    py: bool = False


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory: the list's bytes, its signature if there is one, and the files."""

    listing: bytes
    signature: bytes | None
    files: Files

    @property
    def header(self) -> Header:
        header: Header = parse_header(self.listing.split(b"\n", 1)[0])
        return header

    @property
    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.listing.splitlines()[1:]]

    @property
    def pinned(self) -> list[keys.Jwk]:
        """The keys that the profile in it pins; none when that cannot be read."""
        try:
            found = json.loads(self.files["profile.json"])["ota"]["public_keys"]
        except (KeyError, ValueError, TypeError):
            return []
        return [key for key in found if isinstance(key, dict)] if isinstance(found, list) else []


@dataclass(frozen=True)
class Verdict:
    """What an offline check of a bundle found to be right."""

    name: str
    version: str
    sequence: int
    files: int
    size: int
    signature: str  # "good", "unsigned" or "not checked"
    base: str | None = None  # the version that a delta starts from
    patches: str = "none"  # of a delta: "good", or "not checked" where its base was not given


def default_sequence(version: str) -> int:
    """``1.4.2`` -> 1004002; IotctlError for what has no such number of its own."""
    numbers = version.split(".")
    if not 0 < len(numbers) <= 3 or not all(number.isdigit() for number in numbers):
        raise IotctlError(f"the version {version} has no sequence of its own: give --sequence")
    major, minor, patch = (int(number) for number in (numbers + ["0", "0"])[:3])
    if minor > 999 or patch > 999:
        raise IotctlError(f"the version {version} has no sequence of its own: give --sequence")
    return major * 1_000_000 + minor * 1000 + patch


def make(profile: Profile, files: Files, options: Options) -> Bundle:
    """An unsigned bundle of a board's tree. OtaError or IotctlError for what every board would refuse."""
    entries = _entries(files)
    delete = profile.delete
    for name in delete:
        kept = next((path for path in files if paths.inside(path, name)), None)
        if kept:
            raise IotctlError(f"ota.delete names {name}, but the release contains {kept}")
    tree = hashlib.sha256(b"".join(tree_line(entry) for entry in entries)).hexdigest()
    header = {
        "format": checks.FORMAT,
        "name": profile.name,
        "version": options.version,
        "sequence": options.sequence,
        "base": None,
        "tree": tree,
        "micropython": mpy.MICROPYTHON,
        "mpy": 0 if options.py else mpy.VERSION,
        "created": options.created,
        "expires": options.expires,
        "notes": options.notes,
        "files": len(entries),
        "size": sum(entry["size"] for entry in entries),
        "delete": delete,
    }
    first = _line(header)
    parse_header(first[:-1])
    if len(entries) > MAX_FILES:
        raise IotctlError(f"a release has at most {MAX_FILES} files")
    return Bundle(first + b"".join(_line(entry) for entry in entries), None, files)


def sign(bundle: Bundle, key: keys.PrivateKey) -> Bundle:
    """The same bundle with `key`'s signature; IotctlError when boards with its profile would not believe that key."""
    keys.check_pinned(key, bundle.pinned)
    return Bundle(bundle.listing, keys.sign(key, bundle.listing), bundle.files)


def pack(bundle: Bundle) -> bytes:
    """The archive's bytes."""
    members = [(".release", bundle.listing)]
    if bundle.signature is not None:
        members.append((".release.sig", bundle.signature))
    members += [(entry["path"], bundle.files[entry["path"]]) for entry in bundle.entries if entry["size"] is not None]
    return gzip(tar(members))


def read(path: Path) -> Bundle:
    """Read an archive into memory, its list and members being in place; digests are verify()'s business."""
    tar_reader, members = board_code.tarfile(), {}
    archive = tar_reader.TarFile(fileobj=BytesIO(_gunzip(path.read_bytes())))
    try:
        for member in archive:
            if member.type != tar_reader.REGTYPE or member.name in members:
                raise OtaError("bad_member", f"{member.name} is no regular file, or comes twice")
            members[member.name] = archive.extractfile(member).read()
    except ValueError as error:
        raise OtaError("bad_bundle", str(error)) from None
    if ".release" not in members:
        raise OtaError("bad_bundle", "the archive has no .release: it is no bundle")
    bundle = Bundle(members.pop(".release"), members.pop(".release.sig", None), members)
    _check_list(bundle)
    return bundle


def verify(
    path: Path, name: str | None = None, pinned: list[keys.Jwk] | None = None, base: Path | None = None
) -> Verdict:
    """Check a bundle with the board's own code; OtaError says what a board would say.

    :param name: the board's shortName, or None for whatever the bundle is for.
    :param pinned: the keys of which one must have signed it, or None to leave the signature alone.
    :param base: for a delta, the full bundle of the version that it starts from: only with it can patches be checked.
    """
    bundle = read(path)
    header = bundle.header
    name = name or header["name"]
    if header["base"] is None or base:
        running = read(base) if base else None
        known = board_code.Base(running.header["version"], running.listing, running.files) if running else None
        board_code.read_bundle(path, name, pinned or [], int(time.time()), known)
    else:
        _check_delta(bundle, name, pinned)
    patched = [entry for entry in bundle.entries if "patch" in entry]
    return Verdict(
        header["name"],
        header["version"],
        header["sequence"],
        header["files"],
        header["size"],
        "unsigned" if bundle.signature is None else "good" if pinned else "not checked",
        header["base"],
        "none" if not patched else "good" if base else "not checked",
    )


def gzip(data: bytes) -> bytes:
    """One gzip member with a 4 KiB window that says so in its extra field, without a time or a name."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -WINDOW)
    head = b"\x1f\x8b\x08\x04" + b"\0\0\0\0\x02\xff" + b"\x05\0WB\x01\0" + bytes((WINDOW,))
    return head + squeeze.compress(data) + squeeze.flush() + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def tar(members: list[tuple[str, bytes]]) -> bytes:
    """An ustar archive. A name that ends in ``/`` is a folder."""
    return b"".join(_tar_blocks(members)) + bytes(2 * _BLOCK)


def source_date() -> int:
    """SOURCE_DATE_EPOCH, or 0: a clock would make equal builds different."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "0")
    if not text.isdigit():
        raise IotctlError("SOURCE_DATE_EPOCH must be whole seconds since 1970")
    return int(text)


def _entries(files: Files) -> list[dict[str, Any]]:
    """The list of a tree, in order; what a board would refuse in it is refused here."""
    entries, previous = [], None
    for path in sorted(files, key=paths.key):
        entry = {"path": path, "size": len(files[path]), "sha256": hashlib.sha256(files[path]).hexdigest()}
        release.parse_entry(_line(entry)[:-1], previous)
        entries.append(entry)
        previous = path
    return entries


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _check_list(bundle: Bundle) -> None:
    lines = bundle.listing.split(b"\n")
    if lines[-1]:
        raise OtaError("bad_bundle", "the last line of .release is not ended")
    delta = parse_header(lines[0])["base"] is not None
    previous = None
    for line in lines[1:-1]:
        entry = release.parse_entry(line, previous, delta)
        previous = entry["path"]
        if entry["size"] is not None and previous not in bundle.files:
            raise OtaError("bad_member", f"{previous} is listed, but not in the archive")


def _check_delta(bundle: Bundle, name: str, pinned: list[keys.Jwk] | None) -> None:
    """What can be said of a delta without its base: its list and signature, its whole files, the sizes of its patches."""
    policy.check_header(bundle.header, Rules(name, now=int(time.time()), running=bundle.header["base"]))
    if pinned and bundle.signature is None:
        raise OtaError("no_signature", "the release is not signed, but this board has a key")
    if pinned and not keys.verifies(bundle.listing, bundle.signature or b"", pinned):
        raise OtaError("bad_signature", "no pinned key signed this release")
    listed = [entry for entry in bundle.entries if entry["size"] is not None]
    if len(bundle.entries) != bundle.header["files"] or sum(entry["size"] for entry in listed) != bundle.header["size"]:
        raise OtaError("bad_bundle", "the release announces another number or size of files than it lists")
    if [entry["path"] for entry in listed] != list(bundle.files):
        raise OtaError("bad_member", "the archive contains what the release does not list, or in another order")
    for entry in listed:
        data = bundle.files[entry["path"]]
        if len(data) != (entry["patch"][1] if "patch" in entry else entry["size"]):
            raise OtaError("bad_size", f"{entry['path']} has another size than announced")
        if "patch" not in entry and hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise OtaError("bad_digest", f"{entry['path']} is not what was announced")


def _tar_blocks(members: list[tuple[str, bytes]]) -> Iterator[bytes]:
    for name, data in members:
        yield _tar_header(name, len(data)) + data + bytes(-len(data) % _BLOCK)


def _tar_header(name: str, size: int) -> bytes:
    folder = name.endswith("/")
    mode, kind = (b"0000755\0", b"5") if folder else (b"0000644\0", b"0")
    owner = b"0000000\0" * 2
    block = name.encode().ljust(100, b"\0") + mode + owner + b"%011o\0" % size + b"%011o\0" % 0
    block += b" " * 8 + kind + bytes(100) + b"ustar\x0000" + bytes(64) + owner + bytes(155 + 12)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _gunzip(data: bytes) -> bytes:
    reader = zlib.decompressobj(16 + 15)
    try:
        out = reader.decompress(data, _MAX_UNPACKED)
    except zlib.error:
        raise OtaError("bad_bundle", "this is no gzip archive, or a damaged one") from None
    if reader.unconsumed_tail:
        raise OtaError("too_large", f"the archive unpacks to more than {_MAX_UNPACKED} bytes")
    if not reader.eof or reader.unused_data:
        raise OtaError("bad_bundle", "the archive is cut short, or something follows it")
    return out
