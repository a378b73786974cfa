"""The board's own code, where the host reads what a board reads."""

from __future__ import annotations

import importlib.util
from collections.abc import Generator
from functools import cache
from types import ModuleType
from typing import Any

from iotctl import ROOT
from modules.ota.bundle import head, reader
from modules.ota.install import prepare
from modules.ota.install.stage import Stage


@cache
def tarfile() -> ModuleType:
    """lib/tarfile.py, loaded by its path: the name `tarfile` is the standard library's here."""
    spec = importlib.util.spec_from_file_location("board_tarfile", ROOT / "lib" / "tarfile.py")
    if spec is None or spec.loader is None:
        raise ImportError("lib/tarfile.py cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_bundle(source: Any, rules: Any, ota: Any) -> Generator[Any, None, dict[str, Any]]:
    """Read a bundle and fill the stage as a board does in its phases (modules/ota/updates.py); returns the header.

    :param source: one of modules.ota.transport.ranges; the caller closes it.
    :param rules: policy.Rules, what the board accepts.
    :param ota: has what install.prepare and install.stage use of a job: view, store, excluded, log, progress, give_up_previous.
    """
    digest, signature, base = yield from head.read(source, ota.view)
    header: dict[str, Any] = yield from prepare.check_release(rules, digest, signature)
    wanted, total = yield from prepare.plan(ota, header, digest, signature)
    yield from reader.read_files(source, base, ota.view, Stage(ota, wanted, total))
    return header
