"""`make torture`: every scenario, every flash operation, three ways to cut, and two cuts. Exit code 1 when a board was lost."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.powercut import fat, runner
from tests.powercut.scenario import SCENARIOS

_COLUMNS = ("scenario", "fs", "cuts", "old", "new", "mixed", "unbootable", "lost_preferences", "seconds")
_LARGE = 60  # cuts of the scenarios with hundreds of files, evenly spread: each takes seconds
_SLOWEST = "300 files"


def main() -> int:
    options = _options()
    if options.replay:
        outcome = runner.replay(options.replay)
        print(outcome.verdict, "preferences lost" if outcome.lost else "", outcome.detail, sep="\n")
        return 0 if outcome.verdict in ("old", "new") and not outcome.lost else 1
    rows, failed = [], 0
    for fs in options.fs:
        for scenario in SCENARIOS:
            if options.scenario and scenario.name not in options.scenario:
                continue
            sample = min(options.sample or _LARGE, _LARGE) if scenario.name.startswith(_SLOWEST) else options.sample
            doubles = 0 if options.sample else 0 if scenario.name.startswith(_SLOWEST) else options.doubles
            outcomes, seconds = runner.run(
                scenario, fs, sample=sample, doubles=doubles, workers=options.workers, broken=options.broken
            )
            row = summary(scenario.name, fs, outcomes, seconds)
            rows.append(row)
            _show(row, outcomes, options.json)
            failed += fs == "lfs" and _lost(row) > 0
    if "fat" in options.fs and not options.scenario:
        rows.append(fat.alone())
        _show(rows[-1], [], options.json)
    if not options.json:
        _table(rows)
    return 1 if failed else 0


def summary(name: str, fs: str, outcomes: list[runner.Outcome], seconds: float) -> dict[str, Any]:
    """One line of the report."""
    verdicts = Counter(outcome.verdict for outcome in outcomes)
    counts = {verdict: verdicts[verdict] for verdict in ("old", "new", "mixed", "unbootable")}
    lost = sum(outcome.lost for outcome in outcomes)
    return {"scenario": name, "fs": fs, "cuts": len(outcomes), **counts, "lost_preferences": lost, "seconds": round(seconds, 1)}


def _lost(row: dict[str, Any]) -> int:
    return int(row["mixed"] + row["unbootable"] + row["lost_preferences"])


def _show(row: dict[str, Any], outcomes: list[runner.Outcome], as_json: bool) -> None:
    if as_json:
        print(json.dumps(row), flush=True)
    else:
        print(", ".join(f"{name} {row[name]}" for name in _COLUMNS), flush=True)
    for outcome in [o for o in outcomes if o.verdict not in ("old", "new") or o.lost][:5]:
        print(f'again: make torture ARGS="--replay \'{outcome.case.replay()}\'"  ({outcome.verdict})', file=sys.stderr)


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
    parser.add_argument("--doubles", type=int, default=12, help="two cuts behind every n-th first one")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--broken", action="store_true", help="commit before the stage is complete: this must fail")
    parser.add_argument("--replay", metavar="CASE", help="do one case again, as a failure prints it")
    options = parser.parse_args()
    options.fs = options.fs or ["lfs", "fat"]
    return options


if __name__ == "__main__":
    sys.exit(main())
