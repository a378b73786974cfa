"""`python -m bench`: measure everything, and write results, plots and tables.

`python -m bench heap`: memory alone. `python -m bench load`: many browsers while the board updates.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console

from bench import heap, lab, load, measure, report
from sim.board import BoardError
from tools import get_chromium

_CONSOLE = Console()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one run of everything, no large releases; nothing is written")
    parser.add_argument("--write", action="store_true", help="with --quick: write results, plots and tables all the same")
    parser.add_argument("--only", default="", help="ways to measure, comma-separated: legacy,latest,full,delta")
    parser.add_argument("--draw", action="store_true", help="measure nothing: plots and tables from bench/results.json")
    commands = parser.add_subparsers(dest="command")
    memory = commands.add_parser("heap", help="free heap in the main loop and in an update, and the smallest that will do")
    memory.add_argument("--modules", default=",".join(lab.all_modules()), help="comma-separated; default: all that there are")
    memory.add_argument("--heap", type=int, default=128, help="kilobytes of heap for the first figures")
    memory.add_argument("--delta", action="store_true", help="update by a delta bundle")
    memory.add_argument("--quick", action="store_true", help="no bisection")
    memory.add_argument("--verbose", action="store_true", help="the board's console")
    browsers = commands.add_parser("load", help="many browsers and an update at once: answers, memory, gaps")
    browsers.add_argument("--heap", type=int, default=load.Plan.heap_k, help="kilobytes of heap")
    browsers.add_argument("--browsers", type=int, default=load.Plan.browsers)
    browsers.add_argument("--rate", type=int, default=load.Plan.requests_per_s, help="requests a second")
    browsers.add_argument("--seconds", type=float, default=load.Plan.seconds)
    browsers.add_argument("--pace", type=int, default=load.Plan.bytes_per_s, help="bytes a second of the update's download")
    browsers.add_argument("--json", type=Path, help="write the figures to this file, too")
    browsers.add_argument("--verbose", action="store_true", help="the board's console")
    args = parser.parse_args()
    return {"heap": _heap, "load": _load, None: _bench}[args.command](args)


def _bench(args: argparse.Namespace) -> int:
    began = time.monotonic()
    if args.draw:
        results = report.read()
    else:
        only = tuple(name for name in args.only.split(",") if name)
        plan = measure.QUICK if args.quick else measure.FULL
        results = measure.measure(plan, lambda line: _say(f"{time.monotonic() - began:5.0f} s  {line}"), only)
        if args.quick:
            results["quick"] = True
    report.show(results, _CONSOLE)
    if args.draw or args.write or not (args.quick or args.only):
        for path in report.write(results):
            _say(f"wrote {path.relative_to(lab.ROOT)}")
    return 0


def _say(line: str) -> None:
    _CONSOLE.print(line, markup=False, highlight=False, soft_wrap=True)


def _heap(args: argparse.Namespace) -> int:
    modules = tuple(args.modules.split(","))
    log = print if args.verbose else None
    try:
        found = heap.platform_update(modules, args.heap, args.delta, log)
        print(f"{args.heap}k of heap: {found.at_loop} bytes free at the main loop, {found.lowest} at the lowest of an update")
    except lab.Failed as error:
        print(f"{args.heap}k of heap do not suffice: {str(error).splitlines()[0]}")
    if not args.quick:
        print(f"smallest heap that boots and updates: {heap.min_platform_heap(modules, args.delta)}k")
    return 0


def _load(args: argparse.Namespace) -> int:
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


if __name__ == "__main__":
    sys.exit(main())
