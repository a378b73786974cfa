"""The live table of all boards on a broker."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from rich.console import Console
from rich.live import Live
from rich.table import Table

from iotctl import terminal
from iotctl.fleet import Address, Board, Fleet

_EVERY_S = 0.5


def snapshot(address: Address) -> list[Board]:
    """What the broker knows now."""
    with Fleet(address) as fleet:
        fleet.settle()
        return fleet.boards()


def watch(address: Address, console: Console) -> None:
    """Show the table until Ctrl-C."""
    with Fleet(address) as fleet, Live(table([], address), console=console, refresh_per_second=4) as live:
        while True:
            live.update(table(fleet.boards(), address))
            time.sleep(_EVERY_S)


def table(boards: list[Board], address: Address) -> Table:
    columns = ("board", "version", "status", "progress", "signal", "free memory", "last seen", "last error", "waits for")
    rows = ((_row(board), "" if board.online else "dim") for board in boards)
    made = terminal.table(f"{len(boards)} boards at {address}", columns, rows)
    made.columns[0].no_wrap = True
    return made


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
        values["error"] or "-",
        values["waiting"] or "-",
    )


def _ago(board: Board) -> str:
    if board.seen is None:
        return "-"
    seconds = int((datetime.now(UTC) - board.seen).total_seconds())
    return f"{seconds} s ago" if seconds < 120 else f"{seconds // 60} min ago"
