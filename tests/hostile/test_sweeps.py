"""A byte flipped at every position of a signed bundle, and the bundle cut short at every length, on the board's own code.

Each mutation goes the whole way that an uploaded file goes (jobs.install_file): verified, then staged and committed if it was
believed. Believed it may only be where it makes no difference: what is staged must then be what the true bundle stages.

The figures are printed (``pytest -s``) and kept in .build/hostile/.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from iotctl import ROOT
from sim.board import Board
from tests.board.driver import new_board, run
from tests.hostile import forge

FILES = {"lib/thing.py": b"print('new')\n" * 9, "profile.json": forge.profile(0), "version": b"1.1.0\n"}
OLD = {"lib/thing.py": b"print('old')\n", "profile.json": forge.profile(0), "version": b"1.0.0\n", "other.txt": b"stays\n"}

SWEEP = """
import gc, hashlib, os
import ota_boot
from iot_platform.runtime import Platform
from modules.ota import files, jobs, store
from modules.ota.module import Module

class Quiet(Module):
    def log(self, *parts): pass
    def warn(self, *parts): pass
    def forget(self): pass      # importing everything anew for each position would take minutes

platform = Platform()
ota = Quiet(platform)
platform.modules["ota"] = ota
assert ota.load_ota_cfg()
ota.store = store.Store()
with open("/true.gz", "rb") as f:
    true = f.read()

def digest(path, hasher):
    with open(path, "rb") as f:
        hasher.update(f.read())

def tree():
    hasher = hashlib.sha256(repr(sorted(os.listdir("/"))).encode())
    for path in VALUES["watched"]:
        digest(path, hasher)
    return hasher.digest()

def left():
    return sorted(n for n in os.listdir("/.ota") if n not in ("state.0", "state.1", "release"))

def staged():
    hasher = hashlib.sha256()
    for name in sorted(left()):
        for path in [".ota/" + name] if not files.is_folder("/.ota/" + name) else sorted(files.walk(".ota/" + name)):
            hasher.update(path.encode())
            digest("/" + path, hasher)
    return hasher.digest()

def attempt(data):
    with open(ota.archive, "wb") as f:
        f.write(data)
    ota.state = "idle"
    ota._complete("install", lambda: jobs.install_file(ota))
    if ota.state == "rebooting":
        found = staged()
        for name in left():
            finish(files.remove_tree("/.ota/" + name))
        ota_boot.state = ""
        return found
    return ota.error.reason

before = tree()
expected = attempt(true)
assert isinstance(expected, bytes), expected
wrong, reasons, harmless = [], {}, []
for at in range(*VALUES["span"]):
    if VALUES["kind"] == "flip":
        data = bytearray(true)
        data[at] ^= VALUES["mask"] or 1 << at % 8
    else:
        data = true[:at]
    try:
        outcome = attempt(data)
    except Exception as error:
        wrong.append([at, repr(error)])
        continue
    if outcome == expected:
        harmless.append(at)
    elif isinstance(outcome, bytes):
        wrong.append([at, "something else was staged"])
    else:
        reasons[outcome] = reasons.get(outcome, 0) + 1
    if tree() != before or left():
        wrong.append([at, "tree changed or left behind", left()])
        before = tree()
    del data
    gc.collect()
return {"reasons": reasons, "harmless": harmless, "wrong": wrong}
"""


@pytest.fixture(scope="module")
def true() -> bytes:
    return forge.pack(forge.listing(FILES), FILES, forge.key(0))


@pytest.fixture
def board(tmp_path: Path, true: bytes) -> Board:
    made = new_board(tmp_path / "board.img", heap="1m")
    made.write({**OLD, "true.gz": true})
    return made


def sweep(board: Board, title: str, kind: str, half: int, size: int, mask: int = 0) -> list[int]:
    """Half of the positions in one life of the board; returns those that made no difference."""
    before = board.read().files
    span = [half * size // 2, (half + 1) * size // 2]
    values = {"kind": kind, "span": span, "mask": mask, "watched": sorted(f"/{path}" for path in OLD)}
    result = run(board, SWEEP, **values)
    note(f"{title} {span[0]}-{span[1] - 1}", span[1] - span[0], result)
    assert not result["wrong"]
    assert sum(result["reasons"].values()) + len(result["harmless"]) == span[1] - span[0]
    after = board.read().files
    assert {path: after.get(path) for path in before} == before
    harmless: list[int] = result["harmless"]
    return harmless


def note(title: str, tried: int, result: dict[str, Any]) -> None:
    refused = Counter(result["reasons"])
    reasons = ", ".join(f"{count} {reason}" for reason, count in refused.most_common())
    lines = (
        f"{title}: {tried} positions tried, {refused.total()} refused ({reasons}),",
        f"  {len(result['harmless'])} harmless {result['harmless']}; tree changed or other exception: {result['wrong'][:9] or 0}",
    )
    folder = ROOT / ".build" / "hostile"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / (title.replace(" ", "-") + ".txt")).write_text("\n".join(lines) + "\n")
    print("\n" + "\n".join(lines))


@pytest.mark.parametrize("half", [0, 1])
def test_every_bit_of_a_byte_flipped_at_every_position(board: Board, true: bytes, half: int) -> None:
    harmless = sweep(board, "byte flipped", "flip", half, len(true), 0xFF)
    if not half:
        assert set(range(4, 10)) <= set(harmless)  # gzip's time, level and system mean nothing


@pytest.mark.parametrize("half", [0, 1])
def test_one_bit_flipped_at_every_position(board: Board, true: bytes, half: int) -> None:
    sweep(board, "bit flipped", "flip", half, len(true))


@pytest.mark.parametrize("half", [0, 1])
def test_a_bundle_cut_short_at_every_length(board: Board, true: bytes, half: int) -> None:
    assert not sweep(board, "cut short", "cut", half, len(true))
