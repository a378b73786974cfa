"""Bundles: made, signed, read and verified (docs/formats.md has every byte). The same input gives the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iotctl import archive, keys, mpy
from iotctl.errors import IotctlError
from iotctl.profile import Profile
from iotctl.tree import Files
from modules.ota.errors import OtaError
from modules.ota.release import fields, manifest, paths, policy, signature

Header = dict[str, Any]
LIST = ".ota/release"  # where a board has the list of what it runs


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
    """A bundle in memory: the list's bytes, its signature if there is one, its files or some of them, and all as packed."""

    listing: bytes
    signature: bytes | None
    files: Files
    packed: bytes  # the archive behind its head: no signature changes a byte of it

    @property
    def header(self) -> Header:
        header: Header = manifest.parse_header(self.listing.split(b"\n", 1)[0])
        return header

    @property
    def flashed(self) -> Files:
        """What a new board gets: the files, and the list that OTA knows them by."""
        return {**self.files, LIST: self.listing}

    @property
    def entries(self) -> list[archive.Entry]:
        return _parse(self.listing)[1]

    def pinned(self, role: str) -> list[keys.Jwk]:
        """The keys that the profile in it pins for a role, "release" or "channel"; none when that cannot be read."""
        try:
            found = signature.pinned(json.loads(self.files["profile.json"])["ota"], role)
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
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
    if len(files) > manifest.MAX_FILES:
        raise IotctlError(f"a release has at most {manifest.MAX_FILES} files")
    for name in profile.delete:
        kept = next((path for path in files if paths.inside(path, name)), None)
        if kept:
            raise IotctlError(f"ota.delete names {name}, but the release contains {kept}")
    lines, packed = _pack_files(files)
    header = {
        "format": fields.FORMAT,
        "name": profile.name,
        "version": options.version,
        "sequence": options.sequence,
        "micropython": mpy.MICROPYTHON_NATIVE if mpy.chips(files) else mpy.MICROPYTHON,
        "mpy": 0 if options.py else mpy.VERSION,
        "created": options.created,
        "expires": options.expires,
        "notes": options.notes,
        "files": len(files),
        "size": sum(map(len, files.values())),
        "delete": profile.delete,
    }
    first: bytes = manifest.header_line(header)
    manifest.parse_header(first[:-1])
    return Bundle(first + lines, None, files, packed)


def sign(bundle: Bundle, key: keys.PrivateKey) -> Bundle:
    """The same bundle with `key`'s signature; IotctlError when boards with its profile would not believe that key."""
    keys.check_pinned(key, bundle.pinned("release"), "release")
    return Bundle(bundle.listing, keys.sign(key, bundle.listing), bundle.files, bundle.packed)


def pack(bundle: Bundle) -> bytes:
    """The archive's bytes."""
    return archive.head(bundle.listing, bundle.signature) + bundle.packed


def read(path: Path, only: Container[str] | None = None) -> Bundle:
    """Read an archive. OtaError when it is none, or damaged; who signed it is verify()'s business.

    :param only: the files to keep in memory; None for all, which a bomb makes as large as it likes.
    """
    pieces: dict[str, list[bytes]] = {}

    def take(name: str, piece: bytes) -> None:
        if only is None or name in only:
            pieces.setdefault(name, []).append(piece)

    with path.open("rb") as f:
        reader = archive.Reader(f)
        _header, entries = _parse(reader.listing)
        reader.files(entries, take)
        f.seek(reader.head)
        packed = f.read()
    kept = [entry.path for entry in entries if only is None or entry.path in only]
    return Bundle(reader.listing, reader.signature, {name: b"".join(pieces.get(name, [])) for name in kept}, packed)


def unpack(path: Path, folder: Path) -> None:
    """Write the files of an archive into an empty folder. OtaError when it is none, or damaged."""

    def take(name: str, piece: bytes) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("ab") as f:
            f.write(piece)

    with path.open("rb") as f:
        reader = archive.Reader(f)
        _header, entries = _parse(reader.listing)
        for entry in entries:
            take(entry.path, b"")  # an empty one has no piece
        reader.files(entries, take)


def verify(path: Path, name: str | None = None, pinned: list[keys.Jwk] | None = None, expired: bool = False) -> Verdict:
    """Check a bundle by the board's own rules, in bounded memory; OtaError says what a board would say.

    :param name: the board's shortName, or None for whatever the bundle is for.
    :param pinned: the keys of which one must have signed it, or None to leave the signature alone.
    :param expired: take what has expired, too.
    """
    with path.open("rb") as f:
        reader = archive.Reader(f)
        if pinned:
            keys.check_signature(reader.listing, reader.signature, pinned)
        header, entries = _parse(reader.listing)
        floor = max(header["sequence"] - 1, 0)  # of a board that takes it: nobody knows here what was confirmed there
        policy.check(header, name or header["name"], floor, now=None if expired else int(time.time()))
        reader.files(entries, _ignore)
    state = "unsigned" if reader.signature is None else "good" if pinned else "not checked"
    return Verdict(header["name"], header["version"], header["sequence"], header["files"], header["size"], state)


def source_date() -> int:
    """SOURCE_DATE_EPOCH, or 0: a clock would make equal builds different."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "0")
    if not text.isdigit():
        raise IotctlError("SOURCE_DATE_EPOCH must be whole seconds since 1970")
    return int(text)


def _pack_files(files: Files) -> tuple[bytes, bytes]:
    """The list without its header, and the archive behind its head. What a board would refuse in a tree is refused."""
    lines, digests, packed, previous = b"", b"", [], None
    at = 0
    for group in archive.groups((path, len(files[path])) for path in sorted(files, key=paths.key)):
        for path in group:
            line = manifest.entry_line(path, len(files[path]), at)
            previous = manifest.parse_entry(line[:-1], previous)
            lines += line
            digests += hashlib.sha256(files[path]).digest()
        packed.append(archive.pack_group([(path, files[path]) for path in group]))
        at += len(packed[-1])
    return lines + digests, b"".join([*packed, archive.END])


def _parse(listing: bytes) -> tuple[Header, list[archive.Entry]]:
    """The header and the entries of a list, checked like on a board."""
    header: Header = manifest.parse_header(listing.split(b"\n", 1)[0])
    _first, *lines, digests = listing.split(b"\n", header["files"] + 1)
    if (len(lines), len(digests)) != (header["files"], header["files"] * manifest.DIGEST):
        raise OtaError("bad_bundle", "the release announces another number of files than it lists")
    entries: list[archive.Entry] = []
    previous = None
    for n, line in enumerate(lines):
        previous = manifest.parse_entry(line, previous)
        path, size, at = previous
        entries.append(archive.Entry(path, size, digests[n * manifest.DIGEST : (n + 1) * manifest.DIGEST], at))
    if sum(entry.size for entry in entries) != header["size"]:
        raise OtaError("bad_bundle", "the release announces another size of its files than it lists")
    return header, entries


def _ignore(_path: str, _piece: bytes) -> None:
    """For a reader of whom nobody wants the content."""
