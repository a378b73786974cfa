"""The live table of all boards on a broker, and of those that there should be."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from iotctl import terminal
from iotctl.dashboard import view
from iotctl.fleet import Address, Board, Fleet
from iotctl.offers import Site
from iotctl.register import Register

_EVERY_S = 0.5


@dataclass
class Known:
    """What the owner knows beside what boards say: those that there should be, and what the site offers."""

    register: Register = field(default_factory=dict)
    site: Site = field(default_factory=lambda: Site(None))

    def rows(self, boards: list[Board]) -> dict[str, view.Row]:
        """How every board stands, by name; those of the register that were never heard as well."""
        self.site.look()
        found = {name: view.missing(entry) for name, entry in self.register.items()}
        for board in boards:
            offer = self.site.offer(board.name.partition("/")[0], board.values.get("ota/channel", "stable"))
            found[board.name] = view.make_row(board, offer, None, time.time(), self.register.get(board.name))
        return dict(sorted(found.items()))


def snapshot(address: Address) -> list[Board]:
    """What the broker knows now."""
    with Fleet(address) as fleet:
        fleet.settle()
        return fleet.boards()


def as_json(boards: list[Board], known: Known) -> list[dict[str, Any]]:
    """What boards say, and how each stands."""
    summaries = {board.name: board.summary() for board in boards}
    return [
        {
            **summaries.get(name, {"device": name, "online": False}),
            **{key: row.value[key] for key in ("label", "group", "tags", "state", "note")},
            "behind": row.behind or None,
        }
        for name, row in known.rows(boards).items()
    ]


def watch(address: Address, console: Console, known: Known) -> None:
    """Show the table until Ctrl-C."""
    with Fleet(address) as fleet, Live(table([], address, known), console=console, refresh_per_second=4) as live:
        while True:
            live.update(table(fleet.boards(), address, known))
            time.sleep(_EVERY_S)


def table(boards: list[Board], address: Address, known: Known) -> Table:
    columns = ["board", "version", "status", "progress", "signal", "free memory", "last seen"]
    more = ["name", "group", "stands"] if known.register else ["stands"]
    rows, said = known.rows(boards), {board.name: board for board in boards}
    cells = []
    for name, row in rows.items():
        board = said.get(name)
        own = _row(board) if board else (name, *["-"] * (len(columns) - 1))
        cells.append(((*own, *_stands(row)[-len(more) :]), "" if row.online else "dim"))
    absent = len(rows) - len(boards)
    title = f"{len(boards)} board{'s' if len(boards) != 1 else ''} at {address}" + (f", {absent} missing" if absent else "")
    made = terminal.table(title, [*columns, *more], cells)
    made.columns[0].no_wrap = True
    return made


def _stands(row: view.Row) -> tuple[str, str, str]:
    """Its name and group, and how it stands."""
    words = row.state if row.state == "ok" or not row.note else f"{row.state}: {row.note}"
    return row.value["label"] or "-", row.group or "-", f"{words} ({row.behind})" if row.behind else words


def _row(board: Board) -> tuple[str, ...]:
    values = board.summary()
    status = values["status"] or "-"
    if values["available"] and values["available"] != values["version"] and board.online:
        status += f" ({values['available']})"
    return (
        values["device"],
        values["version"] or "-",
        status if board.online else "offline",
        "-" if values["progress"] is None else f"{values['progress']}%",
        "-" if not values["signal"] else f"{values['signal']} dBm",
        "-" if values["freeram"] is None else f"{values['freeram']} B",
        _ago(board),
    )


def _ago(board: Board) -> str:
    if board.seen is None:
        return "-"
    seconds = int((datetime.now(UTC) - board.seen).total_seconds())
    return f"{seconds} s ago" if seconds < 120 else f"{seconds // 60} min ago"
