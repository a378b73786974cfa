"""`make torture`: every scenario, every flash operation, three ways to cut, and two cuts. Exit code 1 when a board was lost."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from sim.ports import PORTS
from tests.powercut import fat, runner
from tests.powercut.scenario import SCENARIOS, Scenario

_COLUMNS = ("scenario", "fs", "cuts", "old", "new", "mixed", "unbootable", "lost_preferences", "seconds")
_LARGE = {"lfs": 30, "fat": 300}  # cuts of a scenario with hundreds of files, evenly spread: on littlefs each takes seconds
_DOUBLES = {"lfs": 80, "fat": 240}


def main() -> int:
    options = _options()
    if options.replay:
        outcome = runner.replay(options.replay, options.broken, options.like)
        print(outcome.verdict, "preferences lost" if outcome.lost else "", outcome.detail, sep="\n")
        return 0 if outcome.good else 1
    rows, lost = [], 0
    chosen = [replace(s, like=options.like or s.like) for s in SCENARIOS if not options.scenario or s.name in options.scenario]
    with _bar(options.json) as bar:
        task = bar.add_task("", total=len(options.fs) * len(chosen))
        for fs in options.fs:
            for scenario in chosen:
                bar.update(task, description=f"{scenario.name} on {fs}")
                outcomes, seconds = _run(scenario, fs, options)
                rows.append(summary(scenario.name, fs, outcomes, seconds))
                _show(rows[-1], outcomes, options, bar.console)
                lost += fs == "lfs" and sum(not outcome.good for outcome in outcomes)
                bar.advance(task)
    if not options.scenario:
        for fs in options.fs:
            rows.append(fat.alone(fs))
            _show(rows[-1], [], options, Console())
    if not options.json:
        _table(rows)
    return 1 if lost else 0


def _run(scenario: Scenario, fs: str, options: argparse.Namespace) -> tuple[list[runner.Outcome], float]:
    sample = min(options.sample or _LARGE[fs], _LARGE[fs]) if scenario.large else options.sample
    doubles = _DOUBLES[fs] if options.doubles is None else options.doubles
    if options.sample or scenario.large or scenario.resumed:
        doubles = 0
    return runner.run(scenario, fs, sample=sample, doubles=doubles, workers=options.workers, broken=options.broken)


def summary(name: str, fs: str, outcomes: list[runner.Outcome], seconds: float) -> dict[str, Any]:
    """One line of the report."""
    verdicts = Counter(outcome.verdict for outcome in outcomes)
    counts = {verdict: verdicts[verdict] for verdict in ("old", "new", "mixed", "unbootable")}
    lost = sum(outcome.lost for outcome in outcomes)
    return {"scenario": name, "fs": fs, "cuts": len(outcomes), **counts, "lost_preferences": lost, "seconds": round(seconds, 1)}


def _show(row: dict[str, Any], outcomes: list[runner.Outcome], options: argparse.Namespace, console: Console) -> None:
    if options.json:
        print(json.dumps(row), flush=True)
    else:
        console.print(", ".join(f"{name} {row[name]}" for name in _COLUMNS), highlight=False, soft_wrap=True)
    for outcome in [o for o in outcomes if not o.good][:5]:
        again = replay_command(outcome.case, options.broken, options.like)
        print(f"again: {again}  ({outcome.verdict})", file=sys.stderr, flush=True)


def replay_command(case: runner.Case, broken: bool = False, like: str | None = None) -> str:
    """The one command that does a case again."""
    inner = f"--replay {shlex.quote(case.replay())}{' --broken' if broken else ''}{f' --like {like}' if like else ''}"
    return f'make torture ARGS="{inner}"'


def _bar(as_json: bool) -> Progress:
    console = Console(stderr=True) if as_json else Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _table(rows: list[dict[str, Any]]) -> None:
    table = Table(*_COLUMNS)
    for row in rows:
        table.add_row(*(str(row[name]) for name in _COLUMNS))
    Console().print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make torture", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line and scenario")
    parser.add_argument("--scenario", action="append", choices=[s.name for s in SCENARIOS], help="only this one (again for more)")
    parser.add_argument("--fs", action="append", choices=("lfs", "fat"), help="only this file system")
    parser.add_argument("--sample", type=int, help="about so many cuts a scenario, evenly spread, and no double cuts")
    parser.add_argument("--doubles", type=int, help="two cuts behind every so many first ones (80; FAT: 240); 0 for none")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--like", choices=list(PORTS), help="whose habits the board has, in every scenario")
    parser.add_argument("--broken", action="store_true", help="commit before the stage is complete: this must fail")
    parser.add_argument("--replay", metavar="CASE", help="do one case again, as a failure prints it")
    options = parser.parse_args()
    options.fs = options.fs or ["lfs", "fat"]
    return options


if __name__ == "__main__":
    sys.exit(main())
