"""Every board on an MQTT broker: what they say of themselves, and commands whose results are waited for.

    with Fleet(Address("broker.local")) as fleet:
        fleet.settle()
        for board in fleet.boards(): ...
        results = fleet.ask(["door/24a1", "gate"], "ota/update", timeout=900)

The topics are in docs/mqtt.md.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import paho.mqtt.client as paho

from iotctl.errors import IotctlError

_CONNECT_S = 10
_QUIET_S = 1.0  # all retained messages have come when there was none for so long
_SETTLE_S = 10
_MOST_KEYS = 300  # values of a board that are kept, and characters of each
_MOST_TEXT = 4096


@dataclass(frozen=True)
class Address:
    """Where the broker is, and how to get in. `ca`: a file with the certificate that must have signed the broker's."""

    host: str = "127.0.0.1"
    port: int = 0
    user: str | None = None
    password: str | None = None
    tls: bool = False
    ca: Path | None = None

    @property
    def real_port(self) -> int:
        return self.port or (8883 if self.tls or self.ca else 1883)

    def __str__(self) -> str:
        return f"{self.host}:{self.real_port}"


@dataclass
class Board:
    """A board's values by their key below ``status/``, as text, and when the last one came."""

    name: str  # shortName/id
    values: dict[str, str] = field(default_factory=dict)
    seen: datetime | None = None  # None: only retained values so far
    percent: int | None = None  # how far all of an update has come

    @property
    def online(self) -> bool:
        return self.values.get("online") == "true"

    @property
    def group(self) -> str:
        return self.values.get("group", "")

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(self.values.get("tags", "").replace(",", " ").split())

    def summary(self) -> dict[str, Any]:
        """What the table shows."""
        number = self.values.get
        return {
            "device": self.name,
            "online": self.online,
            "version": number("version"),
            "status": number("ota/status"),
            "progress": self.percent,
            "available": number("ota/available"),
            "signal": _number(number("rssi")),
            "freeram": _number(number("freeram")),
            "freedisk": _number(number("freedisk")),
            "seen": self.seen.isoformat(timespec="seconds") if self.seen else None,
            "error": number("ota/error"),
            "waiting": number("restart/waiting_for") or number("ota/waiting"),
        }


Heard = Callable[[str, str, str, str], None]


class Fleet:
    """A connection to the broker that keeps what the boards say.

    :param heard: called with board, "status", "reply" or "log", key and text of what is news, on the connection's own thread.
    """

    def __init__(self, address: Address, heard: Heard = lambda *_news: None) -> None:
        self.address = address
        self._heard = heard
        self._changed: set[str] = set()
        self._boards: dict[str, Board] = {}
        self._replies: dict[str, dict[str, Any]] = {}  # the last one, by topic
        self._kept: set[str] = set()  # what the broker has told of what it keeps
        self._news = threading.Condition()
        self._last = time.monotonic()
        self._connected = threading.Event()
        self._refused: str | None = None
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_arguments: self._connected.set()
        self._client.on_message = self._on_message
        if address.user:
            self._client.username_pw_set(address.user, address.password)
        if address.tls or address.ca:
            self._client.tls_set(str(address.ca) if address.ca else None)

    def __enter__(self) -> Fleet:
        try:
            self._client.connect(self.address.host, self.address.real_port, keepalive=30)
        except (OSError, ValueError) as error:
            raise IotctlError(f"no connection to the broker {self.address}: {error}") from error
        self._client.loop_start()
        if not self._connected.wait(_CONNECT_S) or self._refused:
            self._client.loop_stop()
            raise IotctlError(f"no connection to the broker {self.address}: {self._refused or 'it does not answer'}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def settle(self) -> None:
        """Wait until the broker has told what it has kept."""
        deadline = time.monotonic() + _SETTLE_S
        while time.monotonic() < deadline:
            left = self._last + _QUIET_S - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.1))

    def boards(self) -> list[Board]:
        """Those that speak as boards of this platform do, by name."""
        with self._news:
            return sorted(filter(_speaks, self._boards.values()), key=lambda board: board.name)

    def changed(self) -> set[str]:
        """The names of the boards that have said something since this was asked last."""
        with self._news:
            found, self._changed = self._changed, set()
            return found

    def get(self, name: str) -> Board | None:
        """The board of that name, if it speaks as boards of this platform do."""
        board = self._boards.get(name)
        return board if board and _speaks(board) else None

    @property
    def connected(self) -> bool:
        return bool(self._client.is_connected())

    def send(self, name: str, path: str, payload: str = "") -> paho.MQTTMessageInfo:
        """Send a board a command; who is heard then is told to `heard`."""
        return self._client.publish(f"{name}/command/{path}", payload, qos=1)

    def find(self, device: str) -> Board:
        """The board of a name (``door/24a1``) or of a device id alone; IotctlError when there is not exactly one."""
        exact = self.get(device)
        if exact:
            return exact
        names = [board for board in self.boards() if device in (board.name, board.name.partition("/")[2])]
        if len(names) != 1:
            known = ", ".join(board.name for board in self.boards()) or "none"
            raise IotctlError(f"{'no' if not names else 'more than one'} board {device} at {self.address}; there are: {known}")
        return names[0]

    def ask(
        self, devices: Sequence[str], path: str, payload: str = "", timeout: float = 900, told: Callable[[str], None] = print
    ) -> dict[str, dict[str, Any]]:
        """Send boards a command and wait for the final result of each, over a restart if need be.

        :param told: called with what happens meanwhile.
        :return: the reply of each board by its name: ``ok``, and ``state``, ``version`` or ``error``, ``message``. The error is
            ``offline`` for one that is away, ``timeout`` for one that has not answered.
        """
        asked = {board.name: board for board in map(self.find, devices)}
        with self._news:
            self._replies.clear()
        results = {name: _failed("offline", "it is not online") for name, board in asked.items() if not board.online}
        for name in asked.keys() - results.keys():
            self.send(name, path, payload).wait_for_publish(_CONNECT_S)
        deadline, doing = time.monotonic() + timeout, dict.fromkeys(asked, "")
        with self._news:
            while True:
                for name in asked.keys() - results.keys():
                    self._look(asked[name], f"{name}/reply/{path}", results, doing, told)
                left = deadline - time.monotonic()
                if len(results) == len(asked) or left <= 0:
                    break
                self._news.wait(min(left, 1))
        late = f"no answer within {timeout:.0f} s; its last word: "
        return {name: results.get(name) or _failed("timeout", late + _doing(board)) for name, board in asked.items()}

    def _look(
        self, board: Board, topic: str, results: dict[str, dict[str, Any]], doing: dict[str, str], told: Callable[[str], None]
    ) -> None:
        """What a board has replied, and what it does meanwhile."""
        reply = self._replies.get(topic)
        if reply and reply.get("state") != "started":
            results[board.name] = reply
        elif reply and _doing(board) != doing[board.name]:
            doing[board.name] = _doing(board)
            told(f"{board.name}: {doing[board.name]}")

    def forget(self, device: str, discovery: str = "homeassistant") -> int:
        """Clear all that the broker keeps of a board that will not come back. IotctlError when it is online.

        :param discovery: Home Assistant's prefix.
        :return: how many topics.
        """
        board = self.find(device)
        if board.online:
            raise IotctlError(f"{board.name} is online: it would say it all again")
        self._last = time.monotonic()
        known_as = board.name.replace("/", "-")
        self._client.subscribe([(f"{board.name}/#", 1), (f"{discovery}/+/{known_as}/+/config", 1)])
        self.settle()
        with self._news:
            topics = [topic for topic in sorted(self._kept) if topic.startswith(f"{board.name}/") or f"/{known_as}/" in topic]
        for topic in topics:
            self._client.publish(topic, b"", qos=1, retain=True).wait_for_publish(_CONNECT_S)
        return len(topics)

    def _on_connect(self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._refused = str(reason)
            self._connected.set()
            return
        client.subscribe([("+/+/status/#", 1), ("+/+/reply/#", 1), ("+/+/update", 1), ("+/+/log", 0)])

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        name, kind, key = _split(message.topic)
        text = message.payload[:_MOST_TEXT].decode(errors="replace")
        with self._news:
            self._last = time.monotonic()
            if message.retain:
                self._kept.add(message.topic)
            if kind == "status":
                board = self._boards.setdefault(name, Board(name))
                self._changed.add(name)
                if not text:  # somebody has cleared it
                    board.values.pop(key, None)
                elif key in board.values or len(board.values) < _MOST_KEYS:
                    board.values[key] = text
                if not message.retain:
                    board.seen = datetime.now(UTC)
            elif kind == "update":
                percent = _object(text).get("update_percentage")
                self._boards.setdefault(name, Board(name)).percent = percent if isinstance(percent, int) else None
                self._changed.add(name)
            elif kind == "reply" and not message.retain:
                self._replies[message.topic] = _object(text)
            if not message.retain and kind != "update":
                self._heard(name, kind, key, text)
            self._news.notify_all()


def _speaks(board: Board) -> bool:
    return "online" in board.values and "version" in board.values


def _split(topic: str) -> tuple[str, str, str]:
    parts = topic.split("/", 3)
    return "/".join(parts[:2]), parts[2], parts[3] if len(parts) > 3 else ""


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"ok": False, "error": "bad_reply", "message": text[:200]}


def _number(text: str | None) -> int | None:
    try:
        return int(text) if text else None
    except ValueError:
        return None


def _failed(error: str, message: str) -> dict[str, Any]:
    return {"ok": False, "error": error, "message": message}


def _doing(board: Board) -> str:
    """What a board does, in a few words."""
    values = board.summary()
    if not board.online:
        return "not online (it restarts, or is away)"
    words = [str(values["status"])]
    if values["progress"] is not None and values["status"] == "downloading":  # else of one that is over
        words.append(f"{values['progress'] // 10 * 10}%")
    if values["waiting"]:
        words.append(f"waits: {values['waiting']}")
    return " ".join(words)
