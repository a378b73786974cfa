"""The server's files: an archive first, then the channel file (or `latest`) that names it, each by one rename.

A board that reads at any moment finds either the old state or the new one, whole.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iot_platform.words import name_ok

from iotctl import bundle, delta, files, keys
from iotctl.errors import IotctlError
from modules.ota import channel as board_channel
from modules.ota import checks


@dataclass(frozen=True)
class Options:
    """How a bundle is offered. `expires` in seconds since 1970."""

    channel: str = "stable"
    rollout: int = 100
    expires: int | None = None
    legacy: bool = False
    deltas: int = 0  # from so many of the older releases in the folder


@dataclass(frozen=True)
class Published:
    """What publish() wrote, in this order; `published` is the channel file's counter."""

    files: list[Path]
    version: str
    channel: str
    published: int


def publish(path: Path, directory: Path, options: Options, key: keys.PrivateKey | None = None) -> Published:
    """Put the bundle at `path` below `directory`. IotctlError or OtaError before anything is written."""
    bundle.verify(path)
    made = bundle.read(path)
    _check(made, options, key)
    folder = directory / made.header["name"].lower()
    archive = path.read_bytes()
    target = folder / f"{made.header['version']}.tar.gz"
    channel_file = folder / f"{options.channel}.json"
    counter = next_counter(channel_file)
    deltas = delta.from_folder(made, folder, options.deltas, len(archive), key) if options.deltas else []
    channel = channel_bytes(made.header, archive, options, counter, key, deltas)
    while deltas and len(channel) > board_channel.MAX_BYTES:  # the oldest ones are needed least
        deltas.pop()
        channel = channel_bytes(made.header, archive, options, counter, key, deltas)
    writes = [(target, archive), *((folder / found.file, found.archive) for found in deltas), (channel_file, channel)]
    if options.legacy:
        writes += _legacy(made, folder)
    folder.mkdir(parents=True, exist_ok=True)
    for written, data in writes:
        files.replace(written, data)
    return Published([written for written, _data in writes], made.header["version"], options.channel, counter)


def channel_bytes(
    header: bundle.Header,
    archive: bytes,
    options: Options,
    counter: int,
    key: keys.PrivateKey | None,
    deltas: Sequence[delta.Delta] = (),
) -> bytes:
    """The channel file: one line of JSON, and its signature in base64 where there is a key."""
    value: dict[str, Any] = {
        "format": checks.FORMAT,
        "name": header["name"],
        "channel": options.channel,
        "version": header["version"],
        "sequence": header["sequence"],
        "published": counter,
        "expires": options.expires,
        "bundle": _file(f"{header['version']}.tar.gz", archive, header["size"]),
        "deltas": {found.base: _file(found.file, found.archive, found.unpacked) for found in deltas},
        "rollout": {"percent": options.rollout},
    }
    line = json.dumps(value, separators=(",", ":")).encode()
    board_channel.parse(line, [])
    return line + b"\n" + (base64.b64encode(keys.sign(key, line)) + b"\n" if key else b"")


def _file(name: str, archive: bytes, unpacked: int) -> dict[str, Any]:
    return {"file": name, "size": len(archive), "sha256": hashlib.sha256(archive).hexdigest(), "unpacked": unpacked}


def next_counter(channel_file: Path) -> int:
    """Seconds since 1970, but above the counter of the channel file that is there: boards refuse one that goes back."""
    now = int(time.time())
    if not channel_file.exists():
        return now
    before: int = board_channel.parse(channel_file.read_bytes(), [])["published"]
    return max(now, before + 1)


def _check(made: bundle.Bundle, options: Options, key: keys.PrivateKey | None) -> None:
    if not name_ok(options.channel):
        raise IotctlError("a channel's name has letters, digits, _ . or -, such as stable")
    if made.header["base"] is not None:
        raise IotctlError("this is a delta: publish the full bundle, with --deltas")
    if made.signature is not None and key is None:
        raise IotctlError("the bundle is signed, so its channel file must be: give --key")
    if made.signature is None and (key or made.pinned):
        raise IotctlError("the bundle is not signed, so boards with a key would refuse it: iotctl sign it first")
    if key:
        keys.check_pinned(key, made.pinned)


def _legacy(made: bundle.Bundle, folder: Path) -> list[tuple[Path, bytes]]:
    """The archive and the `latest` line for devices of public-micropython-iot-platform: folders first, no list."""
    contents = [(path, made.files[path]) for path in (entry["path"] for entry in made.entries)]
    folders = {"/".join(path.split("/")[:n]) + "/" for path, _data in contents for n in range(1, path.count("/") + 1)}
    archive = bundle.gzip(bundle.tar([(name, b"") for name in sorted(folders)] + contents))
    name = f"{made.header['version']}-legacy.tar.gz"
    needed_kb = -(-(len(archive) + made.header["size"]) // 1024)  # those devices ask for so much free space
    line = f"{made.header['version']};{name};{needed_kb};{len(archive)};{hashlib.sha256(archive).hexdigest()};\n"
    return [(folder / name, archive), (folder / "latest", line.encode())]
