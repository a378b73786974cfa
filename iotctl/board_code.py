"""Running the board's bundle reader on the host, so that `verify` says exactly what a board would say."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
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


def read_bundle(path: Path, name: str, keys: list[dict[str, Any]], now: int) -> dict[str, Any]:
    """The header of a bundle that a board called `name` with these pinned `keys` takes; OtaError says why it does not.

    The archive must unpack (see bundle.read), for CPython's errors of decompression are not those that a board knows.
    """
    accepted = rules.Rules(name, keys, now=now)
    view = memoryview(bytearray(64 * 1024))
    with tempfile.TemporaryDirectory() as folder, _board_at(folder):
        steps = bundle.read(lambda: inflate.Gzip(str(path)), accepted, view)
        try:
            while True:
                next(steps)
        except StopIteration as end:
            header: dict[str, Any] = end.value
            return header


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
