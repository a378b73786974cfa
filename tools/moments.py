"""What an owner sees when, as docs/mqtt.md has it: recorded from a simulated board and a real mosquitto.

    .venv/bin/python tools/moments.py

Each moment is brought about, and what the board's topics say is noted from its beginning to its end: of each topic the values
that it had, one after the other, if one of them is another than before. Numbers that change all the time are left out.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from bench.report import put  # noqa: E402
from tests.mqtt.conftest import BASE, LAMP_FILES, WITH_LAMP, mqtt_world  # noqa: E402
from tests.mqtt.test_commands import UPDATE, start  # noqa: E402
from tests.mqtt.test_truth import FAILS, REPLY  # noqa: E402
from tests.support.broker import Broker, Message, Observer  # noqa: E402
from tests.support.world import PATIENCE_S, Changes, Slowly, World  # noqa: E402

PAGE = ROOT / "docs" / "mqtt.md"
NOISE = re.compile(r"status/(freeram|freedisk|rssi|uptime|loop/.*|lamp/.*|ota/(bytes|total|progress|status))$")
BIG: Changes = {**LAMP_FILES, "www/a.txt": b"a" * 90_000}


def entity(text: str) -> str:
    """The update entity's state in a few characters: what is installed, what there is, how far it is."""
    value = json.loads(text)
    far = f" {value['update_percentage']} %" if value["in_progress"] else ""
    return f"{value['installed_version']} of {value['latest_version']}{far}"


def shown(topic: str, text: str) -> str:
    if topic == "update" and text:
        return entity(text)
    if topic in ("status/ota/problem", "event") and text:
        value = json.loads(text)
        return " ".join(value[key] for key in ("event_type", "version", "reason") if key in value) or "none"
    return text or "nothing"


def told(messages: list[Message], kept: dict[str, str]) -> str:
    """What is new of what the board's topics have said, in a cell of the table. `kept`: what the broker has of it."""
    found: dict[str, list[str]] = {}
    for message in messages:
        topic = message.topic.removeprefix(f"{BASE}/")
        if message.topic.startswith(f"{BASE}/") and topic.startswith(("status/", "update", "event")) and not NOISE.search(topic):
            text = shown(topic, message.text)
            values = found.setdefault(topic, [])
            if not values or values[-1] != text:
                values.append(text)
    news = {topic: values for topic, values in sorted(found.items()) if set(values) != {kept.get(topic)}}
    kept.update({topic: values[-1] for topic, values in found.items() if topic != "event"})
    return "<br>".join(f"`{topic.removeprefix('status/')}`: {shorten(values)}" for topic, values in news.items()) or "nothing new"


def shorten(values: list[str]) -> str:
    """Of what goes up step by step the first and the last."""
    if len(values) > 5:
        values = [*values[:2], "...", *values[-2:]]
    return ", ".join(values)


def record(world: World, seen: Observer, broker: Broker) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    kept: dict[str, str] = {}

    def moment(name: str, act: Callable[[int], object]) -> None:
        since = seen.now()
        act(since)
        with Observer(broker) as again:  # all that came before its first message has been seen
            again.publish("moment/over", name)
        seen.wait("moment/over", name, since)
        rows.append((name, told(seen.messages[since:], kept)))

    def order(wanted: str, path: str = "ota/update") -> Callable[[int], object]:
        def act(since: int) -> None:
            seen.publish(f"{BASE}/command/{path}", "install")
            seen.wait(f"{BASE}/reply/{path}", wanted, since)
            settled(since)

        return act

    def settled(since: int) -> None:
        """The entity is told at most every two seconds: its last state says that nothing is under way."""
        seen.wait_for(lambda m: m.topic == f"{BASE}/update" and '"in_progress": false' in m.text, since)

    def cut(since: int) -> None:
        world.server.trick = Slowly(20.0)
        mark = world.now()
        seen.publish(UPDATE, "install")
        world.board.expect(r"ota: downloading [1-5]\d%", PATIENCE_S, mark)
        world.board.power_cycle()
        world.server.trick = None
        seen.wait(REPLY, "confirmed", since)
        settled(since)

    def restart_broker(since: int) -> None:
        mark = world.now()
        kept.clear()
        broker.stop()
        broker.start()
        world.board.expect("mqtt: connected to", PATIENCE_S, mark)
        seen.wait_for(lambda m: m.topic == f"{BASE}/status/version" and not m.retained, since)
        settled(since)

    def kill(since: int) -> None:
        world.board.stop()
        seen.wait(f"{BASE}/status/online", "false", since)

    def begin(since: int) -> None:
        start(world, seen)
        settled(since)

    moment("start, with nothing to do", begin)
    world.offer(world.release("1.1.0", BIG, notes="Closes at dusk."))
    world.server.trick = Slowly(6.0)
    moment("Install, to the end", order("confirmed"))
    world.server.trick = None
    moment("a check that finds nothing", order("up_to_date", "ota/check"))
    world.offer(world.release("1.2.0", {**BIG, **FAILS}))
    moment("Install of a release whose module fails", order("rolled_back"))
    world.offer(world.release("1.3.0", {**BIG, "www/a.txt": b"b" * 90_000}))
    moment("Install; power fails in the middle of the download", cut)
    moment("the broker restarts, and has kept nothing", restart_broker)
    moment("the board dies", kill)
    return rows


def main() -> int:
    with (
        tempfile.TemporaryDirectory() as name,
        Broker(Path(name) / "broker") as broker,
        mqtt_world(Path(name) / "world", broker.port, WITH_LAMP) as world,
        Observer(broker) as seen,
    ):
        rows = record(world, seen, broker)
    table = "| moment | what the topics say, one after the other |\n| --- | --- |\n"
    table += "".join(f"| {moment} | {cell} |\n" for moment, cell in rows)
    PAGE.write_text(put(PAGE.read_text(), "moments", table))
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
