"""Two slots, a counter and a digest: whatever happens to one of them, the other one counts."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from iot_platform import slots
from iot_platform.slots import Slots


def _paths(folder: str) -> tuple[str, str]:
    return (f"{folder}/a", f"{folder}/b")


def test_the_newest_counts_and_is_never_overwritten(tmp_path: Path) -> None:
    paths = _paths(str(tmp_path))
    assert slots.read(paths) == (0, None)
    for number in range(1, 6):
        before = {path: Path(path).read_bytes() for path in paths if Path(path).exists()}
        newest = slots.read(paths)
        slots.write(paths, b'{"n":%d}' % number)
        assert slots.read(paths) == (number, b'{"n":%d}' % number)
        untouched = [path for path in before if Path(path).read_bytes() == before[path]]
        assert newest[1] is None or any(newest[1] in before[path] for path in untouched)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_slot_leaves_the_one_before(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = _paths(folder)
        slots.write(paths, b'{"n":1}')
        slots.write(paths, b'{"n":2}')
        newest = next(Path(path) for path in paths if b'"n":2' in Path(path).read_bytes())
        raw = bytearray(newest.read_bytes())
        if data.draw(st.booleans()):
            raw = raw[: data.draw(st.integers(0, len(raw) - 2))]
        else:
            raw[data.draw(st.integers(0, len(raw) - 2))] ^= 1 << data.draw(st.integers(0, 7))
        newest.write_bytes(raw)
        counter, payload = slots.read(paths)
        assert (counter, payload) in ((1, b'{"n":1}'), (2, b'{"n":2}'))  # a space or zero may change without a meaning


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_garbage_is_no_slot(a: bytes, b: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = _paths(folder)
        for path, raw in zip(paths, (a, b), strict=True):
            Path(path).write_bytes(raw)
        slots.read(paths)
        slots.write(paths, b'{"n":1}')
        assert slots.read(paths)[1] == b'{"n":1}'


def test_preferences_keep_what_they_do_not_know_and_write_only_changes(tmp_path: Path) -> None:
    paths = _paths(str(tmp_path))
    Path(paths[0]).write_text('{"from the future": [1, 2]}')
    prefs = Slots(paths)
    assert not prefs.save()
    prefs.set("wifi.ssid", "home")
    assert prefs.save()
    assert not prefs.save()
    assert slots.read(paths)[1] == b'{"from the future": [1, 2], "wifi.ssid": "home"}'
    prefs.set("wifi.ssid", None)
    prefs.set("never there", None)
    assert prefs.save()
    assert slots.read(paths)[1] == b'{"from the future": [1, 2]}' and Slots(paths).get("wifi.ssid", "none") == "none"


def test_preferences_that_are_no_object_are_none_with_a_warning(tmp_path: Path) -> None:
    paths = _paths(str(tmp_path))
    for payload in (b"[1]", b"7", b"null", b"{1}", b"[" * 8000):
        slots.write(paths, payload)
        prefs = Slots(paths)
        assert prefs.warning and prefs.get("n") is None
        prefs.set("n", 1)
        assert prefs.save() and Slots(paths).get("n") == 1 and not Slots(paths).warning


@pytest.mark.parametrize("value", [
    math.nan, math.inf, -math.inf, [1, math.nan], {"a": {"b": [math.inf]}}, (math.nan,), {5: 1}, {None: 1}, object(), {1, 2},
    b"a", 1j, [object()],
])  # fmt: skip
def test_what_json_has_no_word_for_is_not_kept_and_what_was_there_stays(tmp_path: Path, value: object) -> None:
    paths = _paths(str(tmp_path))
    prefs = Slots(paths)
    prefs.set("mine", 1)
    with pytest.raises(ValueError, match="^mine cannot be kept$"):
        prefs.set("mine", value)
    assert prefs.save() and slots.read(paths)[1] == b'{"mine": 1}' and not Slots(paths).warning


_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
_KEPT = st.recursive(_LEAVES, lambda v: st.lists(v) | st.dictionaries(st.text() | st.integers(), v), max_leaves=12)


def _has_words(value: object) -> bool:
    """True when JSON says the same again."""
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except ValueError:
        return False


@given(_KEPT.filter(lambda value: value is not None))
def test_what_json_has_words_for_is_kept_and_nothing_else(value: object) -> None:
    prefs = Slots(_paths("/no such folder"))
    try:
        prefs.set("mine", value)
    except ValueError:
        assert not _has_words(value)
    else:
        assert _has_words(value) and prefs.get("mine") == value
