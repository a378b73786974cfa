"""What a measurement becomes: a table on the console, bench/results.json, the plots, and the tables in docs/performance.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import scale
from bench.measure import Results
from bench.svg import Bar, bars
from iotctl import ROOT

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
PAGE = ROOT / "docs" / "performance.md"
SCALE = ROOT / "docs" / "scale.md"
IMAGES = ROOT / "docs" / "images"
_WAYS = {
    "legacy": "`latest` and a tar.gz, unpacked over the tree",
    "latest": "our board on the `latest` protocol",
    "full": "our full bundle",
    "delta": "our delta bundle",
}
_ROWS = (
    ("wire_in", "bytes received"),
    ("wire_out", "bytes sent"),
    ("requests", "requests"),
    ("ms", "ms on loopback"),
    ("paced_ms", "ms at 64 KB/s, 80 ms a request"),
    ("programmed", "flash bytes programmed"),
    ("erases", "blocks erased"),
    ("min_heap_k", "smallest heap, KiB"),
    ("max_gap_ms", "longest gap between ticks at 4 KB/s, ms"),
    ("p99_gap_ms", "99 of 100 gaps are at most, ms"),
    ("commit_to_tick_ms", "ms from commit to the first tick"),
    ("trial_in", "bytes received in the trial, beside these"),
)
# (what, key, bound, what the bound is a part of)
_TARGETS: tuple[tuple[str, str, float, str | None], ...] = (
    ("bytes of a one-line update", "delta.wire_in", 3000, None),
    ("the same, of what the tar.gz needs", "delta.wire_in", 0.1, "legacy.wire_in"),
    ("flash bytes of a one-line update", "delta.programmed", 15000, None),
    ("the same, of what the tar.gz needs", "delta.programmed", 0.1, "legacy.programmed"),
    ("time on the paced link, of what the tar.gz needs", "delta.paced_ms", 1 / 3, "legacy.paced_ms"),
    ("bytes of a check that finds nothing new", "poll.wire_in", 250, None),
    ("KiB of heap with all modules", "platform.min_heap_k", 128, None),
    ("KiB of heap more for a large release", "scaling.heap_spread_k", 3.99, None),
    ("longest gap of a full update at 4 KB/s, ms", "full.max_gap_ms", 60, None),
    ("second try after a break at half, of the whole", "resume.wire_fraction", 0.55, None),
)


def value(results: Results, key: str) -> float | None:
    """The value of a dotted key, or None when it was not measured."""
    found: Any = results
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def read() -> Results:
    """What was measured last."""
    found: Results = json.loads(RESULTS.read_text())
    return found


def show(results: Results, console: Console) -> None:
    """The tables on the console."""
    names = [name for name in _WAYS if name in results]
    table = Table("one line changed, 42 files, 228 KB", *(name for name in names))
    for key, label in _ROWS:
        table.add_row(label, *(_number(results[name].get(key)) for name in names))
    console.print(table)
    table = Table("target", "measured", "at most", "")
    for what, key, bound, of in _TARGETS:
        measured = _ratio(results, key, of)
        if measured is not None:
            verdict = "[green]met[/green]" if measured <= bound else "[bold red]missed[/bold red]"
            table.add_row(what, _number(measured), _number(bound), verdict)
    console.print(table)


def write(results: Results) -> list[Path]:
    """Write results.json, the plots, and the tables of docs/performance.md; returns what was written."""
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    IMAGES.mkdir(exist_ok=True)
    written = [RESULTS]
    for name, drawing in _plots(results).items():
        path = IMAGES / f"{name}.svg"
        path.write_text(drawing)
        written.append(path)
    page = PAGE.read_text()
    for name, text in _sections(results).items():
        page = put(page, name, text)
    PAGE.write_text(page)
    SCALE.write_text(put(SCALE.read_text(), "scale", _scale(results)))
    return [*written, PAGE, SCALE]


def put(page: str, name: str, text: str) -> str:
    """The page with `text` between the markers ``<!-- name -->`` and ``<!-- /name -->``."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    changed, count = pattern.subn(lambda found: found.group(1) + text + found.group(2), page)
    if count != 1:
        raise ValueError(f"the page has no place for {name}")
    return changed


def peers() -> dict[str, Any]:
    """What others' updaters were measured at."""
    found: dict[str, Any] = json.loads((HERE / "peers.json").read_text())
    return found


def _sections(results: Results) -> dict[str, str]:
    sections = {"versions": _versions(results), "ways": _ways(results), "peers": _peers(results), "targets": _targets(results)}
    sections["platform"] = _platform(results)
    if "scaling" in results:
        sections["scaling"] = _scaling(results)
    return sections


def _versions(results: Results) -> str:
    v = results["versions"]
    text = (
        f"MicroPython {v['micropython']} ({v['port']}), mpy-cross {v['mpy_cross']}, {v['filesystem']}, "
        f"CPython {v['python']} as the host and server, {v['machine']}. Modules: {', '.join(results['platform']['modules'])}.\n"
    )
    return text + ("\n**A quick run: fewer repetitions than the figures deserve.**\n" if results.get("quick") else "")


def _ways(results: Results) -> str:
    names = [name for name in _WAYS if name in results]
    rows = [(label, *(_number(results[name].get(key)) for name in names)) for key, label in _ROWS]
    return _markdown(("", *(_WAYS[name] for name in names)), rows)


def _peers(results: Results) -> str:
    keys = ("wire_in", "requests", "paced_ms", "programmed", "min_heap_k")
    head = ("updater", "bytes received", "requests", "ms, paced", "flash bytes", "smallest heap, KiB")
    rows = [(peer["name"], *(_number(peer[key]) for key in keys)) for peer in peers()["updaters"]]
    for name in _WAYS:
        if name in results:
            rows.append((f"here: {_WAYS[name]}", *(_number(results[name].get(key)) for key in keys)))
    return _markdown(head, rows)


def _targets(results: Results) -> str:
    rows = []
    for what, key, bound, of in _TARGETS:
        measured = _ratio(results, key, of)
        name = f"`{key}`" + (f" / `{of}`" if of else "")
        if measured is not None:
            rows.append((what, name, _number(measured), _number(bound), "yes" if measured <= bound else "**no**"))
    return _markdown(("what", "key", "measured", "at most", "met"), rows)


def _platform(results: Results) -> str:
    p, poll = results["platform"], results["poll"]
    rows = [
        ("files and bytes of the platform with all its modules", f"{p['files']} and {p['bytes']:,}"),
        ("heap in use in the main loop", f"{p['used_at_loop_k']} KiB"),
        ("heap in use at the highest point of a full update", f"{p['used_at_most_k']} KiB"),
        ("smallest heap that boots and updates", f"{_number(p.get('min_heap_k'))} KiB"),
        ("a check that finds nothing new: received and sent", f"{poll['wire_in']} and {poll['wire_out']} bytes"),
        ("flash programmed by such a check", f"{poll['programmed']:,} bytes"),
        ("second try of a download that broke off at half", f"{results['resume']['wire_fraction']:.0%} of the whole"),
    ]
    return _markdown(("", ""), rows)


def _scaling(results: Results) -> str:
    head = ("files", "bytes", "heap, KiB", "ms", "µs a byte")
    points = results["scaling"]["points"]
    rows = [tuple(_number(point[key]) for key in ("files", "size", "heap_k", "ms", "us_per_byte")) for point in points]
    return _markdown(head, rows)


def _scale(results: Results) -> str:
    head = (f"{scale.BOARDS:,} boards", "requests", "a second, on average", "bytes, both ways", "on average")
    return _markdown(head, scale.rows(results))


def _plots(results: Results) -> dict[str, str]:
    note = "one line of 228 KB in 42 files; grey: other updaters, measured with MicroPython 1.25; linear scale"
    kinds = {
        "wire": ("Bytes received for one changed line", "wire_in", "B"),
        "paced": ("Time at 64 KB/s and 80 ms a request, until the restart", "paced_ms", "ms"),
        "flash": ("Flash programmed for one changed line", "programmed", "B"),
        "heap": ("Smallest heap that succeeds (ours: with its console, wifi and OTA running)", "min_heap_k", "KiB"),
    }
    return {name: bars(title, note, _bars(results, key), unit) for name, (title, key, unit) in kinds.items()}


def _bars(results: Results, key: str) -> list[Bar]:
    ours = [(name, kind) for name, kind in (("full", "own"), ("delta", "ours")) if results.get(name, {}).get(key) is not None]
    found = [Bar(f"ours, {name}", results[name][key], kind) for name, kind in reversed(ours)]
    short = {"public-micropython-iot-platform": "…-micropython-iot-platform"}
    return found + [Bar(short.get(peer["name"], peer["name"]), peer[key]) for peer in peers()["updaters"]]


def _ratio(results: Results, key: str, of: str | None) -> float | None:
    measured, whole = value(results, key), value(results, of) if of else 1
    return measured / whole if measured is not None and whole else None


def _number(number: float | None) -> str:
    if number is None:
        return "-"
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.2f}"


def _markdown(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"
