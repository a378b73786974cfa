"""What Home Assistant shows is true, before, during and after an update; against mosquitto."""

from __future__ import annotations

import threading
from itertools import dropwhile
from pathlib import Path
from typing import Any

from tests.mqtt.conftest import BASE, LAMP, LAMP_FILES, WITH_LAMP, mqtt_world
from tests.mqtt.home_assistant import STATE, check
from tests.mqtt.test_commands import UPDATE, start
from tests.support.broker import Broker, Message, Observer, parsed
from tests.support.world import NEVER, PATIENCE_S, Changes, Slowly, World, noise

ENTITY = f"{BASE}/update"
PROBLEM = f"{BASE}/status/ota/problem"
REPLY = f"{BASE}/reply/ota/update"
FAILS: Changes = {"modules/lamp/__init__.py": LAMP + b"    def start(self):\n        raise ValueError('no bulb')\n"}


def states(seen: Observer, since: int) -> list[dict[str, Any]]:
    """Of the update entity."""
    return [parsed(message) for message in seen.of(ENTITY, since) if message.text]


def wait_state(seen: Observer, since: int, **wanted: Any) -> dict[str, Any]:
    """Wait for a state of the update entity with these values."""

    def is_it(message: Message) -> bool:
        return message.topic == ENTITY and bool(message.text) and {**parsed(message), **wanted} == parsed(message)

    found: dict[str, Any] = parsed(seen.wait_for(is_it, since))
    check(found, STATE, ("installed_version", "latest_version", "title", "in_progress", "release_summary"))
    return found


def restarted(world: World, seen: Observer) -> int:
    """Pull the plug and put it back; the number of the first message of what the board says then."""
    since = seen.now()
    world.board.power_cycle()
    seen.wait_for(lambda m: m.topic == f"{BASE}/status/online" and m.text == "true" and not m.retained, since)
    return since


def test_an_update_is_in_progress_from_the_press_to_its_confirmation(world: World, seen: Observer) -> None:
    start(world, seen)
    told = wait_state(seen, 0, installed_version="1.0.0", latest_version="1.0.0", in_progress=False, release_summary="")
    assert "release_url" not in told, "a link that leads nowhere"
    new = world.release("1.1.0", {**LAMP_FILES, "www/a.txt": b"a" * 90_000}, notes="Closes at dusk.")
    world.offer(new)
    world.server.trick = Slowly(6.0)
    since = seen.publish(UPDATE, "install")
    seen.wait(REPLY, "confirmed", since)
    wait_state(seen, since, installed_version="1.1.0", latest_version="1.1.0", in_progress=False, release_summary="")
    # What the board told last before it heard of the press may come after it
    *going_on, _last = dropwhile(lambda state: not state["in_progress"], states(seen, since))
    assert going_on
    assert all(state["in_progress"] and state["installed_version"] == "1.0.0" for state in going_on), going_on
    percent = [state["update_percentage"] for state in going_on]
    assert percent == sorted(percent) and len(set(percent)) > 2 and percent[-1] == 90, "of the whole update"
    assert {state["release_summary"] for state in going_on[2:]} == {"Closes at dusk."}
    trial = seen.messages.index(seen.wait(f"{BASE}/status/ota/status", "trial", since))
    assert seen.of(f"{BASE}/status/online", since)[-1].text == "true" and seen.of(f"{BASE}/status/online", trial) == []


def test_what_was_offered_is_told_again_and_an_order_survives_a_loss_of_power(world: World, seen: Observer) -> None:
    world.ota["auto_install"] = False
    start(world, seen)
    new = world.release("1.1.0", {**LAMP_FILES, "www/a.txt": noise(1, 60_000)}, notes="Closes at dusk.")
    world.offer(new)
    since = seen.publish(f"{BASE}/command/ota/check")
    assert parsed(seen.wait(f"{BASE}/reply/ota/check", "available", since))["available"] == "1.1.0"
    wait_state(seen, since, latest_version="1.1.0", release_summary="Closes at dusk.")
    assert not any(state["in_progress"] for state in states(seen, since)), "it is only a check"

    since = restarted(world, seen)
    told = wait_state(seen, since, installed_version="1.0.0", latest_version="1.1.0", in_progress=False)
    assert told["release_summary"] == "Closes at dusk."
    seen.wait(f"{BASE}/status/ota/available", "1.1.0", since)
    seen.wait(f"{BASE}/status/ota/waiting", "asked: auto_install is off", since)

    world.server.trick = Slowly(6.0)
    mark = world.now()
    seen.publish(UPDATE, "install")
    world.board.expect(r"ota: downloading [1-5]\d%", PATIENCE_S, mark)
    since = restarted(world, seen)
    world.server.trick = None
    wait_state(seen, since, installed_version="1.0.0", in_progress=True)
    assert parsed(seen.wait(REPLY, "", since)) == {"ok": True, "state": "confirmed", "version": "1.1.0"}
    world.assert_runs(new)


def test_a_failed_update_is_a_problem_until_one_succeeds_and_is_tried_again_by_hand(world: World, seen: Observer) -> None:
    start(world, seen)
    assert parsed(seen.wait(PROBLEM)) == {"problem": False}
    bad = world.release("1.1.0", {**LAMP_FILES, **FAILS}, notes="Brighter.")
    world.offer(bad)
    since = seen.publish(UPDATE, "install")
    final = parsed(seen.wait(REPLY, "rolled_back", since))
    told = parsed(seen.wait(PROBLEM, "module_failed", since))
    assert told == {"problem": True, "version": "1.1.0", "reason": "module_failed", "message": final["message"]}
    happened = parsed(seen.wait(f"{BASE}/event", "", since))
    assert happened == {"event_type": "rolled_back", **told}
    wait_state(seen, since, installed_version="1.0.0", latest_version="1.1.0", in_progress=False, release_summary="Brighter.")

    since = seen.publish(f"{BASE}/command/ota/check")
    assert parsed(seen.wait(f"{BASE}/reply/ota/check", "message", since))["error"] == "failed_before"
    wait_state(seen, since, latest_version="1.1.0", in_progress=False)
    assert parsed(seen.of(PROBLEM)[-1])["reason"] == "module_failed"

    mark = world.now()
    since = seen.publish(UPDATE, "install")
    world.board.expect("version 1.1.0 is on trial, boot 1", PATIENCE_S, mark)
    assert parsed(seen.wait(REPLY, "rolled_back", since))["error"] == "module_failed"

    good = world.release("1.2.0", LAMP_FILES)
    world.offer(good)
    since = seen.publish(UPDATE, "install")
    seen.wait(REPLY, "confirmed", since)
    wait_state(seen, since, installed_version="1.2.0", latest_version="1.2.0", in_progress=False, release_summary="")
    assert parsed(seen.wait(PROBLEM, "false", since)) == {"problem": False}


def test_a_refused_update_is_a_problem_after_a_restart_too_and_is_tried_again_by_hand(world: World, seen: Observer) -> None:
    start(world, seen)
    world.offer(world.release("1.1.0", {**LAMP_FILES, "www/new": noise(1, 3_000)}, notes="Brighter."))
    archive = world.site / "sim-board" / "1.1.0.tar.gz"
    good = archive.read_bytes()
    archive.write_bytes(good[:-200] + b"x" * 200)
    since = seen.publish(UPDATE, "install")
    final = parsed(seen.wait(REPLY, "message", since))
    told = parsed(seen.wait(PROBLEM, "true", since))
    assert told == {"problem": True, "version": "1.1.0", "reason": final["error"], "message": final["message"]}
    assert parsed(seen.wait(f"{BASE}/event", "", since)) == {"event_type": "failed", **told}
    wait_state(seen, since, installed_version="1.0.0", latest_version="1.1.0", in_progress=False)

    since = restarted(world, seen)
    wait_state(seen, since, latest_version="1.1.0", in_progress=False, release_summary="Brighter.")
    assert parsed(seen.wait(PROBLEM, "true", since)) == told
    assert seen.of(f"{BASE}/event", since) == [], "it has not happened again"
    archive.write_bytes(good)
    since = seen.publish(UPDATE, "install")
    seen.wait(REPLY, "confirmed", since)


def test_what_is_ready_is_told_after_a_restart_and_install_comes_after_a_check(world: World, seen: Observer) -> None:
    world.ota["window"] = NEVER
    start(world, seen)
    world.offer(world.release("1.1.0", LAMP_FILES))
    since = seen.publish(f"{BASE}/command/ota/check")
    seen.wait(f"{BASE}/reply/ota/check", "ready", since)
    since = restarted(world, seen)
    wait_state(seen, since, installed_version="1.0.0", latest_version="1.1.0", in_progress=False)
    seen.wait(f"{BASE}/status/ota/status", "ready", since)
    seen.wait(f"{BASE}/status/ota/waiting", NEVER, since)

    pressed = threading.Event()
    world.server.trick = lambda _handler: not pressed.wait(PATIENCE_S)  # the server answers once somebody has pressed Install
    since = seen.publish(f"{BASE}/command/ota/check")
    seen.wait(f"{BASE}/status/ota/status", "checking", since)
    since = seen.publish(UPDATE, "install")
    assert parsed(seen.wait(REPLY, "", since)) == {"ok": True, "state": "started"}
    wait_state(seen, since, in_progress=True)
    since = seen.publish(UPDATE, "install")
    assert parsed(seen.wait(REPLY, "", since))["error"] == "busy", "one is enough"
    pressed.set()
    assert parsed(seen.wait(REPLY, "version", since)) == {"ok": True, "state": "confirmed", "version": "1.1.0"}


def test_what_the_broker_has_kept_and_nobody_tells_any_more_is_cleared(world: World, seen: Observer, broker: Broker) -> None:
    old = {"ota/waiting": "window 02:00-04:30", "ota/available": "0.9.0", "module/fan": "off: it failed"}
    for key, value in old.items():
        seen.publish(f"{BASE}/status/{key}", value, retain=True)
    start(world, seen)
    for key in old:
        seen.wait_for(lambda m, topic=f"{BASE}/status/{key}": m.topic == topic and m.text == "")  # type: ignore[misc]
    since = seen.publish(f"{BASE}/command/lamp/level", "5")
    seen.wait(f"{BASE}/status/lamp/level", "5", since)
    assert "Received UNSUBSCRIBE from sim-board-sim-0001" in broker.log, "it hears its own words for ever"


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
