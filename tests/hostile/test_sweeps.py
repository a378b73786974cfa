"""A byte flipped at every position of a signed bundle, and the bundle cut short at every length, on the board's own code.

Each mutation goes the whole way that an uploaded file goes (install.install_file): verified, then staged and committed if it was
believed. Believed it may only be where it makes no difference: what is staged must then be what the true bundle stages.

Every position of a whole byte and every length are tried always; of the single bits every fourth, and with ``--full`` all. The
figures are printed when the tests are over.
"""

from __future__ import annotations

import io
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support import figures, forge
from tests.support.driver import new_board, run

# No file is on the board already: of one that is, nothing would be looked at. The large one is there for its two pieces.
FILES = {
    "lib/big.bin": bytes(33_000),
    "lib/thing.py": b"print('new')\n" * 9,
    "profile.json": forge.profile(0),
    "version": b"1.1.0",  # not quite as the header says it, so it is read
}
OLD = {
    "lib/thing.py": b"print('old')\n",
    "profile.json": forge.profile(0, check_interval_s=3600),
    "version": b"1.0.0\n",
    "other.txt": b"stays\n",
}

SWEEP = """
import gc, hashlib, os
import ota_boot
from iot_platform.runtime import Platform
from modules.ota import phases
from modules.ota.module import Module

class Quiet(Module):
    def warn(self, *parts): pass

platform = Platform()
platform.log = lambda *parts: None
ota = Quiet(platform)
platform.modules["ota"] = ota
ota.start()
while ota.job:
    ota.tick()
phases.forget = lambda *_anyway: None      # importing everything anew for each position would take minutes
from modules.ota.install import files
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
    ota._complete("install", False)
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
    return forge.Forgery(FILES).pack(forge.key(0))


def sweep(folder: Path, true: bytes, title: str, kind: str, mask: int = 0, step: int = 1) -> list[int]:
    """All positions (or every `step`-th), half of them on each of two boards; returns those that made no difference.

    On FAT, which is not what this is about: littlefs asks its flash forty times as often, and that is what a sweep waits for.
    """
    positions = range(0, len(true), step)
    boards = [new_board(folder / f"{n}.img", heap="384k", fs="fat") for n in range(2)]
    for board in boards:
        board.write({**OLD, "true.gz": true})
    before = boards[0].read().without("main.py", ".ota")

    def half(n: int) -> dict[str, Any]:
        span = [n * step, len(true), 2 * step]
        found: dict[str, Any] = run(boards[n], SWEEP, kind=kind, span=span, mask=mask, watched=sorted(f"/{path}" for path in OLD))
        return found

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(half, range(2)))
    harmless = sorted(at for result in results for at in result["harmless"])
    wrong = [found for result in results for found in result["wrong"]]
    refused: Counter[str] = Counter()
    for result in results:
        refused.update(result["reasons"])
    figures_of(title, len(positions), refused, harmless, wrong)
    assert not wrong
    assert refused.total() + len(harmless) == len(positions)
    for board in boards:
        assert board.read().without("main.py", ".ota") == before
    return harmless


def figures_of(title: str, tried: int, refused: Counter[str], harmless: list[int], wrong: list[Any]) -> None:
    reasons = ", ".join(f"{count} {reason}" for reason, count in refused.most_common())
    counted = f"{tried} positions tried, {refused.total()} refused, {len(harmless)} harmless, tree changed {len(wrong)}"
    figures.note(title, f"{counted} ({reasons}; harmless {harmless}; wrong {wrong[:9]})")


def meaningless(true: bytes) -> set[int]:
    """Of each gzip member its time, level and system, and its checksum and size: nobody looks at them."""
    starts = [found.start() for found in re.finditer(re.escape(forge.START), true)]
    assert len(starts) == 6  # head, two pieces, a group, the version, the end
    return {at + n for at in starts for n in range(4, 10)} | {at - n for at in [*starts[1:], len(true)] for n in range(1, 9)}


def check(true: bytes, harmless: list[int], step: int, flip: Callable[[int], int]) -> None:
    """What else is harmless is another way to pack the same files, or in their padding: another decompressor says so as well."""
    free = meaningless(true) & set(range(0, len(true), step))
    assert free <= set(harmless)
    for at in set(harmless) - free:
        data = bytearray(true)
        data[at] ^= flip(at)
        with suppress(zlib.error):  # it refuses some codes that MicroPython's takes; what came of them was the same as ever
            assert contents(bytes(data)) == contents(true), at


def contents(data: bytes) -> list[tuple[str, bytes]]:
    """The members of the archive, whatever its gzip checksums say."""
    unpacked = b""
    while data:
        member = zlib.decompressobj(-12)
        unpacked += member.decompress(data[len(forge.START) :])
        data = member.unused_data[8:]
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as archive:
        return [(info.name, found.read()) for info in archive.getmembers() if (found := archive.extractfile(info))]


def test_every_bit_of_a_byte_flipped_at_every_position(tmp_path: Path, true: bytes) -> None:
    check(true, sweep(tmp_path, true, "byte flipped", "flip", 0xFF), 1, lambda _at: 0xFF)


def test_one_bit_flipped_at_every_position(tmp_path: Path, true: bytes, full: bool) -> None:
    step = 1 if full else 4
    check(true, sweep(tmp_path, true, "bit flipped", "flip", step=step), step, lambda at: 1 << at % 8)


def test_a_bundle_cut_short_at_every_length(tmp_path: Path, true: bytes) -> None:
    assert not sweep(tmp_path, true, "cut short", "cut")
