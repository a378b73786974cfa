"""`python -m bench`: measure everything, and write results, plots and tables. `python -m bench heap`: memory alone."""

from __future__ import annotations

import argparse
import sys

from bench import heap, lab


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    memory = commands.add_parser("heap", help="free heap in the main loop and in an update, and the smallest that will do")
    memory.add_argument("--modules", default=",".join(lab.all_modules()), help="comma-separated; default: all that there are")
    memory.add_argument("--heap", type=int, default=128, help="kilobytes of heap for the first figures")
    memory.add_argument("--delta", action="store_true", help="update by a delta bundle")
    memory.add_argument("--quick", action="store_true", help="no bisection")
    memory.add_argument("--verbose", action="store_true", help="the board's console")
    args = parser.parse_args()
    if args.command == "heap":
        return _heap(args)
    return 0


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


if __name__ == "__main__":
    sys.exit(main())
