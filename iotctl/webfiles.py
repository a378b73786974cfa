"""What browsers get from a board: the files of a module's `www` folder, gzipped when the board's tree is made.

A page names the files beside it by digest, `app.js?3f2a91c07d5e`, so that a browser may keep them for ever and still never
mixes two versions. The same files give the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

FOLDER = "www"
_DIGITS = 12
_REFERENCE = re.compile(rb'(\b(?:src|href)=")([A-Za-z0-9_.-]+)(")')


def packed(path: Path) -> bytes:
    """The gzipped content of one file, its references to its neighbours resolved."""
    data = bytearray(gzip.compress(content(path), 9, mtime=0))
    data[9] = 255  # "made on an unknown system", wherever it is made
    return bytes(data)


def content(path: Path) -> bytes:
    """What a browser sees of one file."""
    data = path.read_bytes()
    return _REFERENCE.sub(lambda found: _resolved(found, path.parent), data) if path.suffix == ".html" else data


def digest(data: bytes) -> str:
    """The part of a file's digest that its references carry."""
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


def _resolved(found: re.Match[bytes], folder: Path) -> bytes:
    before, name, after = found.groups()
    neighbour = folder / name.decode()
    return before + name + b"?" + digest(neighbour.read_bytes()).encode() + after if neighbour.is_file() else found.group()
