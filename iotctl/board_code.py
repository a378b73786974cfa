"""Running the board's bundle reader on the host, so that `verify` says exactly what a board would say."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from iotctl import ROOT
from modules.ota import bundle, head, inflate, listing, members, prepare, rules, tar

_LATE = (listing, members, prepare)  # a board imports them for their phase; here at once, so that all see the same loader


@cache
def tarfile() -> ModuleType:
    """lib/tarfile.py, loaded by its path: the name `tarfile` is the standard library's here."""
    spec = importlib.util.spec_from_file_location("board_tarfile", ROOT / "lib" / "tarfile.py")
    if spec is None or spec.loader is None:
        raise ImportError("lib/tarfile.py cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Base:
    """What runs on the board that takes a delta: its version, its list and its files."""

    version: str
    listing: bytes
    files: dict[str, bytes]


def read_bundle(path: Path, name: str, keys: list[dict[str, Any]], now: int, base: Base | None = None) -> dict[str, Any]:
    """The header of a bundle that a board called `name` with these pinned `keys` takes; OtaError says why it does not.

    The archive must unpack (see bundle.read), for CPython's errors of decompression are not those that a board knows.

    :param base: what runs there, for a delta.
    """
    accepted = rules.Rules(name, keys, now=now, running=base.version if base else None)
    view = memoryview(bytearray(64 * 1024))
    with tempfile.TemporaryDirectory() as folder, _board_at(folder):
        _flash(Path(folder), base)
        steps = bundle.read(lambda: opened(path), accepted, view)
        try:
            while True:
                next(steps)
        except StopIteration as end:
            header: dict[str, Any] = end.value
            return header


def opened(path: Path) -> Generator[None, None, inflate.Gzip]:
    """What opens an archive for bundle.read: on a board a generator, for there it may come from the network."""
    yield
    return inflate.Gzip(str(path))


def _flash(folder: Path, base: Base | None) -> None:
    for path, data in {**base.files, ".ota/release": base.listing}.items() if base else ():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


@contextmanager
def _board_at(folder: str) -> Iterator[None]:
    """The loader's file functions work below `folder`. It imports `os` only when it runs, for the sake of a board's boot."""
    reader: Any = tar
    loader: Any = head.ota_boot
    root, before, had_os = loader.ROOT, reader.tarfile, hasattr(loader, "os")
    loader.ROOT, reader.tarfile = folder, tarfile()
    if not had_os:
        loader.os = os
    try:
        yield
    finally:
        loader.ROOT, reader.tarfile = root, before
        if not had_os:
            del loader.os
