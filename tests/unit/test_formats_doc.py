"""The examples of docs/formats.md are read by the real code: the page cannot drift from it."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from iot_platform import slots

from iotctl import archive
from iotctl.board_code import finish
from modules.ota.bundle import reader
from modules.ota.legacy import requests_http
from modules.ota.release import channel, manifest

DOC = Path(__file__).resolve().parents[2] / "docs" / "formats.md"


def example(name: str) -> str:
    found = re.search(rf"```\w+ example:{name}\n(.*?)```", DOC.read_text(), re.S)
    assert found, f"docs/formats.md has no example {name}"
    return found[1]


def test_the_channel_file() -> None:
    value = finish(channel.parse(example("channel").strip().encode(), []))
    channel.check(value, "sim-board", "stable", 0, None)


def test_the_latest_line() -> None:
    assert requests_http.parse_latest(example("latest")) == ("1.4.0", "1.4.0-legacy.tar.gz", 31, 31337, "ab" * 32)


def test_the_release_list() -> None:
    header = manifest.parse_header(example("header").strip())
    entries: list[Any] = []
    for line in example("entries").encode().splitlines():
        entries.append(manifest.parse_entry(line, entries[-1] if entries else None))
        assert manifest.entry_line(*entries[-1]) == line + b"\n"
    assert manifest.header_line(header).decode() == example("header")
    assert (len(entries), sum(entry[1] for entry in entries)) == (header["files"], header["size"])


def test_the_limits_and_the_gzip_header_that_the_page_names() -> None:
    text = " ".join(DOC.read_text().split())
    assert "`iotctl` takes them together up to 8 KiB of tar" in text and archive.GROUP == 8 * 1024
    assert "A file above 32 KiB" in text and manifest.PIECE == reader.PIECE == 32 * 1024
    assert "`size` is at most 8 MiB" in text and manifest.MAX_FILE == 8 * 1024 * 1024
    assert f"at most {manifest.MAX_HEADER} bytes:" in text and f"at most {manifest.MAX_LINE} bytes, strictly" in text
    assert f"at most {channel.MAX_NOTES} characters" in text and f"at most {manifest.MAX_NOTES} characters" in text
    rows = re.findall(r"^ {6}\d+ +((?:[0-9a-f]{2} )+)", DOC.read_text(), re.M)
    assert bytes.fromhex("".join(rows)) == archive.gzip(b"")[:17]


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
