"""The examples of docs/formats.md are read by the real code: the page cannot drift from it."""

from __future__ import annotations

import hashlib
import io
import re
import sys
import types
from pathlib import Path

import pytest
from iot_platform import slots
from modules.ota.header import parse_header
from modules.ota.lines import tree_line

from modules.ota import channel, latest, patch, release

DOC = Path(__file__).resolve().parents[2] / "docs" / "formats.md"


def example(name: str) -> str:
    found = re.search(rf"```\w+ example:{name}\n(.*?)```", DOC.read_text(), re.S)
    assert found, f"docs/formats.md has no example {name}"
    return found[1]


def test_the_channel_file() -> None:
    value = channel.parse(example("channel").strip().encode(), [])
    channel.check(value, "sim-board", "stable", 0, None)


def test_the_latest_line() -> None:
    assert latest.parse_latest(example("latest")) == ("1.4.0", "1.4.0-legacy.tar.gz", 31, 31337, "ab" * 32)


def test_the_release_list() -> None:
    header = parse_header(example("header").strip())
    entries, previous = [], None
    for line in example("entries").splitlines():
        entries.append(release.parse_entry(line, previous))
        previous = entries[-1]["path"]
    tree = hashlib.sha256(b"".join(tree_line(entry) for entry in entries)).hexdigest()
    assert (len(entries), sum(entry["size"] for entry in entries), tree) == (header["files"], header["size"], header["tree"])


def test_a_delta() -> None:
    header, *lines = example("delta").splitlines()
    assert parse_header(header)["base"] == "1.3.0"
    patched, gone = (release.parse_entry(line, None, True) for line in lines)
    assert patched["patch"][1] == 57 and gone["size"] is None


def test_the_patch() -> None:
    old, out = b"A = 1\nB = 2\nC = 3\n", io.BytesIO()
    wire, view = io.BytesIO(bytes.fromhex(example("patch"))), memoryview(bytearray(8))
    for _step in patch.apply(wire, io.BytesIO(old), len(old), view, hashlib.sha256(), out):
        pass
    assert out.getvalue() == b"A = 9\nB = 2\nC = 3\n"


def test_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "machine", types.ModuleType("machine"))
    monkeypatch.setitem(sys.modules, "ota_boot", types.ModuleType("ota_boot"))  # so that the one that others use comes back
    del sys.modules["ota_boot"]
    import ota_boot

    ota_boot.ROOT = str(tmp_path)
    ota_boot._imports()
    (tmp_path / ".ota").mkdir()
    (tmp_path / ".ota/journal").write_text(example("journal"))
    header = ota_boot.read_header("journal")
    assert header
    assert header["new"] == "1.4.0"
    assert [entry[3] for entry in ota_boot.entries("journal")][-2:] == [".ota/release", "modules/gate.py"]


def test_the_slot(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(example("slot"))
    assert slots.read((str(tmp_path / "a"), str(tmp_path / "b"))) == (7, b'{"wifi.ssid":"home"}')
