"""What a fleet's owner sees of boards that are not as they should be, over a real broker, where clients speak as boards do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.clients import Client
from iotctl.dashboard.live import Live
from iotctl.errors import IotctlError
from iotctl.fleet import Address, Fleet
from iotctl.offers import Site
from iotctl.rollout import Course, Runner
from tests.support import loops
from tests.support.broker import PATIENCE_S, Broker, Observer
from tests.unit.iotctl_fixture import key, make_place

SAME = 100


@pytest.fixture
def live(broker: Broker, tmp_path: Path) -> Iterator[Live]:
    made = Live(Address("127.0.0.1", broker.port), tmp_path / "site", None, {})
    with made.fleet:
        yield made


def until(live: Live, name: str, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """What the dashboard shows of a board, as soon as it is so."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        live.refresh()
        found = live.board(name) if name in live.index.rows else {}
        if found and holds(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def test_a_hundred_boards_with_the_same_id_are_one_that_flaps(broker: Broker, live: Live, tmp_path: Path) -> None:
    """Each connection takes the place of the one before, and the broker tells that one's last will."""
    crowd: Any = SimpleNamespace(sent=0, offer={"version": ""})

    async def connect() -> None:
        for _ in range(SAME):
            client = Client(crowd, 7)
            await asyncio.get_running_loop().create_connection(lambda client=client: client, "127.0.0.1", broker.port)  # type: ignore[misc]
            while not client.connected:
                await asyncio.sleep(0.001)

    loops.run(asyncio.wait_for(connect(), PATIENCE_S))
    shown = until(live, "sim-board/c00007", lambda row: row["state"] == "trouble")
    assert shown["troubles"][0]["reason"] == "flapping" and "the same id" in shown["advice"]
    assert len(live.index.rows) == 1 and len(shown["history"]) <= 30


def test_a_broker_that_keeps_nothing_shows_who_speaks_and_a_rollout_says_what_is_missing(
    broker: Broker, live: Live, seen: Observer, tmp_path: Path
) -> None:
    place = make_place(tmp_path / "place")
    runner, course = Runner(tmp_path / "site", key(0)), Course("stable", [100], 0)
    (tmp_path / "site").mkdir()
    for name, text in (("online", "true"), ("version", "1.4.0"), ("ota/status", "up_to_date")):
        seen.publish(f"Door-1/b1/status/{name}", text)
    until(live, "Door-1/b1", lambda row: row["state"] == "ok")
    with Fleet(Address("127.0.0.1", broker.port)) as late:
        late.settle()
        with pytest.raises(IotctlError, match="no board of Door-1 is at the broker: .* does it keep retained messages"):
            runner.start(place.built("1.5.0"), late.boards(), course)
        runner.start(place.built("1.5.0"), live.fleet.boards(), course)  # who has listened all the time can
        assert runner.turn(late.boards(), 1000.0).state == "running", "nobody there to ask is no failure"
    seen.publish("Door-1/b1/status/version", "1.5.0")
    until(live, "Door-1/b1", lambda row: row["version"] == "1.5.0")
    assert runner.turn(live.fleet.boards(), 1001.0).state == "done"
    assert Site(tmp_path / "site").offer("Door-1", "stable")


def test_a_log_goes_on_after_a_restart_and_tells_what_is_missing(broker: Broker, live: Live, seen: Observer) -> None:
    for name, text in (("online", "true"), ("version", "1.4.0")):
        seen.publish(f"gate/1/status/{name}", text, retain=True)
    until(live, "gate/1", bool)
    with pytest.raises(IotctlError, match="no board"):
        live.listen("gate/2")
    live.listen("gate/1")
    seen.wait("gate/1/command/log", "0")
    for text in ("4 one", "5 two", "no number", "8 five", "9" * 50 + " x", "9 " + "long" * 1000):
        seen.publish("gate/1/log", text)
    seen.publish("gate/9/log", "0 nobody has asked this board")
    shown = until(live, "gate/1", lambda row: len(row["log"]["lines"]) == 5)["log"]
    assert shown["lines"][:4] == ["one", "two", "(2 lines are missing)", "five"] and len(shown["lines"][4]) == 400
    since = seen.publish("gate/1/status/online", "false")
    seen.publish("gate/1/status/online", "true")
    seen.wait("gate/1/command/log", "0", since)
    seen.publish("gate/1/log", "0 hello again")
    seen.publish("gate/1/reply/log", '{"ok": false, "error": "no_memory", "message": "too little"}')
    shown = until(live, "gate/1", lambda row: row["log"]["problem"])["log"]
    assert shown["lines"][-1] == "hello again" and shown["problem"] == "no_memory: too little"
