"""Patches: what the host makes, the board's code takes apart again; and what nobody should send is refused."""

from __future__ import annotations

import hashlib
import io
import random
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotctl import ROOT, mpy, patch
from modules.ota import patch as board_patch
from modules.ota.errors import OtaError

Number = patch._number
SOURCE = (ROOT / "modules" / "ota" / "http.py").read_bytes()


def apply(made: bytes, old: bytes, size: int, buffer: int = 64) -> bytes:
    """The new file, by the board's own code, through a buffer of so many bytes."""
    out, digest = io.BytesIO(), hashlib.sha256()
    view = memoryview(bytearray(buffer))
    for _step in board_patch.apply(io.BytesIO(made), io.BytesIO(old), size, view, digest, out):
        pass
    assert digest.digest() == hashlib.sha256(out.getvalue()).digest()
    return out.getvalue()


def packed(data: bytes) -> int:
    return len(zlib.compress(data, 9))


LETTERS = st.lists(st.sampled_from([b"a", b"b", b"\0", b"self.", b"        return ", b"\xff" * 9]), max_size=200).map(b"".join)


@given(st.binary(max_size=400) | LETTERS, st.binary(max_size=400) | LETTERS, st.integers(1, 70))
def test_any_file_becomes_any_other(old: bytes, new: bytes, buffer: int) -> None:
    assert apply(patch.make(old, new), old, len(new), buffer) == new


@given(LETTERS, st.data())
def test_any_edit_of_a_file(old: bytes, data: st.DataObject) -> None:
    at, end = sorted((data.draw(st.integers(0, len(old))), data.draw(st.integers(0, len(old)))))
    moved = data.draw(st.sampled_from([b"", b"new", old[at:end]]))
    new = old[:at] + moved + old[end:] + old[at:end]
    assert apply(patch.make(old, new), old, len(new)) == new


def test_one_line_of_a_source_is_a_few_bytes() -> None:
    new = SOURCE.replace(b"_MAX_REDIRECTS = 5", b"_MAX_REDIRECTS = 7  # was 5")
    assert new != SOURCE and packed(patch.make(SOURCE, new)) < 60


def test_compiled_code_is_patched_too() -> None:
    old = mpy.compile_source(SOURCE, "http.py")
    new = mpy.compile_source(SOURCE.replace(b"self._received = 0", b"self._received = 0\n        self.brand_new = 8"), "http.py")
    made = patch.make(old, new)
    assert apply(made, old, len(new)) == new and packed(made) < packed(new) // 4


def test_a_part_that_moved_costs_a_few_bytes() -> None:
    assert len(patch.make(SOURCE, SOURCE[5000:] + SOURCE[:5000])) < 20


_SOURCE = random.Random(1)
_NOISE = _SOURCE.randbytes(600_000)
_LARGE: list[tuple[str, bytes, bytes, int]] = [
    ("zeros", bytes(600_000), bytes(599_000) + b"!", 100),
    ("noise with one byte more", _NOISE, _NOISE[:300_000] + b"!" + _NOISE[300_000:], 100),
    ("other noise", _NOISE[:300_000], _NOISE[300_000:], 300_100),
    ("two letters", bytes(_SOURCE.choices(b"ab", k=200_000)), bytes(_SOURCE.choices(b"ab", k=200_000)), 100_000),
]


@pytest.mark.parametrize(("old", "new", "most"), [pytest.param(*row[1:], id=row[0]) for row in _LARGE])
def test_the_time_grows_with_the_size_only(old: bytes, new: bytes, most: int) -> None:
    began = time.process_time()
    made = patch.make(old, new)
    assert time.process_time() - began < 20
    assert apply(made, old, len(new), 65_536) == new
    assert len(made) < most


HOSTILE: list[tuple[str, bytes, int]] = [
    ("nothing at all", b"", 5),
    ("empty commands without end", bytes(1000), 5),
    ("an empty copy", Number(1) + b"\0", 5),
    ("a copy behind the end", Number(5 << 1 | 1) + Number(patch._zigzag(6)), 5),
    ("a copy that begins at the end", Number(1 << 1 | 1) + Number(patch._zigzag(10)), 1),
    ("a copy before the beginning", Number(5 << 1 | 1) + Number(patch._zigzag(-1)), 5),
    ("a second copy before the beginning", (Number(2 << 1 | 1) + b"\0") + Number(2 << 1 | 1) + Number(patch._zigzag(-3)), 5),
    ("a longer copy than the file", Number(6 << 1 | 1) + b"\0", 5),
    ("a longer insert than the file", Number(6 << 1) + b"abcdef", 5),
    ("an insert that is cut short", Number(5 << 1) + b"abcd", 5),
    ("a number that is cut short", b"\x8b", 5),
    ("a number without end", b"\xff" * 50, 5),
    ("a number of five bytes", b"\x80\x80\x80\x80\x01", 5),
    ("something behind the end", Number(5 << 1) + b"abcde" + b"f", 5),
    ("something for an empty file", b"\0", 0),
]


@pytest.mark.parametrize(("made", "size"), [pytest.param(made, size, id=name) for name, made, size in HOSTILE])
def test_a_hostile_patch_is_refused(made: bytes, size: int) -> None:
    with pytest.raises(OtaError) as caught:
        apply(made, b"0123456789", size)
    assert caught.value.reason == "bad_patch"


@given(st.binary(max_size=60), st.integers(0, 300))
@settings(max_examples=300)
def test_any_bytes_end_in_a_file_of_that_size_or_in_a_refusal(made: bytes, size: int) -> None:
    try:
        assert len(apply(made, b"0123456789" * 5, size)) == size
    except OtaError as error:
        assert error.reason == "bad_patch"


def test_the_largest_file_can_be_named() -> None:
    assert len(Number(8 * 1024 * 1024 << 1 | 1)) <= 4 and len(Number(patch._zigzag(-8 * 1024 * 1024))) <= 4
