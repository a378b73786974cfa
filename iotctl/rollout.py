"""A rollout: a release reaches some percent of the boards, is watched, and goes on or stops by itself.

    percent 1 -> soak -> 10 -> soak -> 50 -> soak -> 100 -> soak -> done
       `-- too many failures --> halted: the channel file leads nobody further (0 percent), and says why in its notes

There is no server: the channel file is what leads boards, an MQTT broker tells what became of them. All that a rollout knows is
in one file beside the site, `<site>.rollout.json`, written before what follows from it is done: who is killed goes on from there.
What decides is pure (`observe`, `judge`); `Runner` carries it out.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from iotctl import archive, bundle, files, keys, publish
from iotctl.errors import IotctlError
from iotctl.fleet import Board
from iotctl.profile import Profile
from modules.ota.errors import OtaError
from modules.ota.release import fields, policy

ENOUGH = 0.9  # of the boards that a step reaches must have confirmed before the next one
GONE_S = 600.0  # a board that was installing and has been away for so long has vanished
_AT_WORK = ("downloading", "ready", "installing", "rebooting", "trial")


@dataclass
class Outcome:
    """What is known of a board: "" (nothing yet), "working", "confirmed", "failed" or "vanished"; why; its group.

    `away`: when it was first not there while it worked; 0: it is there.
    """

    result: str = ""
    why: str = ""
    group: str = ""
    away: float = 0.0

    @property
    def bad(self) -> bool:
        return self.result in ("failed", "vanished")


@dataclass(frozen=True)
class Course:
    """How a release goes out. `group`: the boards that the steps are of; "": all. `max_failures`: percent of a step's boards."""

    channel: str
    steps: list[int]
    soak_s: float
    max_failures: float = 2.0
    group: str = ""


@dataclass
class Rollout:
    """All that is remembered. `state`: running, paused, halted, aborted, done or reverted."""

    bundle: str
    name: str
    channel: str
    version: str
    sequence: int
    steps: list[int]
    soak_s: float
    max_failures: float
    step: int = 0
    began: float | None = None  # when the step's channel file was written; None: not yet
    state: str = "running"
    why: str = ""
    wrote: str = ""  # SHA-256 of the channel file as it was left here
    previous: str = ""  # the bundle that the channel led to before
    group: str = ""
    beside: dict[str, Any] = field(default_factory=dict)  # whom the channel file led to this very release before
    boards: dict[str, Outcome] = field(default_factory=dict)
    before: dict[str, list[str]] = field(default_factory=dict)  # status and error of each board when it all began

    @property
    def percent(self) -> int:
        return self.steps[self.step] if self.state in ("running", "paused", "done") else 0

    @property
    def over(self) -> bool:
        return self.stopped or self.state in ("done", "reverted")

    @property
    def stopped(self) -> bool:
        """True when it is over before it has reached all."""
        return self.state in ("halted", "aborted")

    def count(self, result: str) -> int:
        return sum(outcome.result == result for outcome in self.boards.values())

    def leads(self) -> dict[str, Any]:
        """The channel file's `rollout`: nobody whom it led before is left out."""
        if self.percent == 0:
            return {"percent": 0}
        percent, groups = self.percent, dict(self.beside.get("groups", {}))
        if self.group:
            percent = self.beside.get("percent", 0)
            groups[self.group] = max(self.percent, groups.get(self.group, percent))
        groups = {name: each for name, each in groups.items() if self.group or each > percent}
        return {"percent": percent, **({"groups": groups} if groups else {})}

    def reached(self) -> set[str]:
        """The boards that are in the step that the rollout has come to."""
        there = self if self.percent else replace(self, state="running")
        channel = {"sequence": self.sequence, "rollout": there.leads()}
        boards = self.boards.items()
        return {name for name, each in boards if policy.rollout_allows(channel, name.partition("/")[2], each.group)}


# -- what decides: no files, no network, no clock


def observe(rollout: Rollout, boards: Sequence[Board], now: float) -> bool:
    """Take in what the boards say; True when that was news."""
    news = False
    for board in boards:
        if board.name.partition("/")[0] != rollout.name or board.values.get("ota/channel", rollout.channel) != rollout.channel:
            continue
        known = rollout.boards.get(board.name)
        found = _outcome(rollout, board, known or Outcome(), now)
        if found is not known or found.group != board.group:  # of ten thousand few: what is new is made for those alone
            found = replace(found, group=board.group)
            news = news or found != known
            rollout.boards[board.name] = found
    return news


def _outcome(rollout: Rollout, board: Board, known: Outcome, now: float) -> Outcome:
    status, error = board.values.get("ota/status", ""), board.values.get("ota/error", "")
    version = board.values.get("version")
    if not board.online:
        if known.result != "working":
            return known
        away = min(known.away or now, now)  # a clock may go back
        gone = now - away > GONE_S
        return Outcome("vanished", "it installed the release, and was not seen again") if gone else replace(known, away=away)
    if version == rollout.version and status not in _AT_WORK:
        return known if known.result == "confirmed" else Outcome("confirmed")
    if status in _AT_WORK and board.values.get("ota/available", rollout.version) == rollout.version:
        return Outcome("working")
    fresh = known.result == "working" or rollout.before.get(board.name) != [status, error]
    if status in ("failed", "rolled_back") and error and fresh and version != rollout.version:  # the reason may come later
        if OtaError(error, "").kind != "transport":  # that is the network's fault, and tried again
            return Outcome("failed", f"{error}: {board.values.get('ota/message', '')}".strip(": "))
    return replace(known, away=0.0) if known.away else known


def judge(rollout: Rollout, now: float) -> str:
    """What is to be done now: "halt", "advance", "finish" or "wait"."""
    reached = [rollout.boards[name] for name in rollout.reached()]
    bad = sum(outcome.bad for outcome in reached)
    if bad and 100 * bad > rollout.max_failures * len(reached):
        return "halt"
    confirmed = sum(outcome.result == "confirmed" for outcome in reached)
    soaked = rollout.began is not None and now - rollout.began >= rollout.soak_s
    if not soaked or confirmed < enough(len(reached) - bad):
        return "wait"
    return "finish" if rollout.step == len(rollout.steps) - 1 else "advance"


def enough(boards: int) -> int:
    """How many of the boards that a step reaches, but for the bad ones, must have confirmed."""
    return math.ceil(ENOUGH * boards)


def reason(rollout: Rollout) -> str:
    """Why a rollout halts, in a sentence."""
    reached = rollout.reached()
    bad = [(name, each) for name, each in rollout.boards.items() if each.bad and name in reached]
    name, worst = bad[0]
    return f"{len(bad)} of {len(reached)} boards did not take it; {name}: {worst.why or worst.result}"


def _could_take(header: bundle.Header, boards: Sequence[Board], group: str) -> list[Board]:
    """The boards that a release is for; IotctlError when none would take it, so that nobody could say how it goes."""
    ours = [board for board in boards if board.name.partition("/")[0] == header["name"]]
    if not ours:
        raise IotctlError(
            f"no board of {header['name']} is at the broker: are they connected, and does it keep retained messages?"
        )
    there = [board for board in ours if group in ("", board.group)]
    if not there:
        groups = ", ".join(sorted({board.group for board in ours if board.group})) or "none"
        raise IotctlError(
            f"no board of {header['name']} says that it is in the group {group}; there are: {groups} (iotctl assign)"
        )
    if all(_runs(board, header["version"]) for board in there):
        raise IotctlError(f"all {len(there)} boards run {header['version']} or newer: none would take it")
    return ours


def _runs(board: Board, version: str) -> bool:
    """True when a board runs a version, or a newer one."""
    runs = board.values.get("version", "")
    return bool(fields.is_version(runs) and fields.compare_versions(runs, version) >= 0)


def parse_steps(text: str) -> list[int]:
    """``1,10,100``: rising, and to the end. IotctlError otherwise."""
    steps = [int(word) if word.strip().isdigit() else 0 for word in text.split(",")]
    if steps != sorted(set(steps)) or steps[0] < 1 or steps[-1] != 100:
        raise IotctlError(f"--steps {text}: expected percents that rise and end with 100, such as 1,10,50,100", 2)
    return steps


def parse_time(text: str) -> float:
    """Seconds of ``90s``, ``30m`` or ``2h``. IotctlError otherwise."""
    number, unit = text[:-1], {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:])
    if unit is None or not number.isdigit():
        raise IotctlError(f"{text}: expected a time such as 90s, 30m or 2h", 2)
    return int(number) * unit


# -- what carries it out


class Watch:
    """The time for which a rollout is watched, from the computer's at the beginning: what passes while the broker is away does
    not count, and no jump of the computer's clock.
    """

    def __init__(self) -> None:
        self._now, self._last = time.time(), time.monotonic()

    def now(self, connected: bool) -> float:
        last, self._last = self._last, time.monotonic()
        self._now += self._last - last if connected else 0
        return self._now


class Runner:
    """The rollout of a site: its state, its channel file. One at a time; IotctlError when another one holds it.

    :param written: called before and after each write, by what tests what a kill leaves.
    """

    def __init__(self, site: Path, key: keys.PrivateKey | None, written: Callable[[], None] = lambda: None) -> None:
        self.site = site
        self.file = site.with_name(site.name + ".rollout.json")
        self._key = key
        self._written = written

    @contextlib.contextmanager
    def locked(self) -> Iterator[Runner]:
        """While it runs: a second one is refused."""
        with self._lock("lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise IotctlError(f"a rollout of {self.site} runs already") from None
            yield self

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While the state is read, changed and written: who pauses a rollout is another process."""
        with self._lock("turn") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _lock(self, kind: str) -> IO[str]:
        return self.site.with_name(f".{self.site.name}.rollout.{kind}").open("w")

    def load(self) -> Rollout:
        if not self.file.exists():
            raise IotctlError(f"{self.site} has no rollout: iotctl rollout start")
        try:
            value = json.loads(self.file.read_text())
            value["boards"] = {name: Outcome(**each) for name, each in value["boards"].items()}
            return Rollout(**value)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise IotctlError(f"{self.file} is damaged ({error}): remove it, and start the rollout again") from None

    def save(self, rollout: Rollout) -> None:
        self._written()
        # dataclasses.asdict() and an indent take a third of a second for ten thousand boards
        files.replace(self.file, json.dumps(vars(rollout), default=vars).encode() + b"\n")
        self._written()

    def start(self, path: Path, boards: Sequence[Board], course: Course) -> Rollout:
        """Remember a new rollout; turn() takes its first step. OtaError or IotctlError for a bundle that no board would take."""
        if self.file.exists() and not self.load().over:
            raise IotctlError(f"{self.site} has a rollout that is not over: iotctl rollout status, or abort")
        options = publish.Options(course.channel)
        header = publish.check(path, options, self._key).header
        ours = _could_take(header, boards, course.group)
        now = self._channel_file(header["name"], course.channel)
        publish.next_counter(now, header["sequence"], options)
        before = now.read_bytes() if now.exists() else b""
        led = json.loads(before.split(b"\n", 1)[0]) if before else {}
        rollout = Rollout(
            bundle=str(path),
            name=header["name"],
            version=header["version"],
            sequence=header["sequence"],
            wrote=_digest(before),
            **vars(course),
        )
        if led.get("sequence") == header["sequence"]:
            self._go_on(rollout, led, path)
        elif led:
            rollout.previous = str(now.parent / led["bundle"]["file"])
        rollout.before = {board.name: [board.values.get("ota/status", ""), board.values.get("ota/error", "")] for board in ours}
        self.save(rollout)
        return rollout

    def _go_on(self, rollout: Rollout, led: dict[str, Any], path: Path) -> None:
        """The channel leads some boards to this very release already, such as a group: those stay. IotctlError when it is all."""
        file = self._channel_file(rollout.name, rollout.channel)
        if led["bundle"]["sha256"] != archive.head_of(path.read_bytes())[1]:
            raise IotctlError(f"{file} leads to another bundle of {led['version']}, sequence {led['sequence']}")
        rollout.beside = led.get("rollout", {"percent": 100})
        if rollout.beside["percent"] == 100:
            raise IotctlError(f"{file} leads everybody to {led['version']} already")
        last = self.load() if self.file.exists() else None
        if last and (last.name, last.channel, last.sequence) == (rollout.name, rollout.channel, rollout.sequence):
            rollout.previous = last.previous

    def turn(self, boards: Sequence[Board], now: float) -> Rollout:
        """Look once, and do what follows. Returns how it stands."""
        with self._alone():
            rollout = self.load()
            if rollout.began is not None:
                self._check_site(rollout)
            news = observe(rollout, boards, now)
            if rollout.began is not None and now < rollout.began:  # the computer's clock has gone back
                rollout.began, news = now, True
            done = judge(rollout, now) if rollout.state == "running" else "wait"
            if done == "halt":
                rollout.state, rollout.why, rollout.began = "halted", reason(rollout), None
            elif done == "advance":
                rollout.step, rollout.began = rollout.step + 1, None
            elif done == "finish":
                rollout.state = "done"
            if news or done != "wait":
                self.save(rollout)
            if rollout.began is None and rollout.state != "paused":
                self._lead(rollout, now)
            return rollout

    def change(self, state: str, why: str = "") -> Rollout:
        """Pause ("paused"), go on ("running") or end it ("aborted"). IotctlError for one that is over.

        Killed before the channel file says that it is over, to go on is to say so: the next turn does.
        """
        with self._alone():
            rollout = self.load()
            if rollout.over and (rollout.began is not None or state == "paused"):
                raise IotctlError(f"the rollout of {rollout.version} is over: {rollout.state} {rollout.why}".strip())
            if rollout.over and state == "running":
                return rollout
            rollout.state, rollout.why = state, why
            if state == "aborted":
                rollout.began = None
            self.save(rollout)
            if state == "aborted":
                self._lead(rollout, time.time())
            return rollout

    def revert(self, version: str, key: keys.PrivateKey | None, to: Path) -> Path:
        """The tree that the channel led to before, as a release `version` for everybody. Returns its bundle.

        Killed between the channel file and its note, the same again only notes it.
        """
        with self._alone():
            rollout = self.load()
            if not rollout.over:
                raise IotctlError(f"the rollout of {rollout.version} is on its way: abort it first")
            target = to / f"{version}.tar.gz"
            path = self._channel_file(rollout.name, rollout.channel)
            sequence = bundle.default_sequence(version)
            if sequence <= rollout.sequence:
                raise IotctlError(f"{version} is not newer than {rollout.version}: boards that run that would not take it")
            if not _leads_to(path, sequence, {"percent": 100}):
                self._check_site(rollout)
                made = _again(rollout, version, to)
                files.replace(target, bundle.pack(bundle.sign(made, key) if key else made))
                self._written()
                publish.publish(target, self.site, publish.Options(rollout.channel), self._key)
                self._written()
            rollout.state, rollout.why = "reverted", f"{version} has the files of before"
            rollout.wrote, rollout.began = _digest(path.read_bytes()), rollout.began or time.time()  # nothing is left to say
            self.save(rollout)
            return target

    def _lead(self, rollout: Rollout, now: float) -> None:
        """Write the channel file for where the rollout stands, unless that was done and only not remembered."""
        path = self._channel_file(rollout.name, rollout.channel)
        led = rollout.leads()
        if not _leads_to(path, rollout.sequence, led):  # killed between the channel file and its note
            self._check_site(rollout)
            notes = f"Halted: {rollout.why}" if rollout.stopped else None
            options = publish.Options(rollout.channel, led["percent"], notes=notes, groups=led.get("groups", {}))
            self._written()
            publish.publish(Path(rollout.bundle), self.site, options, self._key)
            self._written()
        rollout.wrote, rollout.began = _digest(path.read_bytes()), now
        self.save(rollout)

    def _check_site(self, rollout: Rollout) -> None:
        """Never lead anybody beside, or over, what somebody else has put there."""
        path = self._channel_file(rollout.name, rollout.channel)
        if _digest(path.read_bytes() if path.exists() else b"") != rollout.wrote:
            raise IotctlError(f"{path} was changed by somebody else since: this rollout goes no further")

    def _channel_file(self, name: str, channel: str) -> Path:
        return self.site / name.lower() / f"{channel}.json"


def _leads_to(path: Path, sequence: int, rollout: dict[str, Any]) -> bool:
    """True when a channel file leads those boards to that release."""
    try:
        value = json.loads(path.read_bytes().split(b"\n", 1)[0])
        return (value["sequence"], value["rollout"]) == (sequence, rollout)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _again(rollout: Rollout, version: str, to: Path) -> bundle.Bundle:
    """The files that the channel led to before, as a newer release, not signed yet."""
    if not rollout.previous:
        raise IotctlError("the channel led to nothing before: there is no tree to go back to")
    before = bundle.read(Path(rollout.previous))
    raw, sequence = before.files["profile.json"], bundle.default_sequence(version)
    options = bundle.Options(version, sequence, f"The files of {before.header['version']} again.", py=not before.header["mpy"])
    profile = Profile(to / "profile.json", raw, json.loads(raw))
    return bundle.make(profile, {**before.files, "version": version.encode() + b"\n"}, options)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
