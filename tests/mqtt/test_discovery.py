"""Home Assistant finds the board: every message to it is held against what its MQTT integration accepts."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from tests.mqtt.conftest import BASE, LAMP_FILES
from tests.mqtt.home_assistant import COMPONENTS, STATE, NotAccepted, check, check_discovery
from tests.mqtt.test_commands import start
from tests.support.broker import Message, Observer, parsed
from tests.support.world import PATIENCE_S, Slowly, World

ENTITIES = {"update": 1, "sensor": 7, "binary_sensor": 1, "event": 1, "button": 2}
LAST = "homeassistant/button/sim-board-sim-0001/restart/config"


def discovery(seen: Observer, since: int = 0) -> list[Message]:
    seen.wait(LAST, "", since)
    return [message for message in seen.messages[since:] if message.topic.endswith("/config") and message.text]


def test_every_message_is_what_home_assistant_accepts_and_comes_again_after_its_birth(world: World, seen: Observer) -> None:
    start(world, seen)
    messages = discovery(seen)
    assert Counter(check_discovery(message.topic, parsed(message)) for message in messages) == ENTITIES
    ids = [parsed(message)["unique_id"] for message in messages]
    assert len(set(ids)) == len(ids)
    devices = [parsed(message)["device"] for message in messages]
    assert all(device == devices[0] for device in devices), "one device"
    assert devices[0]["sw_version"] == "1.0.0" and "configuration_url" not in devices[0]
    for value in map(parsed, messages):
        assert value["availability_topic"] == f"{BASE}/status/online"
        if "state_topic" in value and not value["state_topic"].endswith(("waiting", "waiting_for", "event")):
            seen.wait(value["state_topic"])
    since = seen.publish("homeassistant/status", "online")
    assert len(discovery(seen, since)) == sum(ENTITIES.values()), "all of it again"


def test_every_state_of_the_update_entity_is_accepted_through_an_update(world: World, seen: Observer) -> None:
    world.sections["mqtt"]["release_url"] = "https://example.org/releases"
    start(world, seen)
    notes = "Closes at dusk, “gently”. " * 20
    new = world.release("1.1.0", {**LAMP_FILES, "www/a.txt": b"a" * 90_000}, notes=notes)
    world.offer(new)
    world.server.trick = Slowly(4.0)
    since = seen.publish(f"{BASE}/command/ota/update", "install")
    seen.wait(f"{BASE}/reply/ota/update", "confirmed", since)
    states = [parsed(message) for message in seen.messages if message.topic == f"{BASE}/update"]
    for state in states:
        check(state, STATE, ("installed_version", "latest_version", "title", "in_progress", "release_url"))
    assert any(state["latest_version"] == "1.1.0" and state["installed_version"] == "1.0.0" for state in states)
    assert any(state["in_progress"] for state in states)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"surprise": 1}, "surprise is not known"),
        ({"icon": None}, "icon must not be None"),
        ({"unique_id": ""}, "unique_id must not be"),
        ({"device": {"name": "x"}}, "identifiers is missing"),
        ({"entity_category": "config"}, "entity_category must not be"),
        ({"device_class": "data_size", "unit_of_measurement": "dBm"}, "unit does not belong"),
        ({"state_topic": "a/+"}, "state_topic must not be"),
    ],
)
def test_the_check_itself_refuses(change: dict[str, Any], says: str) -> None:
    good = {"name": "x", "unique_id": "x", "state_topic": "a/b", "availability_topic": "a/c", "device": {"identifiers": ["x"]}}
    where = "homeassistant/sensor/x/y/config"
    assert check_discovery(where, good) == "sensor" and "sensor" in COMPONENTS
    with pytest.raises(NotAccepted, match=says):
        check_discovery(where, {**good, **change})


def test_no_discovery_where_it_is_not_wanted(world: World, seen: Observer) -> None:
    world.sections["mqtt"]["discovery"] = None
    start(world, seen)
    seen.wait(f"{BASE}/status/version", "1.0.0")
    since = seen.publish("homeassistant/status", "online")
    seen.publish(f"{BASE}/command/lamp/x")
    seen.wait(f"{BASE}/reply/lamp/x", "", since, PATIENCE_S)
    assert not [message for message in seen.messages if message.topic.endswith("/config")], json.dumps(ENTITIES)
