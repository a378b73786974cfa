"""Browsers without a window: they ask for what the page asks for, as often, and come back as it does. All answers are counted.

A `Visitor` is one open page whose user clicks through its tabs; `Client` is what one does with single requests.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from bench.lab import Failed

PASSWORD = "open-sesame"
_GZIP = b"\x1f\x8b"
POLL_S = 2.0
POLLS = 20  # until a page tries again to get a stream
TIMEOUT_S = 15.0
FINE = (200, 202, 204, 404)
_SILENCE_S = 40.0  # of a stream: the board sends a comment every 10 s
_PAUSE_S, _LONGEST_PAUSE_S, _GROWTH = 0.5, 8.0, 1.6  # between a page's tries to get through
# What the page asks for when somebody opens it, and each of its tabs
_FILES = re.compile(rb'(?:href|src)="?([\w./-]+\.(?:css|js)[^"> ]*)')
TABS = {
    "dashboard": ("/api/panels", "/api/values"),
    "firmware": ("/api/status",),
    "console": ("/api/log?after=-1",),
    "settings": ("/api/wifi", "/api/mqtt"),
}


@dataclass(frozen=True)
class Sent:
    """One request: when, how long its answer took (seconds), the HTTP status and the error's word; 0 without an answer."""

    at: float
    took: float
    status: int
    error: str

    @property
    def word(self) -> str:
        """What came instead of an answer, for counting."""
        return f"{self.status or ''} {self.error}".strip()


@dataclass
class Tally:
    """What all clients have sent, and what the board has said about its memory."""

    sent: list[Sent] = field(default_factory=list)
    begun: int = 0
    streams: int = 0  # the most that were open at once
    open: int = 0
    events: int = 0
    freeram: list[int] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> float:
        with self._lock:
            self.begun += 1
        return time.monotonic()

    def end(self, began: float, status: int, error: str = "") -> None:
        with self._lock:
            self.sent.append(Sent(began, time.monotonic() - began, status, error))

    def stream(self, change: int) -> None:
        with self._lock:
            self.open += change
            self.streams = max(self.streams, self.open)

    def errors(self, since: float = 0.0, until: float = float("inf")) -> Counter[str]:
        """Answers that are none, by status and word, of the requests that began within a time."""
        with self._lock:
            bad = [sent for sent in self.sent if since <= sent.at < until and sent.status not in FINE]
        return Counter(sent.word for sent in bad)


class Client:
    """A browser's requests, each on a connection of its own. `port` may be of a board that is not there yet."""

    def __init__(self, port: int, tally: Tally) -> None:
        self._port = port
        self.tally = tally
        self._cookie = ""
        self._csrf = ""

    def login(self) -> None:
        """Failed when the board does not let it in."""
        status, body = self.ask("POST", "/api/login", {"password": PASSWORD})
        if status != 200:
            raise Failed(f"a login was answered by {status}: {body!r}")
        self._csrf = json.loads(body)["csrf"]

    def get(self, path: str) -> bytes | None:
        """The body, when it is what was asked for."""
        status, body = self.ask("GET", path)
        return body if status == 200 else None

    def post(self, path: str, value: dict[str, Any]) -> int:
        """The status; 0 without an answer."""
        return self.ask("POST", path, value)[0]

    def ask(self, method: str, path: str, value: dict[str, Any] | None = None) -> tuple[int, bytes]:
        """Status and body; (0, b"") without an answer."""
        began = self.tally.begin()
        try:
            with contextlib.closing(self._connection()) as connection:
                answer = self._request(connection, method, path, value)
                body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.tally.end(began, 0, type(error).__name__)
            return 0, b""
        if path.startswith("/api/") and answer.status == 200 and not _is_json(body):  # an answer ends with the connection
            self.tally.end(began, 0, f"cut off {path}")
            return 0, b""
        self.tally.end(began, answer.status, "" if answer.status in FINE else f"{_word(body)} {path}")
        return answer.status, body

    def follow(self, ended: threading.Event) -> str:
        """Read the event stream until it ends. Why there was none to be had: the error's word, or ""."""
        began = self.tally.begin()
        word = ""
        try:
            with contextlib.closing(self._connection(_SILENCE_S)) as connection:
                answer = self._request(connection, "GET", "/api/events")
                word = "" if answer.status == 200 else _word(answer.read())
                self.tally.end(began, answer.status, word)
                if answer.status == 200:
                    self._read_events(answer, ended)
        except (OSError, http.client.HTTPException) as error:
            self.tally.end(began, 0, type(error).__name__)
        return word

    def _read_events(self, answer: http.client.HTTPResponse, ended: threading.Event) -> None:
        self.tally.stream(1)
        try:
            with contextlib.suppress(OSError, http.client.HTTPException):  # the board restarts: the page connects again
                self._follow_lines(answer, ended)
        finally:
            self.tally.stream(-1)

    def _follow_lines(self, answer: http.client.HTTPResponse, ended: threading.Event) -> None:
        while not ended.is_set() and (line := answer.readline()):
            self.tally.events += line.startswith(b"event:")
            if found := re.search(rb'"freeram": ?(\d+)', line):
                self.tally.freeram.append(int(found[1]))

    def _connection(self, timeout_s: float = TIMEOUT_S) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=timeout_s)

    def _request(
        self, connection: http.client.HTTPConnection, method: str, path: str, value: dict[str, Any] | None = None
    ) -> http.client.HTTPResponse:
        headers = {"Cookie": self._cookie, "Connection": "close", "Accept-Encoding": "gzip"}
        body = None
        if value is not None:
            body = json.dumps(value).encode()
            headers |= {"Content-Type": "application/json", "X-CSRF": self._csrf}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        if cookie := (answer.getheader("Set-Cookie") or "").partition(";")[0]:
            self._cookie = cookie
        return answer


class Visitor:
    """One open page: it logs in, follows the events, and its user looks at one tab after the other.

    As the page's script does, it asks who it is after every loss, logs in where it must, polls where all streams are taken, and
    tries again a little later each time.
    """

    def __init__(self, port: int, tally: Tally, look_s: float = 3.0) -> None:
        self.client = Client(port, tally)
        self.seen: Counter[str] = Counter()  # how often each tab had all that it shows
        self.linked = threading.Event()
        self._look_s = look_s
        self._ended = threading.Event()
        self._page = threading.Thread(target=self._follow, daemon=True)
        self._user = threading.Thread(target=self._click, daemon=True)

    def __enter__(self) -> Visitor:
        self._page.start()
        self._user.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._user.join(2 * TIMEOUT_S)
        self._page.join(2 * _SILENCE_S)

    def _follow(self) -> None:
        pause = _PAUSE_S
        while not self._ended.is_set():
            if self._enter():
                pause = _PAUSE_S
                self.linked.set()
                word = self.client.follow(self._ended)
                if word == "too_many":
                    self._poll()
                self.linked.clear()
            if self._ended.wait(pause):
                return
            pause = min(pause * _GROWTH, _LONGEST_PAUSE_S)

    def _poll(self) -> None:
        """All streams are taken: ask now and then, until one may be free."""
        for _n in range(POLLS):
            there = self.client.get("/api/values") and self.client.get("/api/log?after=9999999")
            if not there or self._ended.wait(POLL_S):
                return

    def _enter(self) -> bool:
        """Load the page the first time, see who we are, log in, and load what is shown first."""
        if not self.seen and not self._load():
            return False
        body = self.client.get("/api/session")
        if body is None:
            return False
        try:
            if not json.loads(body)["authenticated"]:
                self.client.login()
        except Failed:
            return False
        return self.client.get("/api/status") is not None and self.client.get("/api/panels") is not None

    def _load(self) -> bool:
        page = self.client.get("/")
        text = gzip.decompress(page) if page and page.startswith(_GZIP) else page
        wanted = [path.decode() for path in _FILES.findall(text)] if text else []
        whole = bool(wanted) and all(self.client.get("/" + path.lstrip("/")) is not None for path in wanted)
        self.seen["page"] += whole
        return whole

    def _click(self) -> None:
        while not self._ended.is_set():
            for tab, paths in TABS.items():
                if self._ended.wait(self._look_s):
                    return
                if self.linked.is_set():
                    self.seen[tab] += all(self.client.get(path) is not None for path in paths)


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


def _word(body: bytes) -> str:
    """The reason of an answer that is an error."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError):
        return "as a page"
