"""Fixtures: a broker, and a world whose boards know it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import Broker, Observer
from tests.support.world import Changes, World
from tests.unit.test_http import certificates

__all__ = ["certificates"]  # a fixture

BASE = "sim-board/sim-0001"
MODULES = ("serial_log", "wifi", "ota", "mqtt")
WITH_LAMP = (*MODULES, "lamp")

# A module that measures how late its own ticks are, obeys commands, and can be busy
LAMP = b"""from iot_platform.module import Module as Base
import time

class Module(Base):
    name = "lamp"
    last = None
    longest = 0
    why = None

    def tick(self):
        now = time.ticks_ms()
        if self.last is not None:
            self.longest = max(self.longest, time.ticks_diff(now, self.last))
        self.last = now

    def busy(self):
        return self.why

    def on_command(self, command):
        if command.path == "lamp/busy":
            self.why = command.payload or None
        elif command.path == "lamp/reset":
            self.longest = 0
        elif command.path == "lamp/level":
            self.platform.bus.publish("lamp/level", command.payload)
        elif command.path == "lamp/gap":
            self.platform.log("lamp: longest gap", self.longest, "ms")
        else:
            self.platform.log("lamp:", command.path, command.payload, "from", command.source)
"""
LAMP_FILES: Changes = {"modules/lamp/__init__.py": LAMP}


def mqtt_world(folder: Path, port: int, modules: tuple[str, ...] = MODULES, heap: str | None = None, **settings: Any) -> World:
    """Boards that know the broker at a port. Short deadlines: nothing here is far away."""
    section = {"host": "127.0.0.1", "port": port, "keepalive_s": 6, "timeout_s": 5, "noisy_s": 2, "spread_s": 2}
    section.update({"commands": ["rollback", "confirm", "channel", "restart", "name", "group", "tags", "log"], **settings})
    world = World(folder, modules=modules, sections={"mqtt": section, "ntp": None})
    world.board.heap = os.environ.get("MQTT_HEAP") or heap or world.board.heap
    return world


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def seen(broker: Broker) -> Iterator[Observer]:
    with Observer(broker) as observer:
        yield observer


@pytest.fixture
def world(tmp_path: Path, broker: Broker) -> Iterator[World]:
    with mqtt_world(tmp_path / "world", broker.port, WITH_LAMP) as made:
        yield made
