"""The lint of what old MicroPythons have not: it finds what broke on them, and its tables hold on the real interpreter."""

from __future__ import annotations

import json
import subprocess

import pytest

from sim import micropython
from tools import check_device


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("item = next(listed, None)", "next() with 2 arguments: since 1.25"),
        ("def get(requests):\n    before = requests.socket", "requests.socket: not in 1.23"),
        ("import tls", "tls: since 1.23"),
        ("from vfs import VfsLfs2", "vfs: since 1.23"),
        ("import uctypes", "uctypes: in no table"),
        ("from time import monotonic", "time.monotonic: in no table"),
        ("import os as files\nfiles.walk('/')", "os.walk: in no table"),
        ("'a'.removeprefix('b')", "the method removeprefix(): in no table"),
        ("breakpoint()", "breakpoint: in no table"),
        ("zip([], [], strict=True)", "zip(strict=): in no table"),
    ],
)
def test_what_the_oldest_micropython_has_not_is_found(source: str, found: str) -> None:
    said = check_device.check({"a.py": source})
    assert len(said) == 1 and said[0].startswith("a.py:") and found in said[0], said


def test_what_is_ours_or_has_an_alternative_is_free() -> None:
    good = "try:\n    import tls\nexcept ImportError:\n    import ssl as tls\n"
    other = "class Text:\n    def removeprefix(self):\n        return next(iter([1]))\nText().removeprefix()\n"
    assert check_device.check({"a.py": good, "b.py": other}) == []


_ASK = """
import json, builtins
tables, methods = json.loads(%r)
missing = []
for name, names in tables.items():
    try:
        module = __import__(name)
    except ImportError:
        missing.append(name)
        continue
    missing += [name + "." + a for a in names.split() if not hasattr(module, a)]
kinds = (str, bytes, bytearray, list, dict, set, tuple, int)
missing += [name for name in methods if not any(hasattr(kind, name) for kind in kinds)]
print(json.dumps(missing))
"""


def test_the_interpreter_here_has_what_the_tables_say() -> None:
    names = [name for name in check_device.BUILTINS if not name.startswith("__")]
    tables = {**check_device.MODULES, "builtins": " ".join(names)}
    only_on_boards = {"ssl", "network", *(f"machine.{name}" for name in check_device.MODULES["machine"].split())}
    script = _ASK % json.dumps([tables, check_device.METHODS])
    told = subprocess.run([str(micropython.find()), "-c", script], capture_output=True, text=True, check=True).stdout
    assert set(json.loads(told)) <= only_on_boards
