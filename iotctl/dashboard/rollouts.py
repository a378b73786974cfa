"""The dashboard's side of the site: bundles that were dropped on it, and the rollout, driven as `iotctl rollout` does it.

drop -> <site>.dropped/<digest>.tar.gz, verified -> published for all, or the bundle of a rollout
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iotctl import bundle, errors, files, publish
from iotctl.errors import IotctlError
from iotctl.fleet import Board
from iotctl.keys import PrivateKey
from iotctl.rollout import Course, Rollout, Runner, Watch, enough, parse_steps, parse_time

_TURN_S = 1.0
_RESULTS = ("confirmed", "working", "failed", "vanished")
_NAMED = 20  # boards that did not take the release and are shown


@dataclass(frozen=True)
class Plan:
    """How a bundle goes out: `how` is "all" or "rollout"."""

    how: str
    channel: str
    steps: str
    soak: str
    max_failures: float
    group: str = ""


class Driver:
    """The site's rollout. Only what was begun or resumed here is driven here; another's is shown."""

    def __init__(
        self, site: Path, key: PrivateKey | None, boards: Callable[[], list[Board]], connected: Callable[[], bool] = lambda: True
    ) -> None:
        self._site, self._key, self._boards, self._connected = site, key, boards, connected
        self._watch = Watch()
        self._runner = Runner(site, key)
        self._hold = contextlib.ExitStack()  # the lock, while it is driven here
        self._dropped = site.with_name(site.name + ".dropped")
        self.changes = 0  # of what is shown
        self._driving = False
        self._one = threading.Lock()  # a turn, or what changes the rollout: never both
        self._problem = ""
        self._stamp: object = None
        self._shown: dict[str, Any] | None = None

    # -- the rollout

    async def run(self) -> None:
        """Take a turn each second, or less often where a turn takes long, for ever."""
        took = 0.0
        try:
            while True:
                await asyncio.sleep(max(_TURN_S, 4 * took))
                began = time.monotonic()
                if self._driving:
                    await self.turn()
                took = time.monotonic() - began
        finally:
            self._hold.close()

    async def turn(self) -> None:
        """One turn, if it is driven here."""
        await asyncio.to_thread(self._turn)

    def _turn(self) -> None:
        with self._one:
            now = self._watch.now(self._connected())
            try:
                stands = self._runner.turn(self._boards(), now) if self._driving else None
            except Exception as error:  # whatever it is: it is shown, and not lost with the loop's task
                self._release(errors.report(error).line)
            else:
                if stands and stands.over and stands.began is not None:
                    self._release("")
                if stands:  # what it shows is made here, and not on the server's loop
                    self._show(_as_json(stands, self._driving, self._problem), self._now())

    def _drive(self) -> None:
        if not self._driving:
            self._hold.enter_context(self._runner.locked())
            self._driving, self._problem = True, ""

    def _release(self, problem: str) -> None:
        self._hold.close()
        self._driving, self._problem = False, problem

    def change(self, what: str, version: str = "") -> None:
        """Pause, resume or abort it; or revert it: the tree of before, as a newer version."""
        with self._one:
            self._change(what, version)

    def _change(self, what: str, version: str) -> None:
        if what == "revert":
            self._dropped.mkdir(exist_ok=True)
            with self._runner.locked():
                self._runner.revert(version, self._key, self._dropped)
        elif what == "resume":
            self._runner.change("running")
            with contextlib.suppress(IotctlError):  # another process drives it
                self._drive()
        elif what == "pause":
            self._runner.change("paused")
        elif what == "abort":
            self._runner.change("aborted", "by hand")
        else:
            raise IotctlError("a rollout knows pause, resume, abort and revert")

    def _now(self) -> object:
        """Something that changes when there is something else to show."""
        file = self._runner.file
        return file.stat().st_mtime_ns if file.exists() else 0, self._driving, self._problem

    def shown(self) -> dict[str, Any] | None:
        """How it stands, as JSON; read again only when it has changed."""
        stamp = self._now()
        if stamp != self._stamp and not self._one.locked():  # else it is about to change, and a turn says how
            try:
                there = self._runner.file.exists()
                self._show(_as_json(self._runner.load(), self._driving, self._problem) if there else None, stamp)
            except IotctlError as error:
                self._show({"problem": error.message}, stamp)
        return self._shown

    def _show(self, shown: dict[str, Any] | None, stamp: object) -> None:
        if shown != self._shown:
            self._shown, self.changes = shown, self.changes + 1
        self._stamp = stamp

    # -- bundles

    def keep(self, data: bytes) -> dict[str, Any]:
        """Take in a bundle that was dropped, and say what it is. IotctlError or OtaError for one that no board would take."""
        name = hashlib.sha256(data).hexdigest()
        self._dropped.mkdir(exist_ok=True)
        path = self._dropped / f"{name}.tar.gz"
        files.replace(path, data)
        try:
            made = bundle.read(path, ("profile.json",))
            verdict = bundle.verify(path, pinned=made.pinned("release"))
            if made.signature is not None and self._key is None:
                raise IotctlError("the bundle is signed, so its channel file must be: start the dashboard with --key")
        except errors.REPORTED:
            path.unlink()
            raise
        boards = [board for board in self._boards() if board.name.partition("/")[0] == verdict.name]
        return {
            "id": name,
            "name": verdict.name,
            "version": verdict.version,
            "files": verdict.files,
            "signature": verdict.signature,
            "notes": made.header["notes"],
            "boards": len(boards),
            "newer": sum(board.values.get("version") != verdict.version for board in boards),
        }

    def publish(self, name: str, plan: Plan) -> None:
        """Offer a kept bundle to all boards of its kind, or begin a rollout with it."""
        path = self._dropped / f"{name}.tar.gz"
        if len(name) != 64 or not name.isalnum() or not path.is_file():
            raise IotctlError("the bundle is not here any more: drop it again")
        with self._one:
            if plan.how == "rollout":
                self._begin(path, plan)
                return
            self._check_free(bundle.read(path, ()).header["name"], plan.channel)
            publish.publish(path, self._site, publish.Options(plan.channel), self._key)
            path.unlink()

    def _begin(self, path: Path, plan: Plan) -> None:
        course = Course(plan.channel, parse_steps(plan.steps), parse_time(plan.soak), plan.max_failures, plan.group)
        self._drive()
        try:
            self._runner.start(path, self._boards(), course)
        except errors.REPORTED:
            self._release("")
            raise

    def _check_free(self, name: str, channel: str) -> None:
        """What a rollout leads to is not published over: it would stop there."""
        if self._runner.file.exists():
            stands = self._runner.load()
            if not stands.over and (stands.name, stands.channel) == (name, channel):
                raise IotctlError(f"a rollout of {stands.version} is on its way on {channel}: abort it first")


def _as_json(stands: Rollout, driving: bool, problem: str) -> dict[str, Any]:
    reached = stands.reached()
    bad = [(name, each) for name, each in sorted(stands.boards.items()) if each.bad]
    counts = {result: sum(stands.boards[name].result == result for name in reached) for result in _RESULTS}
    return {
        "version": stands.version,
        "name": stands.name,
        "group": stands.group,
        "channel": stands.channel,
        "state": stands.state,
        "why": stands.why,
        "steps": stands.steps,
        "step": stands.step,
        "percent": stands.percent,
        "began": stands.began,
        "soak": stands.soak_s,
        "boards": len(stands.boards),
        "reached": len(reached),
        "counts": counts,
        "wanted": enough(len(reached) - counts["failed"] - counts["vanished"]),
        "bad": [[name, each.result, each.why] for name, each in bad[:_NAMED]],
        "driven": driving,
        "problem": problem,
        "over": stands.over,
        "revertible": stands.over and stands.state != "reverted" and bool(stands.previous),
        "next": _after(stands.version),
    }


def _after(version: str) -> str:
    """The version that a revert of this one may have: the next one."""
    head, dot, last = version.rpartition(".")
    return f"{head}{dot}{int(last) + 1}" if last.isdigit() else ""
