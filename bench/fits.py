"""Does an update fit beside everything else? Boards with all modules, a user's own, a broker, and browsers that look at them.

`updates`: 128 KiB of heap, 2 browsers, 20 updates one after the other, asked for at the console, by the page's button and by
MQTT in turn. Nobody helps: what fails has failed. `cooperative`: 192 KiB, a module of 12 KB more, 3 browsers; the whole tree
changes each time, and the page and MQTT must stay there until the restart. `pico_all_files`: the file system of a Pico W, and
every file changes.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.browsers import PASSWORD, TABS, Client, Tally, Visitor
from bench.lab import DEVICE, NAME, Failed, Lab, Release, all_modules, pinned
from bench.link import Weather
from iotctl import mpy
from iotctl.tree import Files
from sim.board import BoardError
from tests.support.broker import Observer

PICO_FLASH = 848 * 1024
_BASE = f"{NAME}/bench-0001"
_SENSOR = "modules/sensor/__init__.py"
_OFFSET = b"_OFFSET = 0 "
_GIVEN_UP = 3  # updates in a row of which none was confirmed
_LAG_S = 1.0  # what ends with a restart may be seen to end a little before the console says so
_BACK = r"web: listening on port"
Log = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """A board and what is asked of it. `patience_s` for each update: machines are slow, and boards try again."""

    updates: int = 20
    heap_k: int = 128
    browsers: int = 2
    modules: tuple[str, ...] = (*all_modules(), "sensor")
    every_file: bool = False
    bytes_per_s: int | None = None
    patience_s: float = 300.0
    verbose: bool = False


UPDATES = Plan()
COOPERATIVE = Plan(5, 192, 3, (*all_modules(), "sensor", "ballast"), every_file=True, bytes_per_s=24 * 1024)


@dataclass
class Round:
    """One update: how it was asked for, and what came of it. `away`: from the restart until the page was there again."""

    version: str
    how: str
    confirmed: bool = False
    seconds: float = 0.0
    boots: int = 0
    update_boots: int = 0
    no_memory: list[str] = field(default_factory=list)
    offline: int = 0  # how often the broker was told that the board goes, beside its restarts
    errors: Counter[str] = field(default_factory=Counter)  # of the page, outside of restarts
    free: int | None = None
    browsers_back: bool = False
    mqtt_back: bool = False

    def __str__(self) -> str:
        state = "confirmed" if self.confirmed else "NOT confirmed"
        there = [name for name, back in (("MQTT", self.mqtt_back), ("browsers", self.browsers_back)) if not back]
        missing = f", not back: {' and '.join(there)}" if there else ""
        errors = f", errors of the page: {dict(self.errors)}" if self.errors else ""
        short = f", {len(self.no_memory)} lines with no_memory" if self.no_memory else ""
        free = f", {self.free / 1024:.1f} KiB free" if self.free else ""
        return f"{self.version} by {self.how}: {state} in {self.seconds:.1f} s, {self.boots} boots{free}{short}{missing}{errors}"


@dataclass
class House:
    """A board with its broker and its visitors."""

    lab: Lab
    seen: Observer
    tally: Tally
    visitors: list[Visitor]
    user: Client  # who presses the button

    def run(self, plan: Plan, number: int, release: Release) -> Round:
        """One update to `release`. Never raises for what the board does."""
        how = ("console", "button", "mqtt")[number % 3]
        done = Round(release.version, how)
        lives, since, messages, began = len(self.lab.board.lives), self.lab.line(), self.seen.now(), time.monotonic()
        with contextlib.suppress(BoardError, Failed):
            self._ask(how)
            self.lab.board.expect(rf"ota: confirmed: version {re.escape(release.version)} stays", plan.patience_s, since)
            done.confirmed = True
        done.seconds, ended = time.monotonic() - began, time.monotonic()
        done.boots = len(self.lab.board.lives) - lives
        done.errors = self._errors(since, began, ended)
        if plan.every_file and done.confirmed:  # with one more restart, and some 30 s: until then it takes no other update
            with contextlib.suppress(BoardError):
                self.lab.board.expect(r"ota: the recovery loader was replaced", plan.patience_s, since)
        done.browsers_back = _eventually(lambda: all(visitor.linked.is_set() for visitor in self.visitors))
        done.mqtt_back = _eventually(self.mqtt_there)
        done.free = self.free()
        said = self.lab.board.lines[since:]
        done.update_boots = sum(bool(re.search(r"update boot \d of \d: only", line)) for line in said)
        gone = sum(m.text == "false" for m in self.seen.of(f"{_BASE}/status/online", messages))
        done.offline = max(0, gone - sum(" restarting: " in line for line in said))
        done.no_memory = _no_memory(said)
        return done

    def free(self) -> int | None:
        """Bytes of free heap after a collection; None from a board that does not answer."""
        since = self.lab.line()
        self.lab.board.send("sensor")
        with contextlib.suppress(BoardError):
            return int(self.lab.board.expect(r"sensor: free (\d+)", 30, since)[1])
        return None

    def mqtt_there(self) -> bool:
        told = self.seen.of(f"{_BASE}/status/online")
        return bool(told) and told[-1].text == "true"

    def all_tabs(self) -> bool:
        """Every browser has had the page, and all that each tab shows."""
        return all(visitor.seen[tab] for visitor in self.visitors for tab in ("page", *TABS))

    def _ask(self, how: str) -> None:
        if how == "console":
            self.lab.board.send("ota check")
        elif how == "mqtt":
            self.seen.publish(f"{_BASE}/command/ota/update")
        else:
            self._press()

    def _press(self) -> None:
        """The button, as the page's script presses it: again after a 503, three times in all."""
        for _attempt in range(3):
            if not self._logged_in():
                self.user.login()
            status = self.user.post("/api/ota/update", {})
            if status == 202:
                return
            time.sleep(2)
        raise Failed(f"the button was answered by {status}")

    def _logged_in(self) -> bool:
        body = self.user.get("/api/session")
        return bool(body) and bool(json.loads(body or b"{}")["authenticated"])

    def _errors(self, since: int, began: float, ended: float) -> Counter[str]:
        """What browsers did not get, but for the time from each restart until the page was there again."""
        found: Counter[str] = Counter()
        at = began
        for gone, back in [*self._away(since), (ended, ended)]:
            found += self.tally.errors(at, gone - _LAG_S)
            at = back + _LAG_S
        return found

    def _away(self, since: int) -> Iterator[tuple[float, float]]:
        """From each restart until the page was there again."""
        gone = None
        board = self.lab.board
        for at, line in zip(board.times[since:], board.lines[since:], strict=False):
            if re.search(r" restarting: ", line):
                gone = gone or at
            elif gone and re.search(_BACK, line):
                yield gone, at
                gone = None


def _no_memory(lines: list[str]) -> list[str]:
    return [line for line in lines if "(no_memory)" in line or "MemoryError" in line]


def updates(plan: Plan, log: Log) -> dict[str, Any]:
    """Update a board again and again. What is in it: see `summary`."""
    with _house(plan, log) as house:
        rounds = []
        for number, release in enumerate(_releases(house.lab, plan)):
            house.lab.offer(release)
            house.lab.link.weather = Weather(bytes_per_s=plan.bytes_per_s)
            rounds.append(house.run(plan, number, release))
            log(str(rounds[-1]))
            if not any(done.confirmed for done in rounds[-_GIVEN_UP:]) and len(rounds) >= _GIVEN_UP:
                log(f"given up after {_GIVEN_UP} in a row")
                break
        return summary(plan, rounds, house)


def summary(plan: Plan, rounds: list[Round], house: House) -> dict[str, Any]:
    """The figures. `free_k` is the lowest at rest; `offline` counts how often MQTT was gone beside restarts."""
    free = [done.free for done in rounds if done.free is not None]
    return {
        "heap_k": plan.heap_k,
        "browsers": plan.browsers,
        "asked": plan.updates,
        "updates": sum(done.confirmed for done in rounds),
        "no_memory": len(_no_memory(house.lab.board.lines)),
        "free_k": round(min(free) / 1024, 1) if len(free) == len(rounds) else 0.0,
        "update_boots": sum(done.update_boots for done in rounds),
        "offline": sum(done.offline for done in rounds),
        "mqtt_back": sum(done.mqtt_back for done in rounds),
        "browsers_back": sum(done.browsers_back for done in rounds),
        "page_errors": dict(sum((done.errors for done in rounds), Counter())),
        "requests": len(house.tally.sent),
        "streams": house.tally.streams,
        "all_tabs": house.all_tabs(),
        "median_s": round(median(done.seconds for done in rounds), 1),
    }


def is_cooperative(found: dict[str, Any]) -> bool:
    """All confirmed without an update boot, and the page and MQTT were there all the time, but for restarts of a commit."""
    all_done = found["updates"] == found["mqtt_back"] == found["browsers_back"] == found["asked"]
    noticed = any(found[key] for key in ("update_boots", "page_errors", "no_memory", "offline"))
    return bool(all_done and found["all_tabs"] and not noticed)


def pico_all_files(log: Log) -> dict[str, Any]:
    """An update in which every file changes, on the file system of a Pico W."""
    modules = (*all_modules(), "ballast")
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        Lab(Path(folder), modules=modules, heap="192k", size=PICO_FLASH, confirm_s=120) as lab,
    ):
        releases = []
        for version in ("1.0.0", "1.1.0"):
            lab.sections["edition"] = {"of": version}  # so the profile is another one, too
            releases.append(lab.release(version, pinned(lab.platform(edition=version))))
        old, new = releases
        same = [path for path in new.files if old.files.get(path) == new.files[path]]
        lab.settled(old, new)
        found: dict[str, Any] = {"files": len(new.files), "unchanged": same, "bytes": sum(map(len, new.files.values()))}
        try:
            update = lab.update("ota check", new)
            found |= {"confirmed": True, "programmed": update.programmed, "update_boots": update.update_boots}
        except Failed as error:
            log(f"a Pico W's flash, all files: {str(error).splitlines()[0]}")
            found["confirmed"] = False
        return found


@contextlib.contextmanager
def _house(plan: Plan, log: Log) -> Iterator[House]:
    """A board on 1.0.0 with its broker, and visitors that have seen every tab."""
    sections = {"web": {"password": PASSWORD}}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        lab = stack.enter_context(
            Lab(folder, modules=plan.modules, heap=f"{plan.heap_k}k", sections=sections, confirm_s=120)
        )
        if plan.verbose:
            lab.board.on_line = log
        assert lab.broker
        seen = stack.enter_context(Observer(lab.broker))
        first = lab.release("1.0.0", _files(lab, plan, 0))
        lab.flash(first)
        lab.offer(first)
        lab.board.start()
        with contextlib.suppress(BoardError):  # it is asked again, and what it says of its memory counts
            lab.board.expect(r"ota: up to date", 60)
        tally = Tally()
        port = int(lab.board.env["SIMULATOR_WEB_PORT"])
        visitors = [stack.enter_context(Visitor(port, tally)) for _n in range(plan.browsers)]
        house = House(lab, seen, tally, visitors, Client(port, Tally()))
        _eventually(lambda: house.all_tabs() and house.mqtt_there(), 120)
        there = f"all tabs seen: {house.all_tabs()}, MQTT: {house.mqtt_there()}, {house.free()} bytes free"
        log(f"{plan.heap_k}k, {plan.browsers} browsers: {there}")
        yield house


def _releases(lab: Lab, plan: Plan) -> Iterator[Release]:
    for n in range(1, plan.updates + 1):
        yield lab.release(f"1.{n}.0", _files(lab, plan, n))


def _files(lab: Lab, plan: Plan, number: int) -> Files:
    """The tree with one other line in the user's module, or with every file another one."""
    source = (DEVICE / "sensor" / "__init__.py").read_bytes()
    assert _OFFSET in source
    changed = mpy.compile_source(source.replace(_OFFSET, b"_OFFSET = %d " % number), _SENSOR)
    files = lab.platform(edition=f"1.{number}.0" if plan.every_file else "")
    return {**files, _SENSOR.replace(".py", ".mpy"): changed}


def _eventually(true: Callable[[], bool], patience_s: float = 60) -> bool:
    deadline = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
