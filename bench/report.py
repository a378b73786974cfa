"""What a measurement becomes: a table on the console, bench/results.json, the plots, and the tables in docs/performance.md."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
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
BEFORE = HERE / "before.json"
_WAYS = {
    "legacy": "`latest` and a tar.gz, unpacked over the tree",
    "latest": "our board on the `latest` protocol",
    "small": "ours",
    "small_five": "ours, five versions behind",
    "full": "ours, every file changed",
}
_ROWS = (
    ("wire_in", "bytes received"),
    ("wire_out", "bytes sent"),
    ("connections", "connections"),
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
_WORK = (
    ("reads", "reads of the flash"),
    ("apply_reads", "of these to put the files in place, in the trial and to clean up"),
    ("read", "bytes read"),
    ("inflated", "bytes inflated"),
    ("hashed", "bytes hashed"),
    ("needed", "bytes of the files that change"),
    ("framed", "the same with list, headers and padding, as an archive has them"),
)
_FITS = (
    ("heap_k", "heap, KiB"),
    ("browsers", "browsers"),
    ("asked", "updates asked for"),
    ("updates", "confirmed"),
    ("no_memory", "lines with `no_memory`"),
    ("free_k", "KiB free at rest, the lowest"),
    ("update_boots", "update boots"),
    ("offline", "how often MQTT went offline beside restarts"),
    ("median_s", "seconds an update, with its trial"),
)


@dataclass(frozen=True)
class Target:
    """A bound: at most, or with `least` at least. `of`: the figure of which the measured one is a part."""

    what: str
    key: str
    bound: float
    of: str | None = None
    least: bool = False

    def measured(self, results: Results) -> float | None:
        return _ratio(results, self.key, self.of)

    def met(self, results: Results) -> bool:
        measured = self.measured(results)
        return measured is not None and (measured >= self.bound if self.least else measured <= self.bound)

    @property
    def wanted(self) -> str:
        return ("at least " if self.least else "at most ") + _number(self.bound)


TARGETS = (
    Target("updates confirmed in 128 KiB, of 20", "fits.updates", 20, least=True),
    Target("lines with `no_memory` in them", "fits.no_memory", 0),
    Target("KiB free at rest in 128 KiB, with all modules, MQTT and 2 browsers", "fits.free_k", 16, least=True),
    Target("192 KiB: no update boot, page and MQTT there throughout", "fits.cooperative", 1, least=True),
    Target("every file changes on a Pico W's file system", "fits.pico_all_files", 1, least=True),
    Target("files of the five modules' tree", "tree.files", 80),
    Target("KiB of its blocks", "tree.blocks_k", 400),
    *(
        Target(what + behind, f"{way}.{key}", bound, of)
        for way, behind in (("small", ""), ("small_five", ", five versions behind"))
        for what, key, bound, of in (
            ("bytes of a one-line update", "wire_in", 6000, None),
            ("flash bytes of a one-line update", "programmed", 12000, None),
            ("its connections", "connections", 1, None),
            ("its time on the paced link, of what the tar.gz needs", "paced_ms", 1 / 3, "legacy.paced_ms"),
        )
    ),
    Target("full install of the reference tree, of one gzip stream", "install.ratio", 1.15),
    Target("the same of the platform's tree", "install.platform_ratio", 1.15),
    Target("reads of a full update, of what they were before", "full.reads", 0.5, "before.full.reads"),
    Target("bytes inflated, of those needed (with headers and padding)", "full.inflated_ratio", 1.02),
    Target("bytes hashed, of those needed (the files that change, and the list of all)", "full.hashed_ratio", 2.05),
    Target("longest gap of a full update at 4 KB/s, ms", "full.max_gap_ms", 60),
    Target("99 of 100 gaps of it, ms", "full.p99_gap_ms", 20),
    Target("a Pico W: seconds from the command to the commit, a tenth of the files changes", "rp2.install_s", 10),
    Target("a Pico W: longest gap of it, ms of the board's time", "rp2.max_gap_ms", 60),
    Target("lines of modules/ota", "code.lines", 4000),
    Target("files of modules/ota", "code.files", 34),
    Target("circles of imports in it", "code.circles", 0),
    Target("seconds to build the default profile's bundle", "build.seconds", 2),
    Target("a file of 400, of what one of 100 takes to build", "build.linear", 1.5),
    Target("bytes of a check that finds nothing new", "poll.wire_in", 250),
    Target("KiB of heap with all modules", "platform.min_heap_k", 128),
    Target("KiB of heap more for a large release", "scaling.heap_spread_k", 3.99),
    Target("second try after a break at half, of the whole", "resume.wire_fraction", 0.55),
)


def value(results: Results, key: str) -> float | None:
    """The value of a dotted key, or None when it was not measured; of a list, how long it is."""
    found: Any = {**results, "before": before()}
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return len(found) if isinstance(found, list) else found


def before() -> Results:
    """What was measured when the bench had this piece first, on the code of that day."""
    found: Results = json.loads(BEFORE.read_text())
    return found


def merged(old: Results, new: Results) -> Results:
    """The old results with new pieces in their place."""
    both = {**old}
    for key, found in new.items():
        both[key] = {**old.get(key, {}), **found} if isinstance(found, dict) else found
    return both


def read() -> Results:
    """What was measured last."""
    found: Results = json.loads(RESULTS.read_text())
    return found


def show(results: Results, console: Console) -> None:
    """The tables on the console."""
    names = [name for name in _WAYS if "wire_in" in results.get(name, {})]
    table = Table("42 files, 228 KB", *(name for name in names))
    for key, label in _ROWS if names else ():
        table.add_row(label, *(_number(results[name].get(key)) for name in names))
    if names:
        console.print(table)
    table = Table("target", "measured", "wanted", "")
    for target in TARGETS:
        measured = target.measured(results)
        if measured is not None:
            verdict = "[green]met[/green]" if target.met(results) else "[bold red]missed[/bold red]"
            table.add_row(target.what, _number(measured), target.wanted, verdict)
    if table.rows:
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
    written.append(PAGE)
    if {"poll", "small", "full"} <= results.keys():
        SCALE.write_text(put(SCALE.read_text(), "scale", _scale(results)))
        written.append(SCALE)
    if "fleet" in results:
        page = put(SCALE.read_text(), "fleet", _fleet(results))
        SCALE.write_text(put(page, "brokers", _brokers(results)) if results["fleet"].get("clients") else page)
    return written


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
    makers = {
        "versions": (_versions, "versions.commit"),
        "ways": (_ways, "small.wire_in"),
        "peers": (_peers, "small.wire_in"),
        "work": (_work, "full.reads"),
        "fits": (_fits, "fits.updates"),
        "rp2": (_rp2, "rp2.install_s"),
        "platform": (_platform, "platform.files"),
        "sources": (_sources, "tree.files"),
        "scaling": (_scaling, "scaling.points"),
        "targets": (_targets, "versions.python"),
    }
    return {name: make(results) for name, (make, needs) in makers.items() if value(results, needs) is not None}


def _versions(results: Results) -> str:
    v = results["versions"]
    text = (
        f"Commit {v['commit'] or '(unknown)'}, MicroPython {v['micropython']} ({v['port']}), mpy-cross {v['mpy_cross']}, "
        f"{v['filesystem']}, CPython {v['python']} as the host and server, {v['machine']}. Modules: {v['modules']}.\n"
    )
    return text + ("\n**A quick run: fewer repetitions than the figures deserve.**\n" if results.get("quick") else "")


def _ways(results: Results) -> str:
    names = [name for name in _WAYS if "wire_in" in results.get(name, {})]
    rows = [(label, *(_number(results[name].get(key)) for name in names)) for key, label in _ROWS]
    return _markdown(("", *(_WAYS[name] for name in names)), rows)


def _peers(results: Results) -> str:
    keys = ("wire_in", "requests", "paced_ms", "programmed", "min_heap_k")
    head = ("updater", "bytes received", "requests", "ms, paced", "flash bytes", "smallest heap, KiB")
    rows = [(peer["name"], *(_number(peer[key]) for key in keys)) for peer in peers()["updaters"]]
    for name in _WAYS:
        if "wire_in" in results.get(name, {}):
            rows.append((f"here: {_WAYS[name]}", *(_number(results[name].get(key)) for key in keys)))
    return _markdown(head, rows)


def _work(results: Results) -> str:
    old = before()["full"]
    rows = [(label, _number(old[key]), _number(results["full"].get(key))) for key, label in _WORK]
    return _markdown(("", "before", "now"), rows)


def _fits(results: Results) -> str:
    stories = [results["fits"], results["fits"].get("cooperative_story", {})]
    rows = [(label, *(_number(story.get(key)) for story in stories)) for key, label in _FITS]
    rows.append(("the page and MQTT there throughout", "-", _yes(results["fits"].get("cooperative"))))
    pico = results["fits"].get("pico_story", {})
    text = _markdown(("", "all modules and a sensor", "and a module of 12 KB"), rows)
    if not pico:
        return text
    end = "confirmed" if pico["confirmed"] else "**not confirmed**"
    return text + f"\nOn the 848 KB of a Pico W, an update of all {pico['files']} files ({pico['bytes']:,} bytes): {end}.\n"


def _rp2(results: Results) -> str:
    rows = []
    for key, label in (
        ("install_s", "seconds from the command to the commit, a tenth of the files changes"),
        ("max_gap_ms", "longest gap between two ticks of another module, ms"),
        ("all_install_s", "seconds, every file changes"),
        ("all_max_gap_ms", "longest gap, ms"),
    ):
        rows.append((label, _number(before()["rp2"][key]), _number(results["rp2"][key])))
    return _markdown(("", "before", "now"), rows)


def _targets(results: Results) -> str:
    rows = []
    for target in TARGETS:
        measured = target.measured(results)
        name = f"`{target.key}`" + (f" / `{target.of}`" if target.of else "")
        if measured is not None:
            rows.append((target.what, name, _number(measured), target.wanted, _yes(target.met(results))))
    return _markdown(("what", "key", "measured", "wanted", "met"), rows)


def _yes(true: bool | None) -> str:
    return "-" if true is None else "yes" if true else "**no**"


def _platform(results: Results) -> str:
    p = results["platform"]
    rows = [
        ("files and bytes of the platform with all its modules", f"{p['files']} and {p['bytes']:,}"),
        ("heap in use in the main loop", f"{p['used_at_loop_k']} KiB"),
        ("heap in use at the highest point of an update", f"{p['used_at_most_k']} KiB"),
        ("smallest heap that boots and updates", f"{_number(p.get('min_heap_k'))} KiB"),
    ]
    if "poll" in results:
        poll = results["poll"]
        rows.append(("a check that finds nothing new: received and sent", f"{poll['wire_in']} and {poll['wire_out']} bytes"))
        rows.append(("flash programmed by such a check", f"{poll['programmed']:,} bytes"))
    if "resume" in results:
        rows.append(("second try of a download that broke off at half", f"{results['resume']['wire_fraction']:.0%} of the whole"))
    if "install" in results:
        i = results["install"]
        rows.append(("the reference tree for an empty one: received, of one gzip stream", f"{i['wire_in']:,}, {i['ratio']:.2f}"))
        rows.append(("the same with the platform's files", f"{i['platform_wire_in']:,}, {i['platform_ratio']:.2f}"))
    return _markdown(("", ""), rows)


def _sources(results: Results) -> str:
    t = results["tree"]
    rows = [("the tree of all modules", f"{t['files']} files, {t['bytes']:,} bytes, {t['blocks_k']} KiB of blocks")]
    if "code" in results:
        c = results["code"]
        rows.append(("modules/ota", f"{c['files']} files, {c['lines']:,} lines, {len(c['circles'])} circles of imports"))
    if "build" in results:
        b = results["build"]
        points = ", ".join(f"{point['files']}: {point['seconds']:.1f} s" for point in b["points"])
        rows.append(("a build, nothing compiled before", f"{b['seconds']:.1f} s; trees of so many files: {points}"))
    return _markdown(("", ""), rows)


def _scaling(results: Results) -> str:
    head = ("files", "bytes", "heap, KiB", "ms", "µs a byte")
    points = results["scaling"]["points"]
    rows = [tuple(_number(point[key]) for key in ("files", "size", "heap_k", "ms", "us_per_byte")) for point in points]
    return _markdown(head, rows)


def _scale(results: Results) -> str:
    head = (f"{scale.BOARDS:,} boards", "requests", "a second, on average", "bytes, both ways", "on average")
    return _markdown(head, scale.rows(results))


def _fleet(results: Results) -> str:
    return _markdown(("a fleet on one machine", ""), scale.fleet(results["fleet"]))


def _brokers(results: Results) -> str:
    return _markdown((f"{scale.BOARDS:,} boards over MQTT", ""), scale.brokers(results["fleet"]))


def _plots(results: Results) -> dict[str, str]:
    if any("wire_in" not in results.get(name, {}) for name in ("small", "full")):
        return {}
    note = "one line of 228 KB in 42 files; grey: other updaters, measured with MicroPython 1.25; linear scale"
    kinds = {
        "wire": ("Bytes received for one changed line", "wire_in", "B"),
        "paced": ("Time at 64 KB/s and 80 ms a request, until the restart", "paced_ms", "ms"),
        "flash": ("Flash programmed for one changed line", "programmed", "B"),
        "heap": ("Smallest heap that succeeds (ours: with its console, wifi and OTA running)", "min_heap_k", "KiB"),
    }
    return {name: bars(title, note, _bars(results, key), unit) for name, (title, key, unit) in kinds.items()}


def _bars(results: Results, key: str) -> list[Bar]:
    names = (("small", "ours", "ours"), ("full", "ours, every file changed", "own"))
    found = [Bar(label, results[name][key], kind) for name, label, kind in names if results[name].get(key) is not None]
    short = {"public-micropython-iot-platform": "…-micropython-iot-platform"}
    return found + [Bar(short.get(peer["name"], peer["name"]), peer[key]) for peer in peers()["updaters"]]


def _ratio(results: Results, key: str, of: str | None) -> float | None:
    measured, whole = value(results, key), value(results, of) if of else 1
    return measured / whole if measured is not None and whole else None


def _number(number: float | None) -> str:
    if number is None:
        return "-"
    if isinstance(number, bool):
        return "yes" if number else "no"
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.2f}"


def _markdown(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"
