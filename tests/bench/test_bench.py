"""The bench itself: it runs, its link is as slow as it says, and what it draws and writes is well-formed."""

from __future__ import annotations

import socket
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from bench import heap, measure, report, ways
from bench.lab import Failed, can_publish_deltas
from bench.link import Link, Weather
from bench.svg import Bar, bars
from iotctl.serve import Server

RESULTS: dict[str, Any] = {
    "versions": {"micropython": "1", "port": "p", "mpy_cross": "2", "filesystem": "f", "python": "3", "machine": "m"},
    "legacy": {"wire_in": 60_000, "programmed": 300_000, "paced_ms": 1000},
    "full": {"wire_in": 80_000, "wire_out": 300, "requests": 2, "trial_in": 1000, "paced_ms": 2000, "min_heap_k": 100},
    "delta": {"wire_in": 2000, "wire_out": 300, "requests": 2, "trial_in": 1000, "programmed": 10_000, "paced_ms": 250},
    "poll": {"wire_in": 144, "wire_out": 185, "programmed": 500},
    "resume": {"wire_fraction": 0.51},
    "platform": {"modules": ["ota"], "files": 50, "bytes": 100_000, "used_at_loop_k": 70.5, "used_at_most_k": 90},
    "scaling": {"heap_spread_k": 1, "points": [{"files": 10, "size": 50_000, "heap_k": 90, "ms": 900, "us_per_byte": 18}]},
}


def test_the_bench_runs() -> None:
    """One small run of the comparison and of a full update, as `make bench` does it."""
    legacy, full = ways.run(ways.LEGACY), ways.run(ways.FULL)
    assert legacy.requests == full.requests == 2
    assert legacy.programmed > 228_000 > full.programmed > full.wire_in
    assert legacy.gaps and full.gaps
    assert full.lowest and full.commit_to_tick_ms > 0 and full.trial_in > 0


def test_a_heap_that_is_too_small_is_said_so() -> None:
    with pytest.raises(Failed):
        heap.platform_update(("serial_log", "wifi", "ota"), 90)


@pytest.mark.parametrize("least", [40, 41, 97, 232])
def test_the_bisection_finds_the_smallest_heap(least: int) -> None:
    assert heap.smallest(lambda heap_k: heap_k >= least) == least


def test_the_bisection_says_when_there_is_none() -> None:
    with pytest.raises(Failed):
        heap.smallest(lambda heap_k: False)


def fetch(link: Link, path: str) -> tuple[bytes, float]:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", int(link.url.rsplit(":", 1)[1]))) as sock:
        sock.sendall(f"GET /{path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    return answer, time.monotonic() - began


def test_the_link_counts_and_is_as_slow_as_it_says(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(16_384))
    with Server(tmp_path) as server, Link(server.port, Weather(bytes_per_s=65_536, request_ms=80)) as link:
        answer, seconds = fetch(link, "file")
        assert seconds >= 0.25 + 0.08
        assert link.connections[0].wire_in == len(answer) > 16_384
        assert link.connections[0].wire_out == len("GET /file HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")


def test_the_link_breaks_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(16_384))
    with Server(tmp_path) as server, Link(server.port, Weather(break_after=5000)) as link:
        assert len(fetch(link, "file")[0]) == 5000
        assert len(fetch(link, "file")[0]) > 16_384


def test_plots_are_well_formed_and_their_bars_are_in_proportion() -> None:
    drawing = ElementTree.fromstring(bars("a < b", "a note", [Bar("x", 100, "ours"), Bar("y", 50)], "B"))
    widths = [float(bar.attrib["width"]) for bar in drawing.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths[0] == pytest.approx(2 * widths[1])


def test_the_pages_have_a_place_for_every_table() -> None:
    page = report.PAGE.read_text()
    for name, text in report._sections(RESULTS).items():
        page = report.put(page, name, text)
    assert "| bytes received | 60,000 | 80,000 | 2,000 |" in page
    assert "0.03 | 0.10 | yes |" in page  # 2,000 of 60,000 bytes
    scale = report.put(report.SCALE.read_text(), "scale", report._scale(RESULTS))
    assert "| 24 million a day | 278 | 7.9 GB a day |" in scale


def test_the_published_results_have_the_agreed_keys() -> None:
    results = report.read()
    for _what, key, _bound, of in report._TARGETS:
        for name in (key, of):
            if name and (can_publish_deltas() or not name.startswith("delta.")):
                assert report.value(results, name) is not None, name


def test_plans_name_what_is_measured() -> None:
    assert measure.FULL.heaps and measure.FULL.runs >= 3
    assert max(files for files, _size in measure.FULL.points) == 1000
    assert max(size for _files, size in measure.FULL.points) == 5_000_000
