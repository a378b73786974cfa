"""What Home Assistant shows is true, before, during and after an update; against mosquitto."""

from __future__ import annotations

from pathlib import Path

from tests.mqtt.conftest import BASE, WITH_LAMP, mqtt_world
from tests.mqtt.test_commands import start
from tests.support.broker import Broker, Observer
from tests.support.world import PATIENCE_S, World


def test_what_the_broker_has_kept_and_nobody_tells_any_more_is_cleared(world: World, seen: Observer) -> None:
    old = {"ota/waiting": "window 02:00-04:30", "ota/available": "0.9.0", "module/fan": "off: it failed"}
    for key, value in old.items():
        seen.publish(f"{BASE}/status/{key}", value, retain=True)
    start(world, seen)
    for key in old:
        seen.wait_for(lambda m, topic=f"{BASE}/status/{key}": m.topic == topic and m.text == "")  # type: ignore[misc]
    since = seen.publish(f"{BASE}/status/module/fan", "not by the board", retain=True)
    seen.publish(f"{BASE}/command/lamp/level", "5")
    seen.wait(f"{BASE}/status/lamp/level", "5", since)
    assert seen.of(f"{BASE}/status/module/fan", since)[-1].text == "not by the board", "it listens after each connection only"


def test_a_topic_that_the_broker_does_not_allow_costs_a_line_and_nothing_else(tmp_path: Path) -> None:
    forbidden = ("iot-platform/version", "homeassistant/status", f"{BASE}/status/#")
    with (
        Broker(tmp_path / "broker", forbidden=forbidden) as broker,
        mqtt_world(tmp_path / "world", broker.port, WITH_LAMP) as world,
        Observer(broker) as seen,
    ):
        start(world, seen)
        for topic in forbidden:
            world.board.expect(f"mqtt: the broker does not let this board subscribe to {topic}$", PATIENCE_S)
        since = seen.publish(f"{BASE}/command/lamp/level", "5")
        seen.wait(f"{BASE}/status/lamp/level", "5", since)
        assert not [line for line in world.board.lines if "no connection" in line]
