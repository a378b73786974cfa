"""A fleet on this machine: `python -m bench fleet`. Boards, each real MicroPython with a flash image of its own, go through

    a good release in three steps: iotctl rollout is killed in the first one and resumed, the broker restarts in the second one,
    power fails for all boards at once in the third one; then a bad release that fails its trial on every fourth board, and halts;
    then the revert, which must leave nobody with the bad one.

And light MQTT clients (bench/clients.py), for the dashboard and a rollout's own limits: memory, messages, time to a page.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, expect

from bench.lab import ROOT, Failed
from iotctl import keys
from iotctl.fleet import Address
from iotctl.fleet import Fleet as Heard
from sim.board import Board
from tests.support.broker import Broker
from tests.support.ports import free_port
from tests.support.world import Release, World, owner

MODULES = ("serial_log", "wifi", "ota", "mqtt", "lamp")
_LAMP = b"""from iot_platform.module import Module as Base

class Module(Base):
    name = "lamp"
"""
_BROKEN = b"""
    def start(self):
        if not int(self.platform.board.unique_id()[-4:]) % 4:
            raise ValueError("this lamp does not burn")
"""
_QUERIES = ("", "text=c0&order=state", "show=online&page=3", "text=confirmed&order=version", "show=behind&order=seen", "page=199")
_PAGES = 200
_LOADS = 12


@dataclass(frozen=True)
class Plan:
    """How many of each; seconds between a board's checks; how long a step is watched; and how long anything may take."""

    boards: int = 100
    clients: int = 10_000
    check_s: int = 20
    soak: str = "10s"
    patience_s: float = 1200


@dataclass
class Ground:
    """A server, a broker and an owner, for boards of both kinds."""

    plan: Plan
    folder: Path
    log: Callable[[str], None]
    world: World = field(init=False)
    broker: Broker = field(init=False)

    def __post_init__(self) -> None:
        self.broker = Broker(self.folder / "broker")
        section = {"host": "127.0.0.1", "port": self.broker.port, "keepalive_s": 60, "timeout_s": 30}
        # this computer is slower than a hundred chips: no watchdog, and more time for a trial
        sections = {"mqtt": section, "ntp": None, "watchdog_s": 0}
        ota = {"check_interval_s": self.plan.check_s, "confirm_timeout_s": 600}
        self.world = World(self.folder / "world", ota=ota, modules=MODULES, sections=sections)
        keys.write_private(owner(), self.key, None)

    @property
    def key(self) -> Path:
        return self.folder / "owner.pem"

    def release(self, version: str, lamp: bytes = _LAMP) -> Release:
        made = self.world.release(version, {"modules/lamp/__init__.py": lamp})
        self.bundle(version).write_bytes(made.archive)
        return made

    def bundle(self, version: str) -> Path:
        return self.folder / f"{version}.tar.gz"

    def iotctl(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "iotctl", *words, "--site", str(self.world.site), "--key", str(self.key)]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@contextlib.contextmanager
def _ground(plan: Plan, log: Callable[[str], None]) -> Iterator[Ground]:
    with tempfile.TemporaryDirectory() as name:
        ground = Ground(plan, Path(name), log)
        with ground.broker, ground.world:
            yield ground


# -- boards


def boards(plan: Plan, log: Callable[[str], None]) -> dict[str, Any]:
    """The story; its figures. Failed when a board, or the rollout, does not get there."""
    began = time.monotonic()
    with _ground(plan, log) as ground, _powered(ground) as fleet, Heard(Address("127.0.0.1", ground.broker.port)) as heard:
        _wait(ground, heard, "1.0.0")
        ground.release("1.1.0")
        good = _roll(ground, ("1.1.0", "--steps", "10,50,100"), _disturbed(ground, fleet))
        if good:
            raise Failed(f"the good release's rollout ended with {good}")
        confirmed = _wait(ground, heard, "1.1.0")
        ground.release("1.2.0", _LAMP + _BROKEN)
        if _roll(ground, ("1.2.0", "--steps", "25,100"), {}) != 1:
            raise Failed("the bad release's rollout has not halted")
        state = json.loads(ground.world.site.with_name("site.rollout.json").read_text())
        with ground.iotctl("rollout", "revert", "--version", "1.2.1", "--out", str(ground.folder)) as revert:
            log(revert.communicate()[0].strip())
        _wait(ground, heard, "1.2.1")
        left = sum(board.values["version"] == "1.2.0" for board in heard.boards())
        failed = sum(each["result"] == "failed" for each in state["boards"].values())
    return {
        "boards": plan.boards,
        "confirmed": confirmed,
        "halted_at_step": state["step"] + 1 if state["state"] == "halted" else None,
        "bad_release_failed_on": failed,
        "bad_release_boards_left": left,
        "story_s": round(time.monotonic() - began),
    }


@contextlib.contextmanager
def _powered(ground: Ground) -> Iterator[list[Board]]:
    """Boards that run 1.0.0; the first one's flash is copied to the others."""
    first = ground.release("1.0.0")
    ground.world.flash(first)
    ground.world.offer(first)
    fleet = []
    for number in range(1, ground.plan.boards + 1):
        board = Board(ground.folder / f"{number}.img", like=ground.world.like, device_id=f"sim-{number:04}")
        board.restore(ground.world.board.image)
        fleet.append(board)
    ground.log(f"{len(fleet)} boards are switched on")
    try:
        for board in fleet:
            board.start()
        yield fleet
    finally:
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(Board.stop, fleet))


def _disturbed(ground: Ground, fleet: list[Board]) -> dict[str, Callable[[subprocess.Popen[str]], None]]:
    """What happens as soon as the rollout says that it is at some percent."""

    def restart_broker(_rollout: subprocess.Popen[str]) -> None:
        ground.broker.stop()
        time.sleep(3)
        ground.broker.start()
        ground.log("the broker was away for 3 s")

    def cut(_rollout: subprocess.Popen[str]) -> None:
        time.sleep(ground.plan.check_s / 2)  # then many of them are in the middle of it
        for board in fleet:
            board.power_cycle()
        ground.log("power failed for all boards")
        time.sleep(2)  # for their last wills

    def kill(rollout: subprocess.Popen[str]) -> None:
        rollout.kill()
        ground.log("iotctl rollout was killed")

    return {"10%": kill, "50%": restart_broker, "100%": cut}


def _roll(ground: Ground, words: tuple[str, ...], events: dict[str, Callable[[subprocess.Popen[str]], None]]) -> int:
    """`iotctl rollout start`, and `resume` after it was killed; its exit code. `events` happen once each."""
    version, *rest = words
    broker = ["--broker", f"127.0.0.1:{ground.broker.port}"]
    options = ["rollout", "start", str(ground.bundle(version)), *broker, *rest, "--soak", ground.plan.soak]
    waiting = dict(events)
    while True:
        with ground.iotctl(*options) as rollout:
            assert rollout.stdout
            for line in rollout.stdout:
                ground.log(line.strip())
                found = re.search(r"running, (\d+%)", line)
                if found and found[1] in waiting:
                    waiting.pop(found[1])(rollout)
        if rollout.returncode >= 0:
            return rollout.returncode
        options = ["rollout", "resume", *broker]


def _wait(ground: Ground, heard: Heard, version: str) -> int:
    """Until all boards run a version and are online; how many do."""
    deadline = time.monotonic() + ground.plan.patience_s
    while True:
        there = [board for board in heard.boards() if board.online and board.values["version"] == version]
        if len(there) == ground.plan.boards:
            ground.log(f"all {len(there)} boards run {version}")
            return len(there)
        if time.monotonic() > deadline:
            raise Failed(f"{len(there)} of {ground.plan.boards} boards run {version} after {ground.plan.patience_s:.0f} s")
        time.sleep(0.5)


# -- light clients


def clients(plan: Plan, chromium: Browser, log: Callable[[str], None]) -> dict[str, Any]:
    """The dashboard over many light clients, idle and while it drives a rollout to all of them; its figures."""
    with _ground(plan, log) as ground:
        ground.world.offer(ground.release("1.0.0"))
        ground.release("1.1.0")
        with _clients(ground) as crowd, _Dashboard(ground) as dashboard:
            dashboard.until(lambda page: page["counts"].get("online") == plan.clients, "all clients are on its page")
            api, loads = dashboard.pages(_PAGES), dashboard.loads(chromium, _LOADS)
            sent, (cpu, broker_cpu) = crowd.a_second(), _cpu(dashboard.pid, ground.broker.pid)
            log(f"pages of {plan.clients} boards: {api} ms, in a browser {loads} ms; {sent} messages a second")
            began = time.monotonic()
            dashboard.roll(ground.bundle("1.1.0").read_bytes())
            busy = dashboard.until(lambda page: page["rollout"] and page["rollout"]["state"] == "done", "the rollout is done")
            took = time.monotonic() - began
            log(f"the rollout took {took:.0f} s; pages meanwhile: {_p95(busy)} ms")
            return {
                "clients": plan.clients,
                "page_p95_ms": api,
                "browser_page_p95_ms": loads,
                "messages_per_s": sent,
                "dashboard_cpu_percent": cpu,
                "rollout_s": round(took),
                "rollout_page_p95_ms": _p95(busy),
                "dashboard_mb": _peak_mb(dashboard.pid),
                "broker_cpu_percent": broker_cpu,
                "broker_mb": _peak_mb(ground.broker.pid),
            }


class _Crowd:
    """The program with the clients, and what it says of them."""

    def __init__(self, ground: Ground) -> None:
        where = [str(ground.broker.port), str(ground.world.site)]
        command = [sys.executable, "-m", "bench.clients", *where, str(ground.plan.clients)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def read(self) -> dict[str, int]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise Failed("the clients' program has ended")
        found: dict[str, int] = json.loads(line)
        return found

    def a_second(self) -> int:
        """Messages that they send, in ordinary times: those of the last whole ten seconds."""
        self.read()
        return self.read()["sent"] // 10

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def _clients(ground: Ground) -> Iterator[_Crowd]:
    crowd = _Crowd(ground)
    try:
        while crowd.read()["connected"] < ground.plan.clients:
            pass
        ground.log(f"{ground.plan.clients} clients are connected")
        yield crowd
    finally:
        crowd.close()


class _Dashboard:
    """iotctl dashboard as a program, and somebody who has signed in."""

    def __init__(self, ground: Ground) -> None:
        self._ground, self._port = ground, free_port()
        self._process = ground.iotctl("dashboard", "--broker", f"127.0.0.1:{ground.broker.port}", "--port", str(self._port))
        assert self._process.stdout
        found = re.search(r"password: (\S+)", self._process.stdout.readline())
        if not found:
            raise Failed("the dashboard has not started")
        self._password, self._headers = found[1], {"Origin": f"http://127.0.0.1:{self._port}", "Content-Type": "application/json"}
        answer, cookie = self._ask("POST", "login", {"password": self._password})
        self._headers.update({"Cookie": cookie.partition(";")[0], "X-CSRF": answer["csrf"]})

    def __enter__(self) -> _Dashboard:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.terminate()
        self._process.wait(30)

    def until(self, holds: Callable[[dict[str, Any]], Any], what: str) -> list[float]:
        """Ask for pages until one is so; how many milliseconds each took."""
        took: list[float] = []
        deadline = time.monotonic() + self._ground.plan.patience_s
        while True:
            began = time.monotonic()
            page, _cookie = self._ask("GET", f"boards?{_QUERIES[len(took) % len(_QUERIES)]}")
            took.append(1000 * (time.monotonic() - began))
            if holds(page):
                self._ground.log(what)
                return took
            if time.monotonic() > deadline:
                raise Failed(f"not so after {self._ground.plan.patience_s:.0f} s: {what}; {page['counts']} {page['rollout']}")
            time.sleep(0.2)

    def pages(self, number: int) -> int:
        took = []
        for n in range(number):
            began = time.monotonic()
            self._ask("GET", f"boards?{_QUERIES[n % len(_QUERIES)]}")
            took.append(1000 * (time.monotonic() - began))
        return _p95(took)

    def loads(self, chromium: Browser, number: int) -> int:
        """From the address to fifty rows on the screen, in a browser that has signed in."""
        page = chromium.new_page()
        page.goto(f"http://127.0.0.1:{self._port}/")
        page.fill("#password", self._password)
        page.press("#password", "Enter")
        took = []
        for _ in range(number):
            began = time.monotonic()
            page.goto(f"http://127.0.0.1:{self._port}/")
            expect(page.locator("#rows tr").last).to_be_visible(timeout=60_000)
            took.append(1000 * (time.monotonic() - began))
        page.close()
        return _p95(took)

    def roll(self, data: bytes) -> None:
        headers = {**self._headers, "Content-Type": "application/octet-stream"}
        answer, _cookie = self._request("POST", "bundle", data, headers)
        plan = {"how": "rollout", "channel": "stable", "steps": "1,10,50,100", "soak": self._ground.plan.soak}
        self._ask("POST", "publish", {"id": answer["id"], **plan})

    @property
    def pid(self) -> int:
        return self._process.pid

    def _ask(self, method: str, path: str, body: object = None) -> tuple[Any, str]:
        return self._request(method, path, b"" if body is None else json.dumps(body).encode(), self._headers)

    def _request(self, method: str, path: str, data: bytes, headers: dict[str, str]) -> tuple[Any, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request(method, f"/api/{path}", data, headers)
            answer = connection.getresponse()
            content = json.loads(answer.read())
            if answer.status != 200:
                raise Failed(f"{path}: {answer.status} {content}")
            return content, answer.getheader("Set-Cookie", "")
        finally:
            connection.close()


def _cpu(*pids: int, seconds: float = 10) -> list[float]:
    """Percent of a core that programs take."""
    before = [_ticks(pid) for pid in pids]
    time.sleep(seconds)
    return [
        round(100 * (_ticks(pid) - ticks) / os.sysconf("SC_CLK_TCK") / seconds, 1)
        for pid, ticks in zip(pids, before, strict=True)
    ]


def _ticks(pid: int) -> int:
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))


def _peak_mb(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) // 1024 if found else 0


def _p95(took: list[float]) -> int:
    return round(sorted(took)[int(0.95 * (len(took) - 1))])
