"""The fuzz targets with hypothesis: the kept corpus, mutations of it, and JSON of the right shape with wrong values in it.

`make fuzz` runs the same targets with atheris; what it finds becomes a file of fuzz/corpus/ and so a test here.
"""

from __future__ import annotations

import gzip
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz import run as fuzz_run
from fuzz.targets import CORPUS, MEMORY, TARGETS, channel, corpus, listing, profile
from tests.support import forge

SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def test_every_target_has_a_corpus_and_is_run() -> None:
    assert set(TARGETS) == set(fuzz_run.NAMES) == {folder.name for folder in CORPUS.iterdir()}


@pytest.mark.parametrize("path", sorted(p for p in CORPUS.rglob("*") if p.is_file()), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_the_kept_corpus(path: Any) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize(
    "path",
    ["a.py", "evil/", *(f".ota/{n}" for n in ("journal", "state.2", "release", "backup/", "loader/", "stage/x", "stage/e10"))],
)
def test_a_write_outside_the_stage_is_noticed(path: str, tmp_path: Path) -> None:
    for folder in ("old", ".ota/stage/1"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "a.py").write_bytes(b"1")
    before = forge.below(tmp_path)
    for good in ("list", "loader", "state.1", "stage/id", "stage/e9", "stage/1/e0"):
        (tmp_path / ".ota" / good).write_bytes(b"")
    forge.only_changed(tmp_path, before, forge.STAGED)
    (tmp_path / ".ota/loader").unlink()
    (tmp_path / path).mkdir() if path.endswith("/") else (tmp_path / path).write_bytes(b"2")
    with pytest.raises(AssertionError, match="outside the stage"):
        forge.only_changed(tmp_path, before, forge.STAGED)


def test_what_is_removed_and_a_link_in_the_stage_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    before = forge.below(tmp_path)
    (tmp_path / "old").rmdir()
    with pytest.raises(AssertionError, match="outside the stage"):
        forge.only_changed(tmp_path, before, forge.STAGED)
    (tmp_path / "old").mkdir()
    (tmp_path / ".ota").mkdir()
    (tmp_path / ".ota/list").symlink_to("/etc/passwd")
    with pytest.raises(AssertionError, match="outside the stage"):
        forge.only_changed(tmp_path, before, forge.STAGED)


def test_memory_that_grows_with_what_is_read_is_noticed() -> None:
    packed = gzip.compress(bytes(2 * MEMORY))
    with forge.flat(MEMORY), gzip.open(io.BytesIO(packed)) as stream:
        while stream.read(4096):
            pass
    with pytest.raises(AssertionError, match="bytes of memory"), forge.flat(MEMORY):
        gzip.decompress(packed)


@st.composite
def mutations(draw: st.DrawFn, target: str) -> bytes:
    """A file of the corpus with a few things done to it."""
    data = bytearray(draw(st.sampled_from(corpus(target))))
    for _n in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(("flip", "set", "insert", "remove", "copy", "cut", "digit")))
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "set" and at < len(data):
            data[at] = draw(st.sampled_from(b'\0\xff\n\r "{}[]:,./\\0-9'))
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=8) | st.sampled_from((b"\n", b"null", b"-1", b"1e999", b"../", bytes(512))))
        elif kind == "remove":
            del data[at : at + draw(st.integers(1, 600))]
        elif kind == "copy":
            data[at:at] = data[at : at + draw(st.integers(1, 600))]
        elif kind == "digit":
            places = [n for n, c in enumerate(data) if 48 <= c <= 57]
            if places:
                data[draw(st.sampled_from(places))] = draw(st.integers(48, 57))
        else:
            del data[at:]
    return bytes(data[:16_384])


@pytest.mark.parametrize("target", TARGETS)
def test_mutations_of_the_corpus(target: str) -> None:
    @SETTINGS
    @given(mutations(target))
    def check(data: bytes) -> None:
        TARGETS[target](data)

    check()


@pytest.mark.parametrize("target", TARGETS)
def test_any_bytes(target: str) -> None:
    @settings(SETTINGS, max_examples=50)
    @given(st.binary(max_size=2000))
    def check(data: bytes) -> None:
        TARGETS[target](data)

    check()


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["1.1.0", "0" * 64, "a/b", "../x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def changed(draw: st.DrawFn, good: dict[str, Any]) -> dict[str, Any]:
    """A good object in which some values, also deep inside, are others."""
    value = json.loads(json.dumps(good))
    for _n in range(draw(st.integers(1, 3))):
        place = value
        while True:
            name = draw(st.sampled_from(sorted(place)))
            if isinstance(place[name], dict) and place[name] and draw(st.booleans()):
                place = place[name]
                continue
            place[name] = draw(VALUES)
            break
    return dict(value)


@SETTINGS
@given(changed(json.loads((CORPUS / "channel" / "full").read_bytes())))
def test_channel_files_with_other_values(value: dict[str, Any]) -> None:
    channel(json.dumps(value).encode())


@SETTINGS
@given(changed(json.loads((CORPUS / "profile" / "full").read_bytes())))
def test_profiles_with_other_values(value: dict[str, Any]) -> None:
    profile(json.dumps(value).encode())


@SETTINGS
@given(st.data())
def test_lists_with_other_values(data: st.DataObject) -> None:
    contents = {"a.py": bytes(3), "lib/b.py": b"", "z": bytes(9)}
    entries = [forge.entry(path, content) for path, content in contents.items()]
    for n, entry in enumerate(entries):
        entry["at"] = f"@{n + 1}######"
    digests = b"".join(entry.pop("digest") for entry in entries)
    header = json.loads(forge.listing_of(entries).split(b"\n")[0])
    n = data.draw(st.integers(0, 2))
    if data.draw(st.booleans()):
        entries[n] = data.draw(changed(entries[n]))
        listing(unquoted(forge.listing_of(entries)) + digests)
    else:
        listing(unquoted(forge.listing_of(entries, data.draw(changed(header)))) + digests)


def unquoted(listed: bytes) -> bytes:
    """Places are numbers, once they are known."""
    return re.sub(rb'"(@\d######)"', rb"\1", listed)
