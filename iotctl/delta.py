"""Delta bundles: what changed since an older release, as whole files and as patches (docs/formats.md has every byte)."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iot_platform.words import name_ok

from iotctl import board_code, bundle, keys, patch
from modules.ota import paths
from modules.ota.errors import OtaError

_ENTRY = 45  # bytes that the word of a patch takes in the packed list: a digest, mostly
_WHOLE = ("boot.py",)  # no board's copy is ever replaced, so nobody knows what a patch would start from


@dataclass(frozen=True)
class Delta:
    """A delta bundle on its way to the server."""

    base: str
    file: str
    archive: bytes
    unpacked: int  # bytes of the files that it makes


def make(old: bundle.Bundle, new: bundle.Bundle) -> bundle.Bundle | None:
    """The bundle that leads from `old` to `new`, unsigned; None where no delta can say it."""
    before = {entry["path"]: entry for entry in old.entries}
    after = {entry["path"]: entry for entry in new.entries}
    if _respelled(before, after):
        return None
    entries: list[dict[str, Any]] = []
    members: dict[str, bytes] = {}
    for path in sorted(before.keys() | after.keys(), key=paths.key):
        if path not in after:
            entries.append({"path": path, "size": None})
        elif path not in before or before[path]["sha256"] != after[path]["sha256"]:
            entry, members[path] = _member(after[path], old.files.get(path), new.files[path])
            entries.append(entry)
    header = {
        **new.header,
        "base": old.header["version"],
        "files": len(entries),
        "size": sum(entry["size"] or 0 for entry in entries),
    }
    listing = b"".join(_line(line) for line in [header, *entries])
    return bundle.Bundle(listing, None, members)


def from_folder(new: bundle.Bundle, folder: Path, most: int, full: int, key: keys.PrivateKey | None) -> list[Delta]:
    """Deltas from the newest `most` older releases whose full bundles lie in `folder`.

    :param full: bytes of the full bundle: a delta that is not smaller is left out.
    :param key: the key of `new`: it signs them, and a release that it has not signed is no base.
    """
    found = []
    for old in _older(new, folder, key)[:most]:
        made = make(old, new)
        name = f"{old.header['version']}-{new.header['version']}.tar.gz"
        if made is None or not name_ok(name):
            continue
        archive = bundle.pack(bundle.Bundle(made.listing, keys.sign(key, made.listing) if key else None, made.files))
        if len(archive) < full:
            _check(archive, old, new)
            found.append(Delta(old.header["version"], name, archive, made.header["size"]))
    return found


def _check(archive: bytes, old: bundle.Bundle, new: bundle.Bundle) -> None:
    """A board that runs `old` takes it: said by the board's own code. OtaError when not."""
    base = board_code.Base(old.header["version"], old.listing, old.files)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "delta.tar.gz"
        path.write_bytes(archive)
        board_code.read_bundle(path, new.header["name"], [], 0, base)


def _older(new: bundle.Bundle, folder: Path, key: keys.PrivateKey | None) -> list[bundle.Bundle]:
    """Full bundles of older versions, the newest first."""
    found = []
    for path in sorted(folder.glob("*.tar.gz")):
        try:
            old = bundle.read(path)
        except OtaError:  # an archive of the `latest` protocol, or something else that lies there
            continue
        header = old.header
        mine = header["base"] is None and header["name"] == new.header["name"] and path.name == f"{header['version']}.tar.gz"
        older = header["sequence"] < new.header["sequence"] and header["version"] != new.header["version"]
        if mine and older and _believed(old, new, key):
            found.append(old)
    return sorted(found, key=lambda old: int(old.header["sequence"]), reverse=True)


def _believed(old: bundle.Bundle, new: bundle.Bundle, key: keys.PrivateKey | None) -> bool:
    """Where releases are signed, the base must be signed by the same key, or by another one that the new profile pins."""
    if key is None:
        return old.signature is None
    return old.signature is not None and keys.verifies(old.listing, old.signature, [keys.jwk(key), *new.pinned])


def _member(entry: dict[str, Any], old: bytes | None, new: bytes) -> tuple[dict[str, Any], bytes]:
    """A changed file whole, or as a patch when that is smaller on the wire."""
    if old is None or entry["path"] in _WHOLE:
        return entry, new
    made = patch.make(old, new)
    if _packed(made) + _ENTRY >= _packed(new):
        return entry, new
    return {**entry, "patch": [hashlib.sha256(old).hexdigest(), len(made)]}, made


def _packed(data: bytes) -> int:
    return len(zlib.compress(data, 9))


def _respelled(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """A name whose letters only changed their case has one place in the list, and would need two."""
    spelled = {paths.key(path): path for path in before}
    return any(spelled.get(paths.key(path), path) != path for path in after)


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
