"""What the dashboard knows at this moment: the boards at the broker, what they were asked for, what has happened since it began.

A broker's messages come on a thread of their own; all else here is called from the server's loop.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iotctl.dashboard import advice, view
from iotctl.dashboard.rollouts import Driver
from iotctl.errors import IotctlError
from iotctl.fleet import Address, Fleet
from iotctl.keys import PrivateKey
from iotctl.offers import Site
from iotctl.register import Register

COMMANDS = {  # what can be asked of a board: the command's path, and its payload
    "update": ("ota/update", ""),
    "force": ("ota/update", "force"),
    "check": ("ota/check", ""),
    "rollback": ("ota/rollback", ""),
    "group": ("group", ""),  # whose name is the payload
}
_ANSWER_S = 30  # an order that no board has begun by then is not heard
_RESULT_S = 900
_HISTORY = 30  # lines for each board
_MOST_LINE = 400
_RECENT_S = 600
_SHOWN_S = 600  # how long an order's result is shown
_TOLD = ("online", "version", "ota/status", "ota/error", "ota/channel", "restart/waiting_for", "safe_mode")
_AT_ONCE = 50  # boards that are asked in a second
_LOOK_S = 1.0  # how often the site is looked at
_LOG_S = 300  # for which a board tells its log; see docs/mqtt.md
_LINES = 200  # of a board's log that are kept
_LOGS = 50  # boards that are listened to at once


@dataclass
class Order:
    """What a board was asked for. `state`: queued, asked, started, done or failed."""

    what: str
    at: float
    state: str = "queued"
    text: str = ""

    def look(self, now: float) -> None:
        """It is not waited for for ever."""
        limit = {"asked": _ANSWER_S, "started": _RESULT_S}.get(self.state)
        if limit and now - self.at > limit:
            self.state, self.text = "failed", f"no answer within {limit} s"

    def as_json(self) -> dict[str, str]:
        return {"what": self.what, "state": self.state, "text": self.text}


@dataclass
class Log:
    """What a board's log says, while it is asked for: `next` is the number of the line after the last one."""

    asked: float = 0.0
    next: int = 0
    problem: str = ""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LINES))

    def take(self, text: str) -> None:
        number, _space, line = text.partition(" ")
        if not number.isdigit() or len(number) > 9:
            return
        missed = int(number) - self.next
        if missed > 0 and self.next:
            self.lines.append(f"({missed} lines are missing)")
        self.next = int(number) + 1
        self.lines.append(line[:_MOST_LINE])


@dataclass
class Past:
    """What a board has said since the dashboard began: what was new in it, and when it left."""

    lines: deque[tuple[float, str, str]] = field(default_factory=lambda: deque(maxlen=_HISTORY))
    said: dict[str, str] = field(default_factory=dict)
    left: list[float] = field(default_factory=list)

    def note(self, key: str, text: str) -> None:
        self.lines.append((round(time.time(), 1), key, text))

    def hear(self, key: str, text: str) -> None:
        """A value; a board tells all of them again after each connection."""
        if self.said.get(key) != text and (key in self.said or len(self.said) < _HISTORY):
            self.said[key] = text
            self.note(key, text)
            if key == "online" and text != "true":
                self.left = [*self.left[1 - _HISTORY :], time.time()]


class Live:
    """The fleet, the site and the rollout, as one. `register`: the boards that there should be."""

    def __init__(self, address: Address, site: Path, key: PrivateKey | None, register: Register) -> None:
        self._register = register
        self._site = Site(site)
        self.fleet = Fleet(address, self._heard)
        self.index = view.Index()
        self.driver = Driver(site, key, self.fleet.boards, lambda: self.fleet.connected)
        self._orders: dict[str, Order] = {}
        self._past: dict[str, Past] = {}
        self._logs: dict[str, Log] = {}
        self._lines = 0  # of all logs, so far
        self._again: set[str] = set(register)  # boards whose rows change with time alone; and who has said nothing yet
        self._looked = 0.0
        self._sending: set[asyncio.Task[None]] = set()

    # -- what there is

    def refresh(self) -> object:
        """Take in what has come; returns something that changes when anything has."""
        now = time.time()
        names = self.fleet.changed() | self._again
        if now - self._looked > _LOOK_S:
            self._looked, self._again = now, set()
            if self._site.look():
                names |= set(self.index.rows)
        for name in names:
            self._put(name, now)
        self.driver.shown()
        return self.index.changes, self.driver.changes, self.fleet.connected, self._lines

    def page(self, query: view.Query) -> dict[str, Any]:
        found = {"broker": str(self.fleet.address), "connected": self.fleet.connected, "rollout": self.driver.shown()}
        return {**self.index.page(query), **found}

    def board(self, name: str) -> dict[str, Any]:
        """All of one board; IotctlError when there is none."""
        board, row = self.fleet.get(name), self.index.rows.get(name)
        if row is None:
            raise IotctlError(f"there is no board {name}")
        values = dict(board.values) if board else {}
        log, past = self._logs.get(name), self._past.get(name)
        return {
            **row.value,
            "values": dict(sorted(values.items())),
            "troubles": [trouble.as_json() for trouble in advice.troubles(values, self._gone(name, time.time()))],
            "history": list(past.lines) if past else [],
            "log": {"lines": list(log.lines), "problem": log.problem} if log else None,
            "allowed": self._site.commands(name.partition("/")[0], row.version),
        }

    def _put(self, name: str, now: float) -> None:
        board, entry = self.fleet.get(name), self._register.get(name)
        if board is None:
            if not entry:
                self.index.drop(name)
            elif name not in self.index.rows or self.index.rows[name].state != "missing":
                self.index.put(view.missing(entry))
            return
        order = self._orders.get(name)
        if order:
            order.look(now)
            if order.state in ("queued", "asked", "started") or now - order.at < _SHOWN_S:
                self._again.add(name)
            else:
                del self._orders[name]
                order = None
        offer = self._site.offer(name.partition("/")[0], board.values.get("ota/channel", "stable"))
        row = view.make_row(board, offer, order.as_json() if order else None, now, entry, self._gone(name, now))
        if row.state == "updating" and not row.online:
            self._again.add(name)
        self.index.put(row)

    # -- what boards are asked for

    def ask(self, names: Sequence[str], what: str, text: str = "") -> int:
        """Ask boards for one of COMMANDS; returns how many are asked. What becomes of it is in their rows.

        :param text: the name of the group that they are put into; "" for none.
        """
        now, asked = time.time(), []
        for name in names:
            board = self.fleet.get(name)
            if board is None and name not in self._register:
                raise IotctlError(f"there is no board {name}")
            order = self._orders[name] = Order(what, now)
            self._again.add(name)
            self._past_of(name).note("asked", what)
            if board and board.online:
                asked.append(name)
            else:
                order.state, order.text = "failed", "it is not online"
        task = asyncio.create_task(self._send(asked, what, text))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        return len(asked)

    async def _send(self, names: list[str], what: str, text: str) -> None:
        path, payload = COMMANDS[what]
        for n, name in enumerate(names):
            if n and n % _AT_ONCE == 0:
                await asyncio.sleep(1)
            self._orders[name] = Order(what, time.time(), "asked")
            self.fleet.send(name, path, text or payload)

    def listen(self, name: str) -> None:
        """Have a board tell its log for some minutes, from where it was. What is told is in board()."""
        if self.fleet.get(name) is None:
            raise IotctlError(f"there is no board {name}")
        log = self._logs.pop(name, None) or Log()
        self._logs[name] = log
        for oldest in list(self._logs)[:-_LOGS]:
            del self._logs[oldest]
        log.asked, log.problem = time.monotonic(), ""
        self._ask_log(name, log)

    def _ask_log(self, name: str, log: Log) -> None:
        self.fleet.send(name, "log", str(log.next))

    def _heard_log(self, name: str, log: Log, kind: str, key: str, text: str) -> None:
        """A line; why there is none; or the board has restarted, and counts from 0."""
        if kind == "log":
            log.take(text)
        elif (kind, key) == ("reply", "log"):
            state, why = _reply(text)
            log.problem = why if state == "failed" else ""
        elif (kind, key) == ("status", "online"):
            log.next = 0
            if text == "true" and time.monotonic() - log.asked < _LOG_S:
                self._ask_log(name, log)
        self._lines += 1

    def _heard(self, name: str, kind: str, key: str, text: str) -> None:
        """On the broker's thread."""
        log = self._logs.get(name)
        if log:
            self._heard_log(name, log, kind, key, text)
        if kind == "status" and (key in _TOLD or key.startswith("module/")):
            self._past_of(name).hear(key, text[:200])
        elif kind == "reply":
            order = self._orders.get(name)
            if order and key == COMMANDS[order.what][0]:
                take(order, text)
                self._past_of(name).note("replied", order.text or order.state)

    def _gone(self, name: str, now: float) -> int:
        """How often a board has left in the last ten minutes."""
        past = self._past.get(name)
        return sum(now - at < _RECENT_S for at in past.left) if past else 0

    def _past_of(self, name: str) -> Past:
        return self._past.setdefault(name, Past())


def take(order: Order, text: str) -> None:
    """What a board has replied to it."""
    order.state, said = _reply(text)
    if order.state != "started":
        order.text = said


def _reply(text: str) -> tuple[str, str]:
    """What a board has replied: "started", "done" or "failed", and in its words how it stands now, or why it failed."""
    try:
        reply = json.loads(text)
        state, ok = str(reply.get("state", "")), reply.get("ok") is True
    except (ValueError, AttributeError, RecursionError):
        state, ok, reply = "", False, {"error": "bad_reply"}
    if ok:
        return ("started" if state == "started" else "done"), state
    return "failed", f"{reply.get('error')}: {reply.get('message', 'no reason given')}"[:200]
