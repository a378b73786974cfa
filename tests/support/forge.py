"""Bundles as an attacker makes them: every part can be wrong while all the others are right, its signature among them.

>>> pack(listing({"a.py": b"1"}), {"a.py": b"1"}, key(0))[:2]
b'\\x1f\\x8b'
"""

from __future__ import annotations

import hashlib
import json
import re
import tracemalloc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from iotctl import board_code, bundle, keys
from modules.ota import bundle as board_bundle
from modules.ota import kept, paths, stage
from modules.ota.rules import Rules

NAME = "sim-board"
MISSING = object()
Members = list[tuple[str, bytes]]


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


def entry(path: str, data: bytes) -> dict[str, Any]:
    return {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def listing(files: dict[str, bytes], **changes: Any) -> bytes:
    """A `.release` of these files, with changes to its header; MISSING takes a field out."""
    return listing_of([entry(path, files[path]) for path in sorted(files, key=paths.key)], changes)


def listing_of(entries: list[dict[str, Any]], changes: Mapping[str, Any] = MappingProxyType({})) -> bytes:
    """A `.release` of entries in just this order, whatever they are."""
    tree = "".join("{} {} {}\n".format(*(found.get(name) for name in ("path", "size", "sha256"))) for found in entries)
    header: dict[str, Any] = {
        "format": 1,
        "name": NAME,
        "version": "1.1.0",
        "sequence": 1_001_000,
        "base": None,
        "tree": hashlib.sha256(tree.encode()).hexdigest(),
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
    lines = [{name: value for name, value in header.items() if value is not MISSING}, *entries]
    return b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)


def pack(listed: bytes, files: dict[str, bytes], signer: keys.PrivateKey | None = None) -> bytes:
    """A bundle with its members in the right order."""
    return bundle.gzip(tar(head(listed, signer) + [(path, files[path]) for path in sorted(files, key=paths.key)]))


def head(listed: bytes, signer: keys.PrivateKey | None) -> Members:
    """The members that come first."""
    return [(".release", listed)] + ([(".release.sig", keys.sign(signer, listed))] if signer else [])


def tar(members: Members) -> bytes:
    return b"".join(header(name, len(data)) + data + bytes(-len(data) % 512) for name, data in members) + bytes(1024)


def header(name: str | bytes, size: int, kind: bytes = b"0", link: bytes = b"", prefix: bytes = b"") -> bytes:
    """A tar header with a right checksum. Unlike iotctl's it takes any name, type and link."""
    raw = name if isinstance(name, bytes) else name.encode()
    block = raw[:100].ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"%011o\0" % 0
    block += b" " * 8 + kind + link.ljust(100, b"\0") + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + prefix.ljust(155, b"\0")
    block += bytes(12)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


# -- a board's code on this computer


def rules(*numbers: int, **changes: Any) -> Rules:
    """What a board accepts that pins these keys."""
    return Rules(NAME, pinned(*numbers), **changes)


def install(
    data: bytes, accepted: Rules, root: Path, base: Mapping[str, bytes] = MappingProxyType({}), memory: int | None = None
) -> dict[str, bytes]:
    """Read and stage a bundle with the board's code below `root`; the staged files by path. OtaError when it is refused.

    AssertionError when it changes, makes or removes any file or folder but those that reading a bundle may: see STAGED.

    :param root: an empty folder.
    :param base: what is on the board before, for a delta.
    :param memory: the most bytes that the reader may take, beside its buffer of 4 KiB.
    """
    for path, content in base.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    with _board(root):
        archive = root / "download"
        archive.write_bytes(data)
        before = below(root)
        target = stage.Stage((), memoryview(bytearray(4096)), lambda *_parts: None)
        try:
            with flat(memory):
                finish(board_bundle.read(lambda: board_code.opened(archive), accepted, target.view, target))
            listed = (root / ".ota" / "list").read_bytes().splitlines()[1:]
            found = {json.loads(line)["path"]: kept.target(n, json.loads(line)) for n, line in enumerate(listed)}
            return {path: Path(file).read_bytes() for path, file in found.items() if Path(file).exists()}
        finally:
            only_changed(root, before, STAGED)
            archive.unlink()


# What reading and staging a bundle may make; folders have a slash behind them, and the stage's 16 files each.
STAGED = re.compile(r"\.ota/|\.ota/list|\.ota/loader|\.ota/stage/|\.ota/stage/(id|sig)|\.ota/stage/\d{1,3}/(\d|1[0-5])?")


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


def finish(job: Iterator[Any]) -> Any:
    while True:
        try:
            next(job)
        except StopIteration as end:
            return end.value


@contextmanager
def _board(root: Path) -> Iterator[None]:
    root.mkdir(exist_ok=True)
    with board_code._board_at(str(root)):
        yield
