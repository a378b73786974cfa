"""What a board says over MQTT in an update boot: it is there, it is at work, and the command that led to it gets its answer."""

from __future__ import annotations

import json
import time

from tests.mqtt.conftest import BASE, LAMP_FILES
from tests.support.broker import Observer, parsed
from tests.support.world import PATIENCE_S, Handler, World

NOTE = {".ota/job.0": b"{}"}


def boot(world: World, seen: Observer, more: dict[str, bytes]) -> None:
    """A board with 1.0.0 and a note of OTA, connected."""
    release = world.release("1.0.0", LAMP_FILES)
    world.flash(release, {**NOTE, **more})
    world.offer(release)
    world.board.start()
    world.board.expect(r"update boot 1 of 3: only", PATIENCE_S)
    seen.wait(f"{BASE}/status/online", "true")


def _slowly(handler: Handler) -> bool:
    time.sleep(3)
    return False


def test_the_entity_is_in_progress_in_an_update_boot_until_the_job_is_over(world: World, seen: Observer) -> None:
    world.server.trick = _slowly
    boot(world, seen, {})
    seen.wait(f"{BASE}/status/update_boot", "1")
    running = world.board.expect(r"I running: (.*) free memory", PATIENCE_S)
    assert set(running[1].split(", ")) == {"serial_log", "wifi", "ota", "mqtt"}, "and not the lamp"
    since = seen.now()
    world.type("ota check")
    seen.wait(f"{BASE}/status/ota/status", "checking", since)
    seen.wait_for(lambda m: m.topic == f"{BASE}/update" and bool(m.text) and parsed(m)["in_progress"], since)
    seen.wait_for(lambda m: m.topic == f"{BASE}/update" and bool(m.text) and not parsed(m)["in_progress"], since)


def test_the_command_that_led_to_an_update_boot_is_answered_when_its_job_is_over(world: World, seen: Observer) -> None:
    since = seen.now()
    boot(world, seen, {"prefs.json": json.dumps({"mqtt.pending": "ota/check"}).encode()})
    mark = world.type("ota check")
    world.board.expect("ota: up to date", PATIENCE_S, mark)
    final = parsed(seen.wait(f"{BASE}/reply/ota/check", "", since))
    assert final == {"ok": True, "state": "up_to_date", "version": "1.0.0"}, "and not that it was interrupted"
