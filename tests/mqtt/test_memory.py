"""All modules, connected to a real mosquitto, in a heap of 128 KB: it boots, and updates itself by either kind of bundle."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.mqtt.conftest import BASE, mqtt_world
from tests.support import figures
from tests.support.broker import Broker, Observer
from tests.support.ports import free_port
from tests.support.world import PATIENCE_S

ALL = ("serial_log", "wifi", "ota", "web", "mqtt")
_STORY = b"What one line more or less of a page costs, on the way to a board that goes on with its work.\n" * 49
_ENDS = r"(?:check|update|trial|clean_up|install) failed: .*$"


@pytest.mark.parametrize("deltas", [0, 1], ids=["full", "delta"])
def test_all_modules_update_themselves_in_128_kilobytes(tmp_path: Path, broker: Broker, seen: Observer, deltas: int) -> None:
    with mqtt_world(tmp_path / "world", broker.port, ALL, heap="128k") as world:
        world.board.env["SIM_WEB_PORT"] = str(free_port())
        old = world.release("1.0.0", {"www/story.txt": _STORY})
        new = world.release("1.1.0", {"www/story.txt": _STORY.replace(b"a board", b"the board", 1)})
        world.flash(old)
        world.offer(old)
        world.boot()
        seen.wait(f"{BASE}/status/mqtt/state", "connected")
        world.offer(new, deltas=deltas)
        since = world.type("ota check")
        found = world.board.expect(rf"ota: confirmed: version 1\.1\.0 stays|{_ENDS}", PATIENCE_S, since)
        assert "confirmed" in found.string, found.string
        seen.wait(f"{BASE}/status/ota/status", "confirmed")
        story = world.lines_since(since)
        assert "1.0.0-1.1.0.tar.gz" in str([r.path for r in world.server.requests]) or not deltas
        assert story.count("short of memory") <= 4, "each job may begin twice more, when the others have given back what they can"
        rest = re.search(r"running: .* free memory (\d+)", world.board.console())
        lowest = re.search(r"lowest free memory of this update: (\d+) bytes", story)
        assert rest and lowest
        kind = "delta" if deltas else "full bundle"
        text = f"{rest[1]} bytes at rest, {lowest[1]} at the lowest of an update by {kind}"
        figures.note(f"free heap of 128 KB with all modules and MQTT, {kind}", text)
