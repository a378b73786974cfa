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
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from iotctl import bundle, files, keys, publish
from iotctl.errors import IotctlError
from iotctl.fleet import Board
from iotctl.profile import Profile
from modules.ota.errors import OtaError
from modules.ota.release import policy

ENOUGH = 0.9  # of the boards that a step reaches must have confirmed before the next one
GONE_S = 300.0  # a board that was installing and has been away for so long has vanished
_AT_WORK = ("downloading", "ready", "installing", "rebooting", "trial")


@dataclass
class Outcome:
    """What is known of a board: "" (nothing yet), "working", "confirmed", "failed" or "vanished"; why; since when."""

    result: str = ""
    why: str = ""
    since: float = 0.0


@dataclass
class Rollout:
    """All that is remembered. `state`: running, paused, halted, aborted or done."""

    bundle: str
    name: str
    channel: str
    version: str
    sequence: int
    steps: list[int]
    soak_s: float
    max_failures: float  # percent of the boards that the step reaches
    step: int = 0
    began: float | None = None  # when the step's channel file was written; None: not yet
    state: str = "running"
    why: str = ""
    wrote: str = ""  # SHA-256 of the channel file as it was left here
    previous: str = ""  # the bundle that the channel led to before
    boards: dict[str, Outcome] = field(default_factory=dict)
    before: dict[str, list[str]] = field(default_factory=dict)  # status and error of each board when it all began

    @property
    def percent(self) -> int:
        return self.steps[self.step] if self.state in ("running", "paused", "done") else 0

    @property
    def over(self) -> bool:
        return self.state in ("halted", "aborted", "done")

    def count(self, result: str) -> int:
        return sum(outcome.result == result for outcome in self.boards.values())

    def reaches(self, name: str) -> bool:
        """True when a board is in the step that the rollout has come to."""
        channel = {"sequence": self.sequence, "rollout": {"percent": self.steps[self.step]}}
        return bool(policy.rollout_allows(channel, name.partition("/")[2]))


# -- what decides: no files, no network, no clock


def observe(rollout: Rollout, boards: Sequence[Board], now: float) -> bool:
    """Take in what the boards say; True when that was news."""
    news = False
    for board in boards:
        if board.name.partition("/")[0] != rollout.name or board.values.get("ota/channel", rollout.channel) != rollout.channel:
            continue
        known = rollout.boards.get(board.name)
        found = _outcome(rollout, board, known or Outcome(since=now), now)
        if known is None or (found.result, found.why) != (known.result, known.why):
            rollout.boards[board.name], news = found, True
    return news


def _outcome(rollout: Rollout, board: Board, known: Outcome, now: float) -> Outcome:
    status, error = board.values.get("ota/status", ""), board.values.get("ota/error", "")
    version = board.values.get("version")
    if version == rollout.version and board.online and status not in _AT_WORK:
        return Outcome("confirmed", "", now)
    if not board.online:
        gone = known.result == "working" and now - known.since > GONE_S
        return Outcome("vanished", "it installed the release, and was not seen again", now) if gone else known
    if status in _AT_WORK and board.values.get("ota/available", rollout.version) == rollout.version:
        return known if known.result == "working" else Outcome("working", "", now)
    fresh = known.result == "working" or rollout.before.get(board.name) != [status, error]
    if status in ("failed", "rolled_back") and error and fresh and version != rollout.version:  # the reason may come later
        if OtaError(error, "").kind != "transport":  # that is the network's fault, and tried again
            return Outcome("failed", f"{error}: {board.values.get('ota/message', '')}".strip(": "), now)
    return known


def judge(rollout: Rollout, now: float) -> str:
    """What is to be done now: "halt", "advance", "finish" or "wait"."""
    reached = [outcome for name, outcome in rollout.boards.items() if rollout.reaches(name)]
    bad = sum(outcome.result in ("failed", "vanished") for outcome in reached)
    if bad and 100 * bad > rollout.max_failures * len(reached):
        return "halt"
    confirmed = sum(outcome.result == "confirmed" for outcome in reached)
    soaked = rollout.began is not None and now - rollout.began >= rollout.soak_s
    if not soaked or confirmed < math.ceil(ENOUGH * (len(reached) - bad)):
        return "wait"
    return "finish" if rollout.step == len(rollout.steps) - 1 else "advance"


def reason(rollout: Rollout) -> str:
    """Why a rollout halts, in a sentence."""
    bad = [
        (name, each) for name, each in rollout.boards.items() if each.result in ("failed", "vanished") and rollout.reaches(name)
    ]
    name, worst = bad[0]
    return (
        f"{len(bad)} of {sum(map(rollout.reaches, rollout.boards))} boards did not take it; {name}: {worst.why or worst.result}"
    )


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

    def start(
        self, path: Path, boards: Sequence[Board], channel: str, steps: list[int], soak_s: float, max_failures: float
    ) -> Rollout:
        """Remember a new rollout; turn() takes its first step. OtaError or IotctlError for a bundle that no board would take."""
        if self.file.exists() and not self.load().over:
            raise IotctlError(f"{self.site} has a rollout that is not over: iotctl rollout status, or abort")
        made = bundle.read(path, ("profile.json",))
        bundle.verify(path, pinned=made.pinned("release"))
        header = made.header
        ours = [board for board in boards if board.name.partition("/")[0] == header["name"]]
        if not ours:
            raise IotctlError(f"no board of {header['name']} is at the broker, so nobody could say how it goes")
        now = self._channel_file(header["name"], channel)
        before = now.read_bytes() if now.exists() else b""
        led = json.loads(before.split(b"\n", 1)[0]) if before else {}
        if led.get("sequence", -1) >= header["sequence"]:
            raise IotctlError(f"{now} leads to {led['version']} already, which is not older than {header['version']}")
        rollout = Rollout(str(path), header["name"], channel, header["version"], header["sequence"], steps, soak_s, max_failures)
        rollout.wrote = _digest(before)
        rollout.previous = str(now.parent / led["bundle"]["file"]) if led else ""
        rollout.before = {board.name: [board.values.get("ota/status", ""), board.values.get("ota/error", "")] for board in ours}
        self.save(rollout)
        return rollout

    def turn(self, boards: Sequence[Board], now: float) -> Rollout:
        """Look once, and do what follows. Returns how it stands."""
        with self._alone():
            rollout = self.load()
            if rollout.began is not None:
                self._check_site(rollout)
            news = observe(rollout, boards, now)
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
        """Pause ("paused"), go on ("running") or end it ("aborted"). IotctlError for one that is over."""
        with self._alone():
            rollout = self.load()
            if rollout.over and (rollout.began is not None or state != "aborted"):
                raise IotctlError(f"the rollout of {rollout.version} is over: {rollout.state} {rollout.why}".strip())
            rollout.state, rollout.why = state, why
            if state == "aborted":
                rollout.began = None
            self.save(rollout)
            if state == "aborted":
                self._lead(rollout, time.time())
            return rollout

    def revert(self, rollout: Rollout, version: str, key: keys.PrivateKey | None, to: Path) -> Path:
        """The tree that the channel led to before, as a release `version` for everybody. Returns its bundle."""
        if not rollout.previous:
            raise IotctlError("the channel led to nothing before: there is no tree to go back to")
        before = bundle.read(Path(rollout.previous))
        raw = before.files["profile.json"]
        options = bundle.Options(
            version,
            bundle.default_sequence(version),
            f"The files of {before.header['version']} again.",
            py=not before.header["mpy"],
        )
        made = bundle.make(
            Profile(to / "profile.json", raw, json.loads(raw)), {**before.files, "version": version.encode() + b"\n"}, options
        )
        if made.header["sequence"] <= rollout.sequence:
            raise IotctlError(f"{version} is not newer than {rollout.version}: boards that run that would not take it")
        target = to / f"{version}.tar.gz"
        files.replace(target, bundle.pack(bundle.sign(made, key) if key else made))
        self._check_site(rollout)
        publish.publish(target, self.site, publish.Options(rollout.channel), self._key)
        return target

    def _lead(self, rollout: Rollout, now: float) -> None:
        """Write the channel file for where the rollout stands, unless that was done and only not remembered."""
        path = self._channel_file(rollout.name, rollout.channel)
        if not self._leads_already(path, rollout):
            self._check_site(rollout)
            notes = f"Halted: {rollout.why}" if rollout.state in ("halted", "aborted") else None
            options = publish.Options(rollout.channel, rollout.percent, notes=notes)
            self._written()
            publish.publish(Path(rollout.bundle), self.site, options, self._key)
            self._written()
        rollout.wrote, rollout.began = _digest(path.read_bytes()), now
        self.save(rollout)

    def _leads_already(self, path: Path, rollout: Rollout) -> bool:
        """Killed between the channel file and its note: then it stands there as it should."""
        try:
            value = json.loads(path.read_bytes().split(b"\n", 1)[0])
            return (value["sequence"], value["rollout"]["percent"]) == (rollout.sequence, rollout.percent)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _check_site(self, rollout: Rollout) -> None:
        """Never lead anybody beside, or over, what somebody else has put there."""
        path = self._channel_file(rollout.name, rollout.channel)
        if _digest(path.read_bytes() if path.exists() else b"") != rollout.wrote:
            raise IotctlError(f"{path} was changed by somebody else since: this rollout goes no further")

    def _channel_file(self, name: str, channel: str) -> Path:
        return self.site / name.lower() / f"{channel}.json"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
