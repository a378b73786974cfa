"""Twenty browsers at once and fifty requests a second while the board updates: what it answers, and what it has left for others.

A client here does what the page does: it logs in, asks for the event stream, and polls every two seconds where all streams are
taken. What is missing to the wanted number of requests a second they ask for as somebody does who clicks through the page. One
more browser is a real Chromium: its Update button begins the update, and its page must show the new version in the end. The
update comes over a slow link, so that download, installation, restart and trial all fall within the load.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from bench.browsers import FINE, PASSWORD, POLL_S, POLLS, TIMEOUT_S, Client, Tally
from bench.heap import story
from bench.lab import Gaps, Lab, gaps_of
from bench.link import Weather
from sim.board import BoardError

MODULES = ("serial_log", "wifi", "ota", "web", "ticker")
_PATHS = ("/", "/api/status", "/api/values", "/api/panels", "/api/session", "/api/log?after=-1", "/api/wifi", "/api/nothing")
_LAG_S = 0.5  # a console's line comes through a pipe and a thread: clients may see their connection end before it is noted
_AWAY, _BACK = r"I restarting: ", r"web: listening on port"


@dataclass(frozen=True)
class Plan:
    """How much load for how long; `bytes_per_s` is the pace at which the update comes."""

    browsers: int = 20
    requests_per_s: int = 50
    seconds: float = 60.0
    bytes_per_s: int = 2500
    heap_k: int = 128
    grace_s: float = 90.0  # for the update to end after the load


class Load:
    """Browsers that come, stay for as long as the load lasts, and go."""

    def __init__(self, port: int, plan: Plan) -> None:
        self.tally = Tally()
        self.ended = threading.Event()
        self._plan = plan
        self._clients = [Client(port, self.tally) for _ in range(plan.browsers)]
        self._pages = [threading.Thread(target=self._page, args=(client,), daemon=True) for client in self._clients]

    def begin(self) -> None:
        for client in self._clients:
            client.login()
        for page in self._pages:
            page.start()

    def run(self) -> None:
        """Ask for as much more as is missing to the wanted number a second; returns when the time is over."""
        began, asked = time.monotonic(), 0
        with ThreadPoolExecutor(self._plan.browsers) as pool:
            while (elapsed := time.monotonic() - began) < self._plan.seconds:
                waiting = pool._work_queue.qsize()
                missing = int(elapsed * self._plan.requests_per_s) - self.tally.begun - waiting
                for _ in range(min(missing, self._plan.browsers - waiting)):
                    pool.submit(self._ask, self._clients[asked % len(self._clients)], _PATHS[asked % len(_PATHS)])
                    asked += 1
                time.sleep(0.01)

    def end(self) -> None:
        self.ended.set()
        for page in self._pages:
            page.join(2 * TIMEOUT_S)

    def _page(self, client: Client) -> None:
        """What an open page does by itself."""
        while not self.ended.is_set():
            for _poll in range(POLLS if client.follow(self.ended) == "too_many" else 1):
                if self.ended.wait(POLL_S):
                    return
                client.get("/api/values")
                client.get("/api/log?after=999999")

    def _ask(self, client: Client, path: str) -> None:
        body = client.get(path)
        if body and path == "/api/status":
            self.tally.freeram.append(json.loads(body)["freeram"])


@dataclass(frozen=True)
class Figures:
    """What came of it. Errors are counted by status and word; those while the board was restarting, by themselves."""

    heap_k: int
    browsers: int
    seconds: float
    requests: int
    a_second: float
    refused_streams: int  # 503 too_many: these clients poll
    errors: dict[str, int]
    restarting: dict[str, int]
    median_ms: float
    slowest_ms: float
    streams: int
    events: int
    lowest: int | None
    gaps: list[Gaps]  # of the old version, then of the new one
    away_s: float
    failures: dict[str, int]  # jobs of the updater that failed, and were tried again
    confirmed: str  # when the new version was confirmed: "in the load", "after it", or "never"
    chromium: str  # what the real browser shows in the end
    memory_errors: int

    def lines(self) -> list[str]:
        """For a reader."""
        gaps = ", ".join(f"{gap.longest} ms (99 of 100: {gap.p99} ms; {gap.n:,} ticks)" for gap in self.gaps)
        errors = ", ".join(f"{count} {word}" for word, count in self.errors.items()) or "none"
        away = ", ".join(f"{count} {word}" for word, count in self.restarting.items()) or "none"
        failures = ", ".join(f"{count} {word}" for word, count in self.failures.items()) or "none"
        return [
            f"{self.heap_k}k of heap, {self.browsers} browsers and Chromium, {self.seconds:.0f} s",
            f"requests: {self.requests:,}, {self.a_second:.0f} a second; half within {self.median_ms:.0f} ms, "
            f"the slowest {self.slowest_ms:.0f} ms",
            f"event streams: {self.streams} at once, {self.events:,} events; refused with 503 too_many: {self.refused_streams}",
            f"errors: {errors}; while it restarted ({self.away_s:.1f} s): {away}",
            f"lowest free heap: {self.lowest} bytes; failed allocations in the log: {self.memory_errors}",
            f"longest gap between two ticks of another module, old version and new one: {gaps}",
            f"update: failed attempts {failures}; confirmed {self.confirmed}; Chromium shows {self.chromium}",
        ]


def measure(plan: Plan, chromium: Browser, log: Callable[[str], None] | None = None) -> Figures:
    """One board, one update, one load. Failed when it does not even begin."""
    sections = {"web": {"password": PASSWORD}}
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        Lab(Path(folder), modules=MODULES, heap=f"{plan.heap_k}k", sections=sections) as lab,
    ):
        if log:
            lab.board.on_line = log
        files = lab.platform()
        old, new = lab.release("1.0.0", story(files)), lab.release("1.1.0", story(files, "the board"))
        lab.settled(old, new)
        lab.link.weather = Weather(bytes_per_s=plan.bytes_per_s)
        return _under_load(lab, plan, chromium, new.version)


def _under_load(lab: Lab, plan: Plan, chromium: Browser, version: str) -> Figures:
    load = Load(int(lab.board.env["SIMULATOR_WEB_PORT"]), plan)
    context = chromium.new_context()
    try:
        page = _open(context.new_page(), lab)
        load.begin()
        since = lab.line()
        page.click("#check")
        began = time.monotonic()
        load.run()
        ended = time.monotonic()
        load.end()
        confirmed = _confirmed(lab, version, since, ended, plan.grace_s)
        shown = _shown(page, version)
        lab.board.send("reset")  # the new version's ticker says what it has counted
        with contextlib.suppress(BoardError):
            lab.board.when(_BACK, 20, lab.line())
    finally:
        context.close()
    return _figures(load.tally, lab, plan, since, (began, ended), confirmed, shown)


def _open(page: Page, lab: Lab) -> Page:
    page.goto(f"http://127.0.0.1:{lab.board.env['SIMULATOR_WEB_PORT']}/#/firmware")
    page.fill("#password", PASSWORD)
    page.press("#password", "Enter")
    expect(page.locator("#link.live")).to_be_visible(timeout=TIMEOUT_S * 1000)
    return page


def _confirmed(lab: Lab, version: str, since: int, ended: float, grace_s: float) -> str:
    try:
        _n, at, _found = lab.board.when(rf"ota: confirmed: version {re.escape(version)} stays", grace_s, since)
    except BoardError:
        return "never"
    return "in the load" if at < ended else "after it"


def _shown(page: Page, version: str) -> str:
    with contextlib.suppress(AssertionError):
        expect(page.locator("#version")).to_have_text(version, timeout=TIMEOUT_S * 1000)
    return page.locator("#version").inner_text()


def _figures(tally: Tally, lab: Lab, plan: Plan, since: int, span: tuple[float, float], confirmed: str, shown: str) -> Figures:
    story_lines = lab.board.lines[since:]
    away = _away(lab, since)
    errors: Counter[str] = Counter()
    restarting: Counter[str] = Counter()
    for sent in tally.sent:
        if sent.status not in FINE and sent.error != "too_many":
            within = away and sent.at < away[1] and sent.at + sent.took > away[0]
            (restarting if within else errors)[sent.word] += 1
    took = sorted(sent.took * 1000 for sent in tally.sent if sent.status in FINE)
    lowest = [int(found[1]) for line in story_lines if (found := re.search(r"lowest free memory of this update: (\d+)", line))]
    failures = Counter(found[1] for line in story_lines if (found := re.search(r"ota: .* failed: .* \((\w+)\)$", line)))
    return Figures(
        heap_k=plan.heap_k,
        browsers=plan.browsers,
        seconds=span[1] - span[0],
        requests=len(tally.sent),
        a_second=len(tally.sent) / (span[1] - span[0]),
        refused_streams=sum(sent.error == "too_many" for sent in tally.sent),
        errors=dict(errors),
        restarting=dict(restarting),
        median_ms=took[len(took) // 2] if took else 0,
        slowest_ms=took[-1] if took else 0,
        streams=tally.streams,
        events=tally.events,
        lowest=min(lowest + tally.freeram, default=None),
        gaps=gaps_of(story_lines),
        away_s=away[1] - away[0] - _LAG_S if away else 0,
        failures=dict(failures),
        confirmed=confirmed,
        chromium=shown,
        memory_errors=sum("MemoryError" in line or "memory allocation failed" in line for line in story_lines),
    )


def _away(lab: Lab, since: int) -> tuple[float, float] | None:
    """From the moment when the board said that it restarts, or a little before, until it listened again."""
    try:
        n, gone, _found = lab.board.when(_AWAY, 0.1, since)
        return gone - _LAG_S, lab.board.when(_BACK, 0.1, n)[1]
    except BoardError:
        return None
