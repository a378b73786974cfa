"""What can be said to a board over MQTT, against a real mosquitto, and what it answers."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.mqtt.conftest import BASE, LAMP_FILES, mqtt_world
from tests.support.broker import Broker, Observer, parsed
from tests.support.world import PATIENCE_S, World, noise

CONNECTED = "mqtt: connected to"
UPDATE = f"{BASE}/command/ota/update"


def ended(state: dict[str, Any]) -> bool:
    return state["installed_version"] == state["latest_version"] == "1.1.0" and not state["in_progress"]


def start(world: World, seen: Observer) -> None:
    """A board with 1.0.0, connected, with nothing to do."""
    old = world.release("1.0.0", LAMP_FILES)
    world.flash(old)
    world.offer(old)
    since = world.now()
    world.board.start()
    world.board.expect(r"ota: up to date", PATIENCE_S, since)
    seen.wait_for(lambda m: m.topic == f"{BASE}/status/online" and m.text == "true" and not m.retained)


def test_a_command_leads_to_an_update_that_is_confirmed_and_says_so_after_the_restart(world: World, seen: Observer) -> None:
    start(world, seen)
    seen.wait(f"{BASE}/status/version", "1.0.0")
    new = world.release("1.1.0", {**LAMP_FILES, "www/a.txt": b"a" * 50_000})
    world.offer(new)
    since = seen.publish(UPDATE)
    assert parsed(seen.wait(f"{BASE}/reply/ota/update", "started", since)) == {"ok": True, "state": "started"}
    final = parsed(seen.wait(f"{BASE}/reply/ota/update", "version", since))
    assert final == {"ok": True, "state": "confirmed", "version": "1.1.0"}
    seen.wait(f"{BASE}/status/version", "1.1.0", since)
    seen.wait(f"{BASE}/status/ota/status", "confirmed", since)
    seen.wait_for(lambda m: m.topic == f"{BASE}/update" and parsed(m)["in_progress"], since)
    seen.wait_for(lambda m: m.topic == f"{BASE}/update" and ended(parsed(m)), since)
    assert seen.of(f"{BASE}/status/online", since)[0].text == "false", "the board did not say that it restarts"
    world.assert_runs(new, {**LAMP_FILES, "www/a.txt": b"a" * 50_000})


def test_the_reason_of_a_refusal_is_replied(world: World, seen: Observer) -> None:
    start(world, seen)
    wrong = world.release("1.1.0", {**LAMP_FILES, "www/new": noise(1, 3_000)})
    world.offer(wrong)
    path = world.site / "sim-board" / "1.1.0.tar.gz"
    path.write_bytes(path.read_bytes()[:-200] + b"x" * 200)
    since = seen.publish(UPDATE)
    final = parsed(seen.wait(f"{BASE}/reply/ota/update", "message", since))
    assert (final["ok"], final["error"], final["version"]) == (False, "bad_bundle", "1.0.0")
    seen.wait(f"{BASE}/status/ota/error", "bad_bundle", since)
    since = seen.publish(f"{BASE}/command/ota/confirm")
    assert parsed(seen.wait(f"{BASE}/reply/ota/confirm", "", since))["error"] == "not_allowed"
    since = seen.publish(f"{BASE}/command/ota/rollback")
    seen.wait(f"{BASE}/reply/ota/rollback", "started", since)
    assert parsed(seen.wait(f"{BASE}/reply/ota/rollback", "message", since))["error"] == "no_update"
    since = seen.publish(f"{BASE}/command/ota/channel", "no such/../channel")
    assert parsed(seen.wait(f"{BASE}/reply/ota/channel", "", since))["error"] == "not_allowed"
    since = seen.publish(f"{BASE}/command/ota/channel", "canary")
    assert parsed(seen.wait(f"{BASE}/reply/ota/channel", "", since)) == {"ok": True, "channel": "canary"}
    seen.wait(f"{BASE}/status/ota/channel", "canary", since)


def test_a_command_that_another_one_follows_is_answered_too(world: World, seen: Observer) -> None:
    """Only one is remembered until it is done: the one before is not left without an answer."""
    start(world, seen)
    go_on = threading.Event()
    world.server.trick = lambda _handler: not go_on.wait(PATIENCE_S)  # a check is not over before
    since = seen.publish(f"{BASE}/command/ota/check")
    seen.wait(f"{BASE}/reply/ota/check", "started", since)
    seen.publish(UPDATE)
    seen.wait(f"{BASE}/reply/ota/update", "started", since)
    go_on.set()
    told = parsed(seen.wait(f"{BASE}/reply/ota/check", "message", since))
    assert (told["ok"], told["error"]) == (False, "interrupted") and "ota/update" in told["message"]
    assert parsed(seen.wait(f"{BASE}/reply/ota/update", "version", since))["ok"]
    assert len(seen.of(f"{BASE}/reply/ota/check", since)) == 2


def test_what_the_profile_does_not_allow_is_not_done(tmp_path: Path) -> None:
    """Whoever gets into the broker cannot take boards back, keep a release on trial, or move and restart them."""
    with Broker(tmp_path / "broker") as broker, mqtt_world(tmp_path / "world", broker.port, commands=[]) as world:
        old = world.release("1.0.0")
        world.flash(old, {"prefs.json": b'{"mqtt.commands": ["restart"]}'})
        world.offer(old)
        world.board.start()
        with Observer(broker) as seen:
            seen.wait(f"{BASE}/status/online", "true")
            for path in ("ota/rollback", "ota/confirm", "ota/channel", "restart", "name", "group", "tags", "log", "wifi"):
                since = seen.publish(f"{BASE}/command/{path}", "canary")
                answer = parsed(seen.wait(f"{BASE}/reply/{path}", "", since))
                assert answer["error"] == "not_allowed" and "mqtt.commands" in answer["message"], path
            since = seen.publish(f"{BASE}/command/ota/check")
            assert parsed(seen.wait(f"{BASE}/reply/ota/check", "up_to_date", since))["ok"]
            buttons = [message.topic.split("/")[-2] for message in seen.messages if "/button/" in message.topic and message.text]
            assert buttons == ["check", "again"]
        assert len(world.board.restarts) == 0


def test_other_commands_reach_the_modules_and_garbage_is_told_once(world: World, seen: Observer) -> None:
    start(world, seen)
    mark = world.now()
    since = seen.publish(f"{BASE}/command/lamp/colour", "green")
    world.board.expect(r"lamp: lamp/colour green from mqtt", PATIENCE_S, mark)
    assert parsed(seen.wait(f"{BASE}/reply/lamp/colour", "", since))["ok"]
    mark = world.now()
    for _ in range(5):
        seen.publish(f"{BASE}/command/ota/update", b"\xff\xfe\x00 no text")
    for _ in range(5):
        seen.publish(f"{BASE}/command/lamp/colour", b"x" * 100_000)
    for _ in range(5):
        seen.publish(f"{BASE}/command/lamp/colour", b"x" * 260)
    seen.publish(f"{BASE}/command/lamp/end")
    world.board.expect(r"lamp: lamp/end", PATIENCE_S, mark)
    lines = [line for line in world.board.lines[mark:] if "mqtt:" in line and "command lamp/end" not in line]
    assert len(lines) == 3, "\n".join(lines)
    assert "ignored" in lines[0] and "ignored" in lines[1]
    assert not [line for line in world.board.lines[mark:] if "no connection" in line]


def test_a_retained_command_is_ignored_at_every_connection(world: World, seen: Observer, broker: Broker) -> None:
    seen.publish(UPDATE, "install", retain=True)
    start(world, seen)
    world.board.expect(r"ignored: a retained command", PATIENCE_S)
    assert not seen.of(f"{BASE}/reply/ota/update")
    assert not [line for line in world.board.lines if "mqtt: command" in line]
    seen.publish(UPDATE, "", retain=True)


def test_a_broadcast_of_a_newer_version_makes_the_board_check_after_a_while(world: World, seen: Observer) -> None:
    start(world, seen)
    mark = world.now()
    seen.publish("iot-platform/version", "1.0.0", retain=True)
    seen.publish("iot-platform/version", "not a version")
    seen.publish("iot-platform/version", "1.1.0", retain=True)
    found = world.board.expect(r"version (\S+) was announced, checking in (\d) s", PATIENCE_S, mark)
    assert found[1] == "1.1.0" and int(found[2]) <= 2
    world.board.expect(r"ota: up to date", PATIENCE_S, mark)
    console = world.lines_since(mark)
    assert console.index("was announced") < console.index("up to date")
    assert len(re.findall("was announced", console)) == 1


@pytest.mark.parametrize("settled", [True, False])
def test_a_board_that_was_away_tells_the_final_state(world: World, seen: Observer, broker: Broker, settled: bool) -> None:
    """The broker restarts with nothing kept: everything is told again, and the boards hear what they are told."""
    start(world, seen)
    seen.publish(f"{BASE}/command/lamp/level", "1")
    seen.wait(f"{BASE}/status/lamp/level", "1")
    broker.stop()
    mark = world.now()
    world.board.expect(r"mqtt: no connection to 127\.0\.0\.1: .*trying again in \d+ s", PATIENCE_S, mark - 5)
    for level in range(2, 40 if settled else 3):  # more than any queue would hold
        world.board.send(f"lamp/level {level}")
    since = seen.now()
    broker.start()
    world.board.expect(CONNECTED, PATIENCE_S, mark)
    seen.wait(f"{BASE}/status/lamp/level", "39" if settled else "2", since)
    seen.wait(f"{BASE}/status/online", "true", since)
    seen.wait(f"{BASE}/status/version", "1.0.0", since)
    seen.wait(f"{BASE}/update", "1.0.0", since)
    seen.wait("homeassistant/update/sim-board-sim-0001/firmware/config", "cmd_t", since)
    levels = [message.text for message in seen.of(f"{BASE}/status/lamp/level", since)]
    assert len(set(levels)) == 1, "what lay in between is not told"
    since = seen.publish(f"{BASE}/command/lamp/colour", "red")
    seen.wait(f"{BASE}/reply/lamp/colour", "", since)
    refused = [line for line in world.board.lines[mark:] if "no connection" in line]
    assert len(refused) <= 3, "one line for each kind of failure, not for each attempt"


def test_a_rollout_reaches_the_group_that_it_names_and_a_board_stays_in_its_group(world: World, seen: Observer) -> None:
    start(world, seen)
    for path, text, error in (
        ("group", "../house", "bad_value"),
        ("name", "my.kitchen", "bad_value"),
        ("name", "k" * 33, "bad_value"),
        ("tags", "a\nb", "bad_value"),
        ("group", "house", None),
        ("tags", "outside, dry", None),
    ):
        since = seen.publish(f"{BASE}/command/{path}", text)
        assert parsed(seen.wait(f"{BASE}/reply/{path}", "", since)).get("error") == error, text
    seen.wait(f"{BASE}/status/group", "house")
    new = world.release("1.1.0", LAMP_FILES)
    world.offer(new, rollout=0, groups={"cellar": 100})
    mark = world.type("ota check")
    world.board.expect("ota: up to date", PATIENCE_S, mark)
    assert "this board is not in the rollout yet" in world.lines_since(mark)
    world.offer(new, rollout=0, groups={"cellar": 0, "house": 100})
    since = seen.now()
    world.update_to(new)
    for key, text in (("version", "1.1.0"), ("group", "house"), ("tags", "outside, dry")):
        seen.wait_for(lambda m, key=key, text=text: (m.topic, m.text, m.retained) == (f"{BASE}/status/{key}", text, False), since)  # type: ignore[misc]
    since = seen.publish(f"{BASE}/command/group")
    seen.wait_for(lambda m: m.topic == f"{BASE}/status/group" and not m.text, since)


def test_the_logs_lines_are_told_to_who_asks_and_go_on_where_they_were(world: World, seen: Observer) -> None:
    start(world, seen)
    assert not seen.of(f"{BASE}/log")
    since = seen.publish(f"{BASE}/command/log")
    world.type("say something")
    seen.wait(f"{BASE}/log", "lamp: say something", since)
    told = [message.text.partition(" ") for message in seen.of(f"{BASE}/log")]
    numbers = [int(number) for number, _space, _line in told]
    assert numbers == list(range(numbers[0], numbers[0] + len(told))) and len(told) > 5
    assert all(line in world.board.lines for _number, _space, line in told)
    since = seen.publish(f"{BASE}/command/log", str(numbers[-1]))
    again = seen.wait(f"{BASE}/log", "", since).text.partition(" ")
    assert again == told[-1], "it goes on from there"
    since = seen.publish(f"{BASE}/command/log", "100000")
    assert int(seen.wait(f"{BASE}/log", "", since).text.split(" ")[0]) <= numbers[0] + 5, (
        "a number of before a restart: from the first one"
    )
