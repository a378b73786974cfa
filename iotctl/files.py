"""Writing whole files or none: beside the target first, then one rename, so that nobody ever reads half a file; reading TOML."""

from __future__ import annotations

import os
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from iotctl.errors import IotctlError


def replace(path: Path, data: bytes) -> None:
    """Write `data` to `path`. OSError leaves the old file as it was, and nothing beside it."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def create_private(path: Path, data: bytes) -> None:
    """Write a new file that only its owner can read; FileExistsError when there is one already."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
    except BaseException:
        path.unlink()
        raise


def read_toml(path: Path) -> dict[str, Any]:
    """IotctlError that names the file, and the line where TOML knows it."""
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise IotctlError(f"{path}: {error}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
