"""The bench itself: it runs, its link is as slow as it says, and what it draws and writes is well-formed."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import clients, fits, heap, lab, measure, report, sources, ways
from bench.lab import Failed
from bench.link import Link, Weather
from bench.svg import Bar, bars
from iotctl.serve import Server
from tests.support.broker import Broker, Observer

RESULTS: dict[str, Any] = {
    "versions": {
        "commit": "1234567 2026-01-31",
        "micropython": "1",
        "port": "p",
        "mpy_cross": "2",
        "filesystem": "f",
        "python": "3",
        "machine": "m",
        "modules": "ota",
    },
    "legacy": {"wire_in": 60_000, "programmed": 300_000, "paced_ms": 1000},
    "full": {"wire_in": 80_000, "wire_out": 300, "requests": 2, "trial_in": 1000, "paced_ms": 2000, "reads": 100_000},
    "small": {"wire_in": 2000, "wire_out": 300, "requests": 2, "trial_in": 1000, "programmed": 10_000, "paced_ms": 250},
    "fits": {"updates": 20, "asked": 20, "free_k": 15.5, "cooperative": True, "pico_all_files": False},
    "rp2": {"install_s": 9.5, "max_gap_ms": 70, "all_install_s": 20.1, "all_max_gap_ms": 80},
    "poll": {"wire_in": 144, "wire_out": 185, "programmed": 500},
    "resume": {"wire_fraction": 0.51},
    "install": {"wire_in": 66_000, "ratio": 1.1, "platform_wire_in": 120_000, "platform_ratio": 1.12},
    "tree": {"files": 80, "bytes": 200_000, "blocks_k": 400},
    "code": {"files": 34, "lines": 4000, "circles": [["a", "b"]]},
    "build": {"seconds": 1.9, "linear": 1.1, "points": [{"files": 100, "seconds": 0.5}]},
    "fleet": {
        **{"boards": 100, "confirmed": 100, "halted_at_step": 1, "clients": 10_000, "page_p95_ms": 30, "messages_per_s": 670},
        **{"dashboard_mb": 200, "dashboard_cpu_percent": 12, "broker_cpu_percent": 4.5, "broker_mb": 60},
    },
    "platform": {"modules": ["ota"], "files": 50, "bytes": 100_000, "used_at_loop_k": 70.5, "used_at_most_k": 90},
    "scaling": {"heap_spread_k": 1, "points": [{"files": 10, "size": 50_000, "heap_k": 90, "ms": 900, "us_per_byte": 18}]},
}
TABLES = ("versions", "ways", "peers", "work", "fits", "rp2", "platform", "sources", "scaling", "targets")


def test_the_bench_runs() -> None:
    """One small run of the comparison and of an update of one line, as `make bench` does it."""
    legacy, small = ways.run(ways.LEGACY), ways.run(ways.SMALL)
    assert legacy.requests == legacy.connections == 2
    assert small.requests >= 2
    assert legacy.programmed > 228_000 > small.programmed > small.wire_in
    assert legacy.gaps and small.gaps
    assert small.lowest and small.commit_to_tick_ms > 0 and small.trial_in > 0


def test_what_an_update_does_is_counted() -> None:
    done = ways.work(ways.FULL)
    assert 227_000 < done.needed < 228_000 < done.framed
    assert done.inflated >= done.framed, "all of it has to be inflated at least once"
    assert done.hashed >= done.needed
    assert done.reads > 1000 and done.read > done.needed, "what was staged is read back"


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
    sections = report._sections(RESULTS)
    assert tuple(sections) == TABLES
    for name, text in sections.items():
        page = report.put(page, name, text)
    assert "\nCommit 1234567 2026-01-31, MicroPython 1 (p), " in page
    assert "| bytes received | 60,000 | 2,000 | 80,000 |" in page
    assert "| 0.29 | at most 0.50 | yes |" in page  # 100,000 reads of what they were before
    assert "| 20 | at least 20 | yes |" in page and "| 15.50 | at least 16 | **no** |" in page
    assert "| 0 | at least 1 | **no** |" in page  # the Pico W
    assert "| 1 | at most 0 | **no** |" in page  # a circle
    scale = report.put(report.SCALE.read_text(), "scale", report._scale(RESULTS))
    assert "| 24 million a day | 278 | 7.9 GB a day |" in scale
    assert "| 10,000 |" in report.put(scale, "fleet", report._fleet(RESULTS))
    told = report.put(scale, "brokers", report._brokers(RESULTS))
    assert "| 67,000 |" in told and "| cores for the brokers, half idle each | 9 |" in told and "| 6.0 GB |" in told


def test_a_piece_alone_takes_the_place_of_the_old_one() -> None:
    merged = report.merged({"fits": {"updates": 3, "free_k": 9}, "tree": {"files": 90}}, {"fits": {"updates": 20}, "quick": True})
    assert merged == {"fits": {"updates": 20, "free_k": 9}, "tree": {"files": 90}, "quick": True}


def test_every_target_is_of_a_piece_that_is_measured() -> None:
    keys = {target.key.split(".")[0] for target in report.TARGETS}
    pieces = {*measure.PIECES, *("full" if name == "work" else name for name in measure.PIECES)}
    assert keys <= pieces


def test_plans_name_what_is_measured() -> None:
    assert measure.FULL.runs >= 3 and measure.FULL.updates == 20 and measure.FULL.cooperative == 5
    assert max(files for files, _size in measure.FULL.points) == 1000
    assert max(size for _files, size in measure.FULL.points) == 5_000_000


# -- the link, where a connection brings several answers


def test_each_request_of_a_kept_connection_is_counted_and_waits(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(100))
    with Server(tmp_path) as server, Link(server.port, Weather(bytes_per_s=65_536, request_ms=80)) as link:
        connection = http.client.HTTPConnection(link.url.removeprefix("http://"))
        began = time.monotonic()
        for _n in range(3):
            connection.request("GET", "/file")
            assert connection.getresponse().read() == bytes(100)
        assert time.monotonic() - began >= 3 * 0.08
        connection.close()
        assert len(link.connections) == 1 and len(link.connections[0].requests) == 3


# -- sources


def test_the_tree_takes_the_blocks_that_were_counted() -> None:
    """A real file system says the same; more only where a folder's names need further blocks."""
    found = sources.tree_size()
    assert found["files"] > 50
    assert found["counted_k"] <= found["blocks_k"] <= found["counted_k"] + 32


def test_circles_of_imports_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a", "e"}, "e": set(), "f": {"f"}}
    assert sources.circles(graph) == [["a", "b", "c"], ["f"]]


def test_imports_are_those_at_the_top_of_a_file_by_their_full_name(tmp_path: Path) -> None:
    path = tmp_path / "b.py"
    late = "def f():\n    import m.g\n"
    path.write_text("from . import c\nfrom ..d import x\ntry:\n    import m.e\nexcept ImportError:\n    pass\n" + late)
    names = {"m.a", "m.a.b", "m.a.c", "m.d", "m.e", "m.g", "m"}
    assert sources._imports("m.a.b", path, names) == {"m.a.c", "m.d", "m.e"}


# -- what must fit


def test_an_edition_changes_every_file_of_the_tree() -> None:
    modules = ("serial_log", "wifi", "ota", "web", "mqtt", "sensor", "ballast")
    one, other = (lab.platform_files(modules, edition) for edition in ("1.0.0", "1.1.0"))
    assert one.keys() == other.keys() and not [path for path in one if one[path] == other[path]]
    assert len(one["modules/ballast.mpy"]) >= 12 * 1024


def test_two_browsers_see_every_tab_and_an_update_beside_them_is_confirmed() -> None:
    """On a heap with room for all of it: what a small one makes of it is for `make bench` to say."""
    said: list[str] = []
    found = fits.updates(replace(fits.UPDATES, updates=1, heap_k=320, patience_s=120), said.append)
    assert (found["updates"], found["asked"], found["update_boots"], found["no_memory"]) == (1, 1, 0, 0), said
    assert found["all_tabs"] and found["streams"] == 2 and found["mqtt_back"] == found["browsers_back"] == 1
    assert found["free_k"] > 100


def test_cooperative_is_only_what_nobody_noticed() -> None:
    good = {
        "asked": 5,
        "updates": 5,
        "mqtt_back": 5,
        "browsers_back": 5,
        "update_boots": 0,
        "page_errors": {},
        "no_memory": 0,
        "all_tabs": True,
        "offline": 0,
    }
    assert fits.is_cooperative(good)
    bad = {"updates": 4, "mqtt_back": 4, "update_boots": 1, "page_errors": {"503 no_memory": 1}, "no_memory": 1, "offline": 1}
    for key, value in {**bad, "all_tabs": False}.items():
        assert not fits.is_cooperative({**good, key: value}), key


def test_the_light_clients_speak_and_update_as_boards_do(tmp_path: Path) -> None:
    channel = tmp_path / "site" / clients.KIND / "stable.json"
    channel.parent.mkdir(parents=True)
    channel.write_text('{"version": "1.1.0", "sequence": 1001000, "rollout": {"percent": 0}}\n')
    with Broker(tmp_path / "broker") as broker, Observer(broker) as seen:
        command = [sys.executable, "-m", "bench.clients", str(broker.port), str(tmp_path / "site"), "2"]
        program = subprocess.Popen(command, cwd=lab.ROOT, stdout=subprocess.PIPE, text=True)
        try:
            for board in ("sim-board/c00000", "sim-board/c00001"):
                seen.wait(f"{board}/status/version", "1.0.0")
                seen.wait(f"{board}/status/rssi")
            since = seen.publish("sim-board/c00001/command/ota/update")
            seen.wait("sim-board/c00001/reply/ota/update", "started", since)
            channel.write_text('{"version": "1.1.0", "sequence": 1001000, "rollout": {"percent": 100}}\n')
            seen.wait("sim-board/c00001/reply/ota/update", "confirmed", since)
            assert [m.text for m in seen.of("sim-board/c00001/status/online", since)] == ["false", "true"]
            since = seen.now()
            program.kill()
            seen.wait("sim-board/c00000/status/online", "false", since)
        finally:
            program.kill()
            program.wait()
