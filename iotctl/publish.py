"""The server's files: an archive first, then the channel file (or `latest`) that names it, each by one rename.

A board that reads at any moment finds either the old state or the new one, whole.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iot_platform.module import name_ok

from iotctl import archive, board_code, bundle, files, keys
from iotctl.errors import IotctlError
from modules.ota.errors import OtaError
from modules.ota.release import channel as board_channel
from modules.ota.release import fields, policy


@dataclass(frozen=True)
class Options:
    """How a bundle is offered. `expires` in seconds since 1970; `force`: also what is older than the channel, or has expired.

    `notes`: others than the bundle's.
    """

    channel: str = "stable"
    rollout: int = 100
    expires: int | None = None
    legacy: bool = False
    force: bool = False
    notes: str | None = None


@dataclass(frozen=True)
class Published:
    """What publish() wrote, in this order; `published` is the channel file's counter."""

    files: list[Path]
    version: str
    channel: str
    published: int


def publish(path: Path, directory: Path, options: Options, key: keys.PrivateKey | None = None) -> Published:
    """Put the bundle at `path` below `directory`. IotctlError or OtaError before anything is written.

    It is what boards with the bundle's own profile would take, by the keys that are pinned there.
    """
    made = bundle.read(path, None if options.legacy else ("profile.json",))
    _check(made, options, key)
    bundle.verify(path, pinned=made.pinned("release"), expired=options.force)
    data = path.read_bytes()
    folder = directory / made.header["name"].lower()
    target = folder / f"{made.header['version']}.tar.gz"
    channel_file = folder / f"{options.channel}.json"
    counter = next_counter(channel_file, made.header["sequence"], options)
    channel = channel_bytes(made.header, data, options, counter, key)
    writes = [(target, data), (channel_file, channel)]
    if options.legacy:
        writes += _legacy(made, folder)
    folder.mkdir(parents=True, exist_ok=True)
    for written, content in writes:
        files.replace(written, content)
    return Published([written for written, _content in writes], made.header["version"], options.channel, counter)


def channel_bytes(
    header: bundle.Header,
    data: bytes,
    options: Options,
    counter: int,
    key: keys.PrivateKey | None,
    head: tuple[int, str] | None = None,
) -> bytes:
    """The channel file of the bundle `data`: one line of JSON, and its signature in base64 where there is a key.

    :param head: what archive.head_of() says, where that cannot be read from `data` itself.
    """
    size, digest = head or archive.head_of(data)
    file = {"file": f"{header['version']}.tar.gz", "size": len(data), "head": size, "sha256": digest}
    value: dict[str, Any] = {
        "format": fields.FORMAT,
        "name": header["name"],
        "channel": options.channel,
        "version": header["version"],
        "sequence": header["sequence"],
        "published": counter,
        "expires": options.expires,
        "notes": (header["notes"] if options.notes is None else options.notes)[: board_channel.MAX_NOTES],
        "bundle": file,
        "rollout": {"percent": options.rollout},
    }
    line = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
    board_code.finish(board_channel.parse(line, []))
    return line + b"\n" + (base64.b64encode(keys.sign(key, line)) + b"\n" if key else b"")


def next_counter(channel_file: Path, sequence: int, options: Options) -> int:
    """Seconds since 1970, but above the counter of the channel file that is there: boards refuse one that goes back.

    OtaError ``old_sequence``, ``far_sequence`` or ``expired`` for what boards would not take, unless it is forced.
    """
    now = int(time.time())
    if options.expires is not None and options.expires < now and not options.force:
        raise OtaError("expired", "the channel file would have expired already: give --force to publish it all the same")
    before = {"sequence": 0, "published": 0}
    if channel_file.exists():
        before = board_code.finish(board_channel.parse(channel_file.read_bytes(), []))
    if not before["sequence"] <= sequence <= before["sequence"] + policy.MAX_STEP and not options.force:
        found = f"{channel_file} has sequence {before['sequence']}, this is {sequence}"
        reason = "old_sequence" if sequence < before["sequence"] else "far_sequence"
        raise OtaError(reason, f"{found}: give --force to publish it all the same")
    if before["published"] >= now + board_channel.DAY:
        found = f"{channel_file} was published more than a day from now"
        raise OtaError("bad_channel", f"{found}: no board that knows the time takes it, or what follows it. Remove it first")
    return max(now, int(before["published"]) + 1)


def _check(made: bundle.Bundle, options: Options, key: keys.PrivateKey | None) -> None:
    if not name_ok(options.channel):
        raise IotctlError("a channel's name has letters, digits, _ . or -, such as stable")
    if made.signature is not None and key is None:
        raise IotctlError("the bundle is signed, so its channel file must be: give --key")
    if made.signature is None and (key or made.pinned("release")):
        raise IotctlError("the bundle is not signed, so boards with a key would refuse it: iotctl sign it first")
    if key:
        keys.check_pinned(key, made.pinned("channel"), "channel")


def _legacy(made: bundle.Bundle, folder: Path) -> list[tuple[Path, bytes]]:
    """The archive and the `latest` line for devices of public-micropython-iot-platform: folders first, no list."""
    contents = [(path, made.files[path]) for path in (entry["path"] for entry in made.entries)]
    folders = {"/".join(path.split("/")[:n]) + "/" for path, _data in contents for n in range(1, path.count("/") + 1)}
    data = archive.gzip(archive.tar([(name, b"") for name in sorted(folders)] + contents))
    name = f"{made.header['version']}-legacy.tar.gz"
    needed_kb = -(-(len(data) + made.header["size"]) // 1024)  # those devices ask for so much free space
    line = f"{made.header['version']};{name};{needed_kb};{len(data)};{hashlib.sha256(data).hexdigest()};\n"
    return [(folder / name, data), (folder / "latest", line.encode())]
