"""MQTT's settings: kept, never shown, and used at once, with a real broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.broker import Broker, Observer
from tests.web.conftest import MODULES, PATIENCE_S, Client, WebWorld

SECRET = "mqtt-secret"


@pytest.fixture
def mqtt_world(web_world: WebWorld) -> WebWorld:
    """A board whose profile names no broker."""
    web_world.start(web_world.release("1.0.0", modules=(*MODULES, "mqtt")))
    return web_world


def test_settings_are_used_without_a_restart(mqtt_world: WebWorld, tmp_path: Path) -> None:
    client = mqtt_world.client()
    assert client.get("/api/values").json["mqtt/state"] == "off"
    with Broker(tmp_path / "broker", users={"door": SECRET, "watcher": "eyes"}) as broker:
        since = mqtt_world.now()
        settings = {"host": "127.0.0.1", "port": broker.port, "user": "door", "password": SECRET}
        assert client.post("/api/mqtt", settings).status == 204
        with Observer(broker, "watcher", "eyes") as seen:
            seen.wait("sim-board/sim-0001/status/version", "1.0.0")
            seen.publish("sim-board/sim-0001/command/ota/check")
            seen.wait("sim-board/sim-0001/reply/ota/check")
        answer = client.get("/api/mqtt")
        assert answer.json == {**settings, "password": True, "tls": False}
        # an empty host ends it, and the settings outlive the power
        assert client.post("/api/mqtt", {"host": ""}).status == 204
        assert client.get("/api/values").json["mqtt/state"] == "off"
        assert client.post("/api/mqtt", {"host": "127.0.0.1"}).status == 204
        mqtt_world.board.expect("mqtt: connected", PATIENCE_S, since)
        since = mqtt_world.now()
        mqtt_world.board.power_cycle()
        mqtt_world.board.expect("mqtt: connected", PATIENCE_S, since)
    texts = [answer.body.decode(), mqtt_world.board.console(), client.get("/api/values").body.decode()]
    assert not [text for text in texts if SECRET in text]


def test_two_browsers_and_home_assistant_press_install_at_once(mqtt_world: WebWorld, tmp_path: Path) -> None:
    """One update, and all see it."""
    first, second = mqtt_world.client(), mqtt_world.client()
    with Broker(tmp_path / "broker") as broker, Observer(broker) as seen:
        assert first.post("/api/mqtt", {"host": "127.0.0.1", "port": broker.port}).status == 204
        seen.wait("sim-board/sim-0001/status/version", "1.0.0")
        mqtt_world.offer(mqtt_world.release("1.1.0", {"www/new": b"x" * 9000}, modules=(*MODULES, "mqtt")))
        since = mqtt_world.now()
        seen.publish("sim-board/sim-0001/command/ota/update", "install")
        asked = [client.post("/api/ota/update").status for client in (first, second)]
        mqtt_world.board.expect("confirmed: version 1.1.0 stays", PATIENCE_S, since)
        replies = [message.text for message in seen.of("sim-board/sim-0001/reply/ota/update")]
        assert sum(["started" in text for text in replies]) + asked.count(202) == 1, (replies, asked)
        assert mqtt_world.lines_since(since).count("is on trial, boot 1") == 1
        assert [client.get("/api/values").json["version"] for client in (first, second)] == ["1.1.0", "1.1.0"]
        seen.wait("sim-board/sim-0001/status/version", "1.1.0")


def test_what_mqtt_would_refuse_is_refused_and_changes_nothing(mqtt_world: WebWorld) -> None:
    client = mqtt_world.client()
    before = client.get("/api/mqtt").json
    wrong: list[tuple[dict[str, object], str]] = [
        ({"host": "a b"}, "mqtt.host"),
        ({"host": 3}, "mqtt.host"),
        ({"port": 70_000}, "mqtt.port"),
        ({"port": True}, "mqtt.port"),
        ({"port": "1"}, "mqtt.port"),
        ({"user": "x" * 129}, "mqtt.user"),
        ({"tls": 1}, "mqtt.tls"),
        ({"password": "x"}, "mqtt.user"),
        ({"ca": "/x.pem"}, "host, port, user, password, tls"),
        ({"host": "ok", "nothing": 1}, "host, port, user, password, tls"),
    ]
    for settings, said in wrong:
        answer = client.post("/api/mqtt", settings)
        assert (answer.status, answer.json["error"]) == (400, "bad_value") and said in answer.json["message"], settings
    assert client.get("/api/mqtt").json == before
    files = mqtt_world.stop().files
    assert not [name for name in files if name.startswith("prefs.json") and b"mqtt." in files[name]]


def test_a_board_without_the_module_has_no_such_settings(shared: WebWorld) -> None:
    client: Client = shared.client()
    for answer in (client.get("/api/mqtt"), client.post("/api/mqtt", {"host": "x"})):
        assert (answer.status, answer.json["error"]) == (409, "not_configured")
