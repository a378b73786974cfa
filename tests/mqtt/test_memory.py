"""All modules, connected to a real mosquitto, in a heap of 128 KB: what is free at rest."""

from __future__ import annotations

import time
from pathlib import Path

from tests.mqtt.conftest import BASE, mqtt_world
from tests.support import figures
from tests.support.broker import Broker, Observer, parsed
from tests.support.ports import free_port

ALL = ("serial_log", "wifi", "ota", "web", "mqtt")
AT_REST = 16 * 1024


def test_all_modules_leave_room_in_128_kilobytes(tmp_path: Path, broker: Broker, seen: Observer) -> None:
    with mqtt_world(tmp_path / "world", broker.port, ALL, heap="128k", noisy_s=1) as world:
        world.board.env["SIMULATOR_WEB_PORT"] = str(free_port())
        release = world.release("1.0.0")
        world.flash(release)
        world.offer(release)
        world.board.start()
        seen.wait(f"{BASE}/status/mqtt/state", "connected")
        told = seen.wait("homeassistant/update/sim-board-sim-0001/firmware/config")
        assert parsed(told)["device"]["configuration_url"] == "http://127.0.0.1/", "there is a page"
        time.sleep(8)  # freeram counts garbage as taken: some values, of which the largest is nearest to the truth
        free = max(int(message.text) for message in seen.of(f"{BASE}/status/freeram"))
        assert not [line for line in world.board.lines if "MemoryError" in line or "switched off" in line]
        figures.note("free heap of 128 KB with all modules and MQTT", f"{free} bytes at rest")
        assert free >= AT_REST
