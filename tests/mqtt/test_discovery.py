"""Home Assistant finds the board: every message to it is held against what its MQTT integration accepts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from iotctl import ROOT
from tests.mqtt.conftest import BASE, LAMP_FILES, MODULES, mqtt_world
from tests.mqtt.home_assistant import COMPONENTS, COUNTS, STATE, UNITS, NotAccepted, check, check_discovery, expand
from tests.mqtt.test_commands import start
from tests.support.broker import Broker, Message, Observer, parsed
from tests.support.world import PATIENCE_S, Slowly, World

ENTITIES = {"update": 1, "sensor": 9, "binary_sensor": 1, "event": 1, "button": 4, "select": 1}
LAST = "homeassistant/switch/sim-board-sim-0001/auto_install/config"
DEVICE = "homeassistant/{}/sim-board-sim-0001/{}/config"
DATA = ROOT / "modules" / "mqtt" / "discovery.txt"
# Every kind of value, and every mistake that a module's author can make
GREENHOUSE = b"""from iot_platform.module import Module as Base

class Module(Base):
    name = "greenhouse"
    panels = (
        {
            "title": "Greenhouse",
            "values": (
                ("air", "Air", "\xc2\xb0C"),
                ("damp", "Damp", "%", "sensor", "humidity"),
                ("used", "Used", "kWh"),
                ("soil", "Soil", "%"),
                ("words", "Words", ""),
                ("door", "Door", "", "binary_sensor", "door"),
                ("greenhouse/light", "Light", "", "switch"),
                ("greenhouse/aim", "Aim", "\xc2\xb0C", "number", 5, 30, 0.5),
                ("greenhouse/mode", "Mode", "", "select", "day", "night"),
                ("greenhouse/motto", "Motto", "", "text"),
            ),
            "actions": (("water", "Water now"),),
        },
        {
            "id": "broken",
            "title": "Broken",
            "values": (
                ("a", "Heat", "bananas", "sensor", "temperature"),
                ("b", "Luck", "", "sensor", "luck"),
                ("c", "Unit", 5),
                ("d", "Range", "", "number", 5, 1),
                ("e", "Kind", "", "lever"),
                ("f", "Good", "m"),
                ("f", "Twice", "m"),
                ("g", "Nothing", "m"),
            ),
        },
    )

    def start(self):
        self.platform.bus.publish("greenhouse/light", False)

    def telemetry(self):
        return {"air": 21.5, "g": float("nan"), "door": True, "greenhouse/aim": 20}

    def on_command(self, command):
        if command.path == "greenhouse/light":
            self.platform.bus.publish("greenhouse/light", command.payload)
        self.platform.log("greenhouse:", command.path, repr(command.payload))
"""
WRONG = {
    "c": "has a unit that is none: 5; it is left out",
    "d": "has a kind or range that is none: ('number', 5, 1); it is left out",
    "e": "has a kind or range that is none: ('lever',); it is left out",
    "f": "occurs twice; it is left out",
    "a": "has a unit that is none of temperature: bananas; Home Assistant is not told of it",
    "b": "has a device class that is not known: luck; Home Assistant is not told of it",
}


def discovery(seen: Observer, since: int = 0, last: str = LAST) -> list[Message]:
    seen.wait(last, "", since)
    return [message for message in seen.messages[since:] if message.topic.endswith("/config") and message.text]


def test_every_message_is_what_home_assistant_accepts_and_comes_again_after_its_birth(world: World, seen: Observer) -> None:
    start(world, seen)
    messages = discovery(seen)
    assert Counter(check_discovery(message.topic, parsed(message)) for message in messages) == ENTITIES
    told = [expand(parsed(message)) for message in messages]
    ids = [value["unique_id"] for value in told]
    assert len(set(ids)) == len(ids)
    device = told[0]["device"]
    assert all(value["device"] == device for value in told), "one device"
    assert device["sw_version"] == "1.0.0" and "configuration_url" not in device and device["name"] == "sim-board sim-0001"
    assert device["connections"] == [["mac", "02:00:00:00:00:09"]]
    assert told[0]["name"] is None and told[0]["origin"] == {"name": "iot-platform", "sw_version": "1.0.0"}
    off = {value["unique_id"][19:] for value in told if value.get("enabled_by_default") is False}
    assert off == {"freeram", "freedisk", "rssi", "uptime", "restart_reason"}
    for value in told:
        assert value["availability_topic"] == f"{BASE}/status/online"
        if "state_topic" in value and not value["state_topic"].endswith(("waiting", "waiting_for", "event")):
            seen.wait(value["state_topic"])
    states = next(value["options"] for value in told if value.get("device_class") == "enum")
    assert {m.text for m in seen.of(f"{BASE}/status/ota/status") if m.text} <= set(states)
    since = seen.publish("homeassistant/status", "online")
    assert len(discovery(seen, since)) == sum(ENTITIES.values()), "all of it again"


def test_what_the_profile_allows_has_its_button_select_and_switch(tmp_path: Path) -> None:
    """Who switches `auto_install` over MQTT has it so after a restart, and what waited for it is installed."""
    with (
        Broker(tmp_path / "broker") as broker,
        mqtt_world(
            tmp_path / "world", broker.port, commands=["auto_install", "channel"], release_url="https://example.org/x"
        ) as world,
        Observer(broker) as seen,
    ):
        world.ota["auto_install"] = False
        old = world.release("1.0.0")
        world.flash(old, {"prefs.json": b'{"ota.channel": "beta", "name": "Front \\"door\\""}'})
        world.offer(old, channel="beta")
        world.board.start()
        messages = discovery(seen)
        told = {message.topic.split("/")[-2]: expand(parsed(message)) for message in messages}
        assert all(check_discovery(message.topic, parsed(message)) for message in messages)
        assert told["channel"]["options"] == ["stable", "canary", "beta"]
        assert (
            told["channel"]["device"]["name"] == 'Front "door"'
            and told["channel"]["origin"]["support_url"] == "https://example.org/x"
        )
        assert "rollback" not in told and "restart" not in told and "again" in told
        switch = told["auto_install"]
        seen.wait(switch["state_topic"], switch["payload_off"])
        new = world.release("1.1.0")
        world.offer(new, channel="beta")
        since = seen.publish(f"{BASE}/command/ota/check")
        seen.wait(f"{BASE}/status/ota/waiting", "asked", since)
        answer = f"{BASE}/reply/ota/auto_install"
        since = seen.publish(switch["command_topic"], "perhaps")
        assert parsed(seen.wait(answer, "", since))["error"] == "bad_value"
        since = seen.publish(switch["command_topic"], switch["payload_on"])
        assert parsed(seen.wait(answer, "true", since)) == {"ok": True}
        seen.wait(switch["state_topic"], switch["payload_on"], since)
        seen.wait(f"{BASE}/status/ota/status", "confirmed", since)
        assert seen.of(switch["state_topic"])[-1].text == "true", "it is a preference"


def test_what_modules_declare_appears_obeys_and_is_wrong_alone(tmp_path: Path) -> None:
    with (
        Broker(tmp_path / "broker") as broker,
        Observer(broker) as seen,
        mqtt_world(tmp_path / "world", broker.port, (*MODULES, "greenhouse")) as world,
    ):
        release = world.release("1.0.0", {"modules/greenhouse/__init__.py": GREENHOUSE})
        world.flash(release)
        world.offer(release)
        world.board.start()
        messages = discovery(seen, 0, DEVICE.format("sensor", "broken_g"))
        assert all(check_discovery(message.topic, parsed(message)) for message in messages)
        told = {message.topic.split("/", 1)[1].rpartition("/")[0]: expand(parsed(message)) for message in messages}
        ours = {
            path.replace("/sim-board-sim-0001/", " "): value
            for path, value in told.items()
            if "greenhouse" in path or "broken" in path
        }
        assert list(ours) == [
            "sensor greenhouse_air", "sensor greenhouse_damp", "sensor greenhouse_used", "sensor greenhouse_soil",
            "sensor greenhouse_words", "binary_sensor greenhouse_door", "switch greenhouse_light", "number greenhouse_aim",
            "select greenhouse_mode", "text greenhouse_motto", "button greenhouse_water", "sensor broken_f", "sensor broken_g",
        ]  # fmt: skip
        wanted = ("name", "device_class", "state_class", "unit_of_measurement", "min", "max", "step", "options")
        says = {name: tuple(value[key] for key in wanted if key in value) for name, value in ours.items()}
        assert says["sensor greenhouse_air"] == ("Greenhouse Air", "temperature", "measurement", "°C")
        assert says["sensor greenhouse_damp"] == ("Greenhouse Damp", "humidity", "measurement", "%")
        assert says["sensor greenhouse_used"] == ("Greenhouse Used", "energy", "total_increasing", "kWh")
        assert says["sensor greenhouse_soil"] == ("Greenhouse Soil", "measurement", "%")
        assert says["sensor greenhouse_words"] == ("Greenhouse Words",)
        assert says["binary_sensor greenhouse_door"] == ("Greenhouse Door", "door")
        assert says["number greenhouse_aim"] == ("Greenhouse Aim", "°C", 5, 30, 0.5)
        assert says["select greenhouse_mode"] == ("Greenhouse Mode", ["day", "night"])

        switch = ours["switch greenhouse_light"]
        seen.wait(switch["state_topic"], switch["payload_off"])
        since = seen.publish(switch["command_topic"], switch["payload_on"])
        seen.wait(switch["state_topic"], switch["payload_on"], since)
        for path, payload, arrives in (("aim", "21.5", "21.5"), ("aim", "21", "21"), ("mode", "night", "'night'")):
            mark = world.now()
            seen.publish(f"{BASE}/command/greenhouse/{path}", payload)
            world.board.expect(rf"greenhouse: greenhouse/{path} {arrives}$", PATIENCE_S, mark)
        for path, payload in (("aim", "nan"), ("aim", "31"), ("mode", "dusk"), ("light", "ON"), ("aim", "")):
            since = seen.publish(f"{BASE}/command/greenhouse/{path}", payload)
            assert parsed(seen.wait(f"{BASE}/reply/greenhouse/{path}", "false", since))["error"] == "bad_value"
        mark = world.now()
        world.board.send("greenhouse/light false")
        world.board.expect("greenhouse: greenhouse/light False", PATIENCE_S, mark)

        lines = [line for line in world.board.lines if "greenhouse" in line and " W " in line]
        assert sorted(
            line.partition("greenhouse: in its panel ")[2] for line in lines if "panel" in line and "Home" not in line
        ) == [f"{key} {text}" for key, text in WRONG.items() if "left out" in text]
        text = world.board.console()
        for key, says_it in WRONG.items():
            assert f"module greenhouse: in its panel {key} {says_it}" in text
        assert text.count("greenhouse g is no number: nan") == 1
        assert seen.of(f"{BASE}/status/g") == [] or all(message.text == "" for message in seen.of(f"{BASE}/status/g"))


def test_the_boards_device_classes_and_units_are_home_assistants() -> None:
    lines = [line[1:].split() for line in DATA.read_text().splitlines() if line.startswith("#")]
    assert len(lines) > 20
    for name, *units in lines:
        assert set(units) <= UNITS[name.lstrip("?+")], name
        assert name.startswith("+") == (name.lstrip("?+") in COUNTS), name
    named = [unit for name, *units in lines for unit in units if not name.startswith("?")]
    assert not [unit for unit in named if named.count(unit) > 1 and unit not in ("m³",)], "a unit says one class"


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
