"""The board's own code, where the host reads what a board reads."""

from __future__ import annotations

import importlib.util
from collections.abc import Generator
from functools import cache
from types import ModuleType
from typing import Any

from iotctl import ROOT


@cache
def tarfile() -> ModuleType:
    """lib/tarfile.py, loaded by its path: the name `tarfile` is the standard library's here."""
    spec = importlib.util.spec_from_file_location("board_tarfile", ROOT / "lib" / "tarfile.py")
    if spec is None or spec.loader is None:
        raise ImportError("lib/tarfile.py cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def finish(steps: Generator[Any, None, Any]) -> Any:
    """What a generator of the boards' code returns, all of its steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value
