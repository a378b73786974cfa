"""The server's files: an archive first, then the channel file (or `latest`) that names it, each by one rename.

A board that reads at any moment finds either the old state or the new one, whole.
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iot_platform.module import name_ok

from iotctl import archive, board_code, bundle, files, keys, tree
from iotctl.errors import IotctlError
from modules.ota.errors import OtaError
from modules.ota.release import channel as board_channel
from modules.ota.release import fields, policy


@dataclass(frozen=True)
class Options:
    """How a bundle is offered. `expires` in seconds since 1970; `force`: also what is older than the channel, or has expired.

    `notes`: others than the bundle's. `groups`: percentages of those boards' own.
    """

    channel: str = "stable"
    rollout: int = 100
    expires: int | None = None
    legacy: bool = False
    force: bool = False
    notes: str | None = None
    groups: Mapping[str, int] = field(default_factory=dict)


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
    made = check(path, options, key)
    data = path.read_bytes()
    folder = directory / made.header["name"].lower()
    target = folder / f"{made.header['version']}.tar.gz"
    channel_file = folder / f"{options.channel}.json"
    counter = next_counter(channel_file, made.header["sequence"], options)
    channel = channel_bytes(made.header, data, options, counter, key)
    writes = [(target, data), (channel_file, channel)]
    if options.legacy:
        writes += _legacy(path, made, folder, options.channel)
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
        "rollout": {"percent": options.rollout, **({"groups": dict(options.groups)} if options.groups else {})},
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


def check(path: Path, options: Options, key: keys.PrivateKey | None) -> bundle.Bundle:
    """The bundle at `path`, which boards with its own profile would take, so offered; IotctlError or OtaError for any other."""
    made = bundle.read(path, ("profile.json",))
    if not name_ok(options.channel):
        raise IotctlError("a channel's name has letters, digits, _ . or -, such as stable")
    if made.signature is not None and key is None:
        raise IotctlError("the bundle is signed, so its channel file must be: give --key")
    if made.signature is None and (key or made.pinned("release")):
        raise IotctlError("the bundle is not signed, so boards with a key would refuse it: iotctl sign it first")
    if key:
        keys.check_pinned(key, made.pinned("channel"), "channel")
    bundle.verify(path, pinned=made.pinned("release"), expired=options.force)
    return made


def latest(header: bundle.Header, file: str, data: bytes) -> bytes:
    """The line that says to devices of public-micropython-iot-platform what is current."""
    needed_kb = -(-(len(data) + header["size"]) // 1024)
    return f"{header['version']};{file};{needed_kb};{len(data)};{hashlib.sha256(data).hexdigest()};\n".encode()


def latest_name(channel: str) -> str:
    """The line's file: they follow one of two."""
    return "canary" if channel == "canary" else "latest"


def _legacy(path: Path, made: bundle.Bundle, folder: Path, channel: str) -> list[tuple[Path, bytes]]:
    """The archive and the line for such devices: folders first, no list. Unpacked on the disk, not in memory."""
    if channel not in ("stable", "canary"):
        raise IotctlError(f"devices of that platform know no channel {channel}: --legacy goes with stable or canary")
    with tempfile.TemporaryDirectory() as found:
        bundle.unpack(path, Path(found))
        data = archive.gzip_stream(_legacy_tar(Path(found), [entry.path for entry in made.entries]))
    name = f"{made.header['version']}-legacy.tar.gz"
    return [(folder / name, data), (folder / latest_name(channel), latest(made.header, name, data))]


def _legacy_tar(found: Path, names: list[str]) -> Iterator[bytes]:
    folders = sorted(folder + "/" for folder in tree.folders(names))
    for name in [*folders, *sorted(names, key=_late)]:
        yield archive.tar_member(name, b"" if name.endswith("/") else (found / name).read_bytes())
    yield archive.END_OF_TAR


def _late(path: str) -> tuple[int, str]:
    """Their installer unpacks over the running tree: what that imports or reads comes last, what starts it at the very end."""
    last = ("boot.py", "version", "profile.json", "main.py")
    if path in last:
        return 3 + last.index(path), path
    return (2 if "/__init__." in path else 1 if path.endswith(".py") and path != "ota_boot.py" else 0), path
