"""What the dashboard shows of a fleet: rows made of what boards say, searched, filtered, counted, and a page of them.

Pure: no network, no files, no clock. A row is made anew when its board has said something, so a page of ten thousand boards costs
one walk over the rows.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from iotctl.dashboard import advice
from iotctl.errors import IotctlError
from iotctl.fleet import Board
from iotctl.offers import Offer
from iotctl.register import Entry
from modules.ota.release import fields, policy

PAGE = 50
AWAY_S = 300  # a board that restarts for an update is away for less
_MOST_TEXT = 200
_GROUPS = 200
_TAGS = 20
_VERSIONS = 7  # in the bar; the others are one more
_UPDATING = ("downloading", "installing", "rebooting", "trial")
_RANK = {"trouble": 0, "updating": 1, "waiting": 2, "behind": 3, "missing": 4, "offline": 5, "ok": 6}


@dataclass(slots=True)
class Row:
    """A board as the list shows it. `behind`: the version that its channel has for it, if that is newer."""

    name: str
    state: str  # one of _RANK
    online: bool
    version: str
    behind: str
    group: str
    note: str  # why it is as it is
    text: str  # what the search looks at
    seen: float
    value: dict[str, Any]


@dataclass(frozen=True)
class Query:
    """What somebody wants to see. `show`: a state, or "all", "online", "behind"."""

    text: str = ""
    show: str = "all"
    version: str = ""
    group: str = ""
    order: str = "name"
    page: int = 0

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Query:
        """From a request; IotctlError for what makes no sense."""
        text, show, version, group, order = (str(given.get(key, "")) for key in ("text", "show", "version", "group", "order"))
        page = str(given.get("page") or 0)
        if max(map(len, (text, version, group))) > _MOST_TEXT or not page.isdigit() or len(page) > 6:
            raise IotctlError("the search is too long")
        if show not in ("", "all", "online", *_RANK) or order not in ("", *_ORDERS):
            raise IotctlError("there is no such filter or order")
        return cls(text, show or "all", version, group, order or "name", int(page))


def make_row(
    board: Board, offer: Offer | None, order: Mapping[str, Any] | None, now: float, entry: Entry | None = None, gone: int = 0
) -> Row:
    """The row of a board, whose channel has `offer`, which was asked for `order`, and is `entry` of the register.

    :param gone: how often it has left in the last ten minutes.
    """
    values = board.summary()
    version, status = str(values["version"]), str(values["status"] or "")
    seen = board.seen.timestamp() if board.seen else 0.0
    wrong = advice.troubles(dict(board.values), gone)  # a copy: more may come on the connection's thread
    behind = _behind(board, version, offer)
    at_work = status in _UPDATING and (board.online or now - seen < AWAY_S)
    if at_work:
        state, note = "updating", values["waiting"] or ("restarts" if not board.online else status)
    elif not board.online and not (wrong and wrong[0].reason == "flapping"):
        state, note = "offline", _how_far(version, behind, offer)
    elif wrong:
        state, note = "trouble", f"{wrong[0].reason}: {wrong[0].text}".strip(": ")
    elif values["waiting"]:
        state, note = "waiting", str(values["waiting"])
    else:
        state, note = ("behind", f"{_how_far(version, behind, offer)}: has not taken it yet") if behind else ("ok", status)
    value = {
        "name": board.name,
        "state": state,
        "note": note[:_MOST_TEXT],
        "online": board.online,
        "version": version[:_MOST_TEXT],
        "next": str(values["available"] or "") if at_work else behind,
        "progress": values["progress"] if at_work else None,
        "signal": values["signal"],
        "freeram": values["freeram"],
        "freedisk": values["freedisk"],
        "seen": round(seen),
        "advice": wrong[0].advice if wrong else "",
        "order": order,
        **place(entry, board),
    }
    text = " ".join((board.name, version, status, state, note, value["label"], value["group"], *value["tags"])).lower()
    return Row(board.name, state, board.online, version, behind, value["group"], note, text, seen, value)


def missing(entry: Entry) -> Row:
    """The row of a board that there should be, and that was never heard."""
    empty = dict.fromkeys(("progress", "signal", "freeram", "freedisk", "order"))
    note = "never heard at this broker"
    texts = {"name": entry.id, "state": "missing", "note": note, "version": "", "next": "", "advice": ""}
    value = {**texts, **empty, "online": False, "seen": 0, **place(entry, None)}
    text = f"{entry.id} missing {entry.text}".lower()
    return Row(entry.id, "missing", False, "", "", entry.group, note, text, 0.0, value)


def place(entry: Entry | None, board: Board | None) -> dict[str, Any]:
    """How a board is called and sorted: by the register, and where that says nothing by the board itself."""
    group, tags = (board.group[:_MOST_TEXT], board.tags[:_TAGS]) if board else ("", ())
    name = board.values.get("name", "")[:_MOST_TEXT] if board else ""
    if entry is None:
        return {"label": name, "group": group, "tags": tags}
    return {"label": entry.name or name, "group": entry.group or group, "tags": entry.tags or tags}


def _how_far(version: str, behind: str, offer: Offer | None) -> str:
    if not behind or not offer:
        return ""
    number = _between(version, behind, tuple(offer.get("releases", ()))) or 1
    return f"{number} release{'s' if number > 1 else ''} behind"


@functools.lru_cache(256)
def _between(version: str, newest: str, releases: tuple[str, ...]) -> int:
    """How many of the releases are newer than `version`, up to `newest`."""
    return sum(fields.compare_versions(version, each) < 0 <= fields.compare_versions(newest, each) for each in releases)


def _behind(board: Board, version: str, offer: Offer | None) -> str:
    """The version that the channel has for this board, if it is newer than what it runs."""
    if not offer or not policy.rollout_allows(offer, board.name.partition("/")[2], board.group):
        return ""
    wanted = str(offer["version"])
    return wanted if not fields.is_version(version) or fields.compare_versions(wanted, version) > 0 else ""


class Index:
    """The rows of all boards."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.changes = 0  # how often anything was put in or taken out

    def put(self, row: Row) -> None:
        self.rows[row.name] = row
        self.changes += 1

    def drop(self, name: str) -> None:
        if self.rows.pop(name, None):
            self.changes += 1

    def find(self, query: Query) -> list[Row]:
        """All that the query means, in its order."""
        return _in_order(_shown(self._searched(query), query), query.order)

    def page(self, query: Query) -> dict[str, Any]:
        """One page of that, and what there is in all: JSON."""
        searched = self._searched(query)
        found = _in_order(_shown(searched, query), query.order)
        pages = max(1, -(-len(found) // PAGE))
        at = min(query.page, pages - 1) * PAGE
        counts: Counter[str] = Counter(row.state for row in searched)
        counts.update(all=len(searched), online=sum(row.online for row in searched))
        counts["behind"] = sum(bool(row.behind) for row in searched)
        groups = sorted({row.group for row in self.rows.values() if row.group})
        return {
            "total": len(self.rows),
            "found": len(found),
            "page": at // PAGE,
            "pages": pages,
            "counts": counts,
            "groups": groups[:_GROUPS],
            "versions": spread(row.version for row in searched if row.version),
            "rows": [row.value for row in found[at : at + PAGE]],
        }

    def _searched(self, query: Query) -> list[Row]:
        words = query.text.lower().split()
        group = query.group
        return [row for row in self.rows.values() if group in ("", row.group) and all(word in row.text for word in words)]


def _shown(rows: Iterable[Row], query: Query) -> list[Row]:
    wanted: Callable[[Row], bool] = {
        "all": lambda _row: True,
        "online": lambda row: row.online,
        "behind": lambda row: bool(row.behind),
    }.get(query.show, lambda row: row.state == query.show)
    return [row for row in rows if wanted(row) and query.version in ("", row.version)]


def spread(versions: Iterable[str]) -> list[tuple[str, int]]:
    """How many boards run which version, the newest first; the rarest of many are one, under the name ""."""
    counted = Counter(versions).most_common()
    some = sorted(counted[:_VERSIONS], key=lambda found: _newness(found[0]), reverse=True)
    rest = sum(number for _version, number in counted[_VERSIONS:])
    return [(version[:_MOST_TEXT], number) for version, number in some] + ([("", rest)] if rest else [])


def _compare(a: str, b: str) -> int:
    """By version; what is none is older than all, and by its text."""
    good = fields.is_version(a), fields.is_version(b)
    if all(good):
        return int(fields.compare_versions(a, b))
    return good[0] - good[1] or (a > b) - (a < b)


_newness: Callable[[str], Any] = functools.cmp_to_key(_compare)


def _in_order(rows: list[Row], order: str) -> list[Row]:
    if order != "version":
        return sorted(rows, key=_ORDERS[order])
    # few versions for many rows: comparing them for each pair takes seconds
    ranks = {version: rank for rank, version in enumerate(sorted({row.version for row in rows}, key=_newness))}
    return sorted(rows, key=lambda row: (ranks[row.version], row.name))


_ORDERS: dict[str, Callable[[Row], Any]] = {
    "name": lambda row: row.name,
    "state": lambda row: (_RANK[row.state], row.name),
    "version": lambda row: row.name,  # see _in_order
    "seen": lambda row: (-row.seen, row.name),
}
