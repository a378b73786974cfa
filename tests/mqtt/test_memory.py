"""All modules, connected to a real mosquitto, in a heap of 128 KB: what is free at rest."""

from __future__ import annotations

import time
from pathlib import Path

from tests.mqtt.conftest import BASE, MODULES, mqtt_world
from tests.mqtt.home_assistant import expand
from tests.support import figures
from tests.support.broker import Broker, Observer, parsed
from tests.support.ports import free_port

ALL = ("serial_log", "wifi", "ota", "web", "mqtt")
AT_REST = 16 * 1024


def test_all_modules_leave_room_in_128_kilobytes(tmp_path: Path, broker: Broker, seen: Observer) -> None:
    with mqtt_world(tmp_path / "world", broker.port, ALL, heap="128k", noisy_s=1) as world:
        world.board.env["SIMULATOR_WEB_PORT"] = str(free_port())
        world.sections["web"] = {"port": 8080}
        release = world.release("1.0.0")
        world.flash(release)
        world.offer(release)
        world.board.start()
        seen.wait(f"{BASE}/status/mqtt/state", "connected")
        told = seen.wait("homeassistant/update/sim-board-sim-0001/firmware/config")
        assert expand(parsed(told))["device"]["configuration_url"] == "http://127.0.0.1:8080/", "there is a page"
        time.sleep(8)  # freeram counts garbage as taken: some values, of which the largest is nearest to the truth
        free = max(int(message.text) for message in seen.of(f"{BASE}/status/freeram"))
        assert not [line for line in world.board.lines if "MemoryError" in line or "switched off" in line]
        assert "ota: up to date" in world.board.console() and "no_memory" not in world.board.console(), "a check has room"
        figures.note("free heap of 128 KB with all modules and MQTT", f"{free} bytes at rest")
        assert free >= AT_REST


_HOG = b"""import gc
import time
from iot_platform.module import Module as Base

class Module(Base):
    name = "hog"
    kept = until = None

    def tick(self):
        if self.until is None:
            return
        if time.ticks_diff(self.until, time.ticks_ms()) < 0:
            self.kept = self.until = None
            self.platform.log("hog none")
        gc.collect()
        while self.until is not None and self.platform.board.mem_free() > 3500:
            self.kept = (bytearray(48), self.kept)

    def on_command(self, command):
        if command.path == "hog":  # it takes all of the memory for some seconds
            self.until = time.ticks_add(time.ticks_ms(), 8000)
            self.tick()
            self.platform.log("hog all")
"""


def test_a_command_for_which_there_is_no_memory_is_answered_so(tmp_path: Path, broker: Broker, seen: Observer) -> None:
    with mqtt_world(tmp_path / "world", broker.port, (*MODULES, "hog")) as world:
        release = world.release("1.0.0", {"modules/hog/__init__.py": _HOG})
        world.flash(release)
        world.offer(release)
        world.boot("ota: .*up to date")
        seen.wait(f"{BASE}/status/mqtt/state", "connected")
        since = world.type("hog all")
        world.board.expect("hog all", 20, since)
        seen.publish(f"{BASE}/command/ota/check")
        told = parsed(seen.wait(f"{BASE}/reply/ota/check"))
        assert (told["ok"], told["error"]) == (False, "no_memory") and told["message"]
        world.board.expect("hog none", 20, since)
        seen.publish(f"{BASE}/command/ota/check")
        seen.wait_for(lambda message: message.topic == f"{BASE}/reply/ota/check" and parsed(message)["ok"])


_SHORT = b"""from iot_platform.module import Module as Base

class Module(Base):
    name = "short"
    is_short = False

    def start(self):
        self.once, self.platform.once = self.platform.once, self.short

    def short(self, path, function, *args):
        if self.is_short and function == "settle":
            raise MemoryError("none for a result")
        return self.once(path, function, *args)

    def on_command(self, command):
        if command.path == "short":
            self.is_short = command.payload == "on"
            self.platform.log("short", command.payload)
"""


def test_a_result_for_which_there_is_no_memory_is_told_later(tmp_path: Path, broker: Broker, seen: Observer) -> None:
    with mqtt_world(tmp_path / "world", broker.port, (*MODULES, "short")) as world:
        release = world.release("1.0.0", {"modules/short/__init__.py": _SHORT})
        world.flash(release)
        world.offer(release)
        world.boot()
        seen.wait(f"{BASE}/status/mqtt/state", "connected")
        since = world.type("short on")
        world.board.expect("I short on", 20, since)
        asked = seen.publish(f"{BASE}/command/ota/check")
        seen.wait(f"{BASE}/reply/ota/check", "started", asked)
        found = world.board.expect("too little memory for a result|module mqtt is switched off", 20, since)
        assert "switched off" not in found.string
        world.type("short off")
        assert parsed(seen.wait(f"{BASE}/reply/ota/check", "version", asked))["ok"]
        assert "module mqtt failed" not in world.lines_since(since) and "no connection" not in world.lines_since(since)
