"""Measure everything, and write results, plots and tables: `python -m bench`.

`python -m bench fits tree ...`: some pieces alone; `--write` puts them in place of those in bench/results.json.
`python -m bench heap`: memory alone. `python -m bench load`: many browsers while the board updates. `python -m bench fleet`: a
hundred boards, and ten thousand light clients.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console

from bench import fleet, heap, lab, load, measure, report
from iotctl import boards
from sim.board import BoardError
from tools import get_chromium, get_services

_CONSOLE = Console()


def main() -> int:
    if not get_services.find("mosquitto"):
        print("there is no mosquitto: run tools/get_services.py mosquitto", file=sys.stderr)
        return 1
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    return {"heap": _heap, "load": _load, "fleet": _fleet}.get(command, _bench)()


def _bench() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    pieces = " ".join(measure.PIECES)
    parser.add_argument("pieces", nargs="*", metavar="PIECE", help=f"what to measure, of {pieces}; default: all")
    parser.add_argument("--quick", action="store_true", help="one run of everything, no large releases; nothing is written")
    parser.add_argument("--write", action="store_true", help="write results, plots and tables even of a part or a quick run")
    parser.add_argument("--draw", action="store_true", help="measure nothing: plots and tables from bench/results.json")
    parser.add_argument("--updates", type=int, help="how many updates one after the other, for fits and cooperative")
    parser.add_argument("--heap", type=int, help="kilobytes of heap for fits and cooperative, in place of what they are about")
    parser.add_argument("--verbose", action="store_true", help="the board's console, in fits and cooperative")
    args = parser.parse_args()
    unknown = set(args.pieces) - set(measure.PIECES)
    if unknown:
        parser.error(f"there is no {' '.join(sorted(unknown))}; there are {pieces}")
    began = time.monotonic()
    plan = replace(measure.QUICK if args.quick else measure.FULL, heap_k=args.heap, verbose=args.verbose)
    if args.updates:
        plan = replace(plan, updates=args.updates, cooperative=args.updates)

    def log(line: str) -> None:
        _say(f"{time.monotonic() - began:5.0f} s  {line}")

    results = {} if args.draw else measure.measure(plan, log, args.pieces)
    if args.draw or (args.pieces and args.write):
        results = report.merged(report.read(), results)
    if args.quick:
        results["quick"] = True
    if args.pieces and not args.write:
        _say(json.dumps({key: found for key, found in results.items() if key not in ("versions", "reference")}, indent=2))
    report.show(results, _CONSOLE)
    if args.draw or args.write or not (args.quick or args.pieces):
        for path in report.write(results):
            _say(f"wrote {path.relative_to(lab.ROOT)}")
    return 0


def _say(line: str) -> None:
    _CONSOLE.print(line, markup=False, highlight=False, soft_wrap=True)


def _heap() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench heap", description="free heap in the main loop and in an update")
    parser.add_argument("heap", choices=["heap"])
    parser.add_argument("--modules", default=",".join(lab.all_modules()), help="comma-separated; default: all that there are")
    parser.add_argument("--heap", type=int, default=128, dest="heap_k", help="kilobytes of heap for the first figures")
    parser.add_argument("--quick", action="store_true", help="no bisection for the smallest that will do")
    parser.add_argument("--write", action="store_true", help="only measure what `iotctl build` tells of a heap")
    parser.add_argument("--verbose", action="store_true", help="the board's console")
    args = parser.parse_args()
    if args.write:
        boards.HEAP.write_text(json.dumps(heap.table(), indent=2) + "\n")
        print(f"wrote {boards.HEAP}")
        return 0
    modules = tuple(args.modules.split(","))
    try:
        found = heap.platform_update(modules, args.heap_k, print if args.verbose else None)
        print(f"{args.heap_k}k of heap: {found.at_loop} bytes free at the main loop, {found.lowest} at the lowest of an update")
    except lab.Failed as error:
        print(f"{args.heap_k}k of heap do not suffice: {str(error).splitlines()[0]}")
    if not args.quick:
        print(f"smallest heap that boots and updates: {heap.min_platform_heap(modules)}k")
    return 0


def _load() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench load", description="many browsers and an update at once")
    parser.add_argument("load", choices=["load"])
    parser.add_argument("--heap", type=int, default=load.Plan.heap_k, help="kilobytes of heap")
    parser.add_argument("--browsers", type=int, default=load.Plan.browsers)
    parser.add_argument("--rate", type=int, default=load.Plan.requests_per_s, help="requests a second")
    parser.add_argument("--seconds", type=float, default=load.Plan.seconds)
    parser.add_argument("--pace", type=int, default=load.Plan.bytes_per_s, help="bytes a second of the update's download")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--verbose", action="store_true", help="the board's console")
    args = parser.parse_args()
    program = get_chromium.find()
    if not program:
        print("there is no Chromium: run tools/get_chromium.py", file=sys.stderr)
        return 1
    plan = load.Plan(args.browsers, args.rate, args.seconds, args.pace, args.heap)
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=program, args=["--headless", "--no-sandbox", "--disable-gpu"])
            figures = load.measure(plan, chromium, print if args.verbose else None)
            chromium.close()
    except (lab.Failed, BoardError) as error:
        print(f"{args.heap}k of heap do not suffice: {str(error).splitlines()[0]}")
        return 1
    print("\n".join(figures.lines()))
    if args.json:
        args.json.write_text(json.dumps(asdict(figures), indent=2) + "\n")
    return 0


def _fleet() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench fleet", description="a fleet: boards, rollouts, the dashboard")
    parser.add_argument("fleet", choices=["fleet"])
    parser.add_argument("--boards", type=int, default=fleet.Plan.boards, help="simulated boards; 0: only the clients")
    parser.add_argument("--clients", type=int, default=fleet.Plan.clients, help="light MQTT clients; 0: only the boards")
    parser.add_argument("--write", action="store_true", help="put the figures into bench/results.json and docs/scale.md")
    args = parser.parse_args()
    plan, began, figures = fleet.Plan(args.boards, args.clients), time.monotonic(), {}

    def log(line: str) -> None:
        _say(f"{time.monotonic() - began:5.0f} s  {line}")

    try:
        if plan.boards:
            figures.update(fleet.boards(plan, log))
        if plan.clients:
            with sync_playwright() as playwright:
                options = ["--headless", "--no-sandbox", "--disable-gpu"]
                chromium = playwright.chromium.launch(executable_path=get_chromium.find(), args=options)
                figures.update(fleet.clients(plan, chromium, log))
                chromium.close()
    except lab.Failed as error:
        _say(f"it did not get there: {error}")
        return 1
    for key, figure in figures.items():
        _say(f"fleet.{key} {figure}")
    if args.write:
        for path in report.write(report.merged(report.read(), {"fleet": figures})):
            _say(f"wrote {path.relative_to(lab.ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
