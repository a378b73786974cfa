"""A user's own module, as the bench's boards have one: a simulated thermometer with a panel, an action and a setting."""

import gc
import math
import time

from iot_platform.module import Module as Base
from micropython import const

_PERIOD_MS = const(1_000)
_OFFSET = 0  # a release changes this line
_KEEPS = const(24)  # values of which the average is taken


class Module(Base):
    name = "sensor"
    panels = {
        "title": "Thermometer",
        "values": (("sensor/temperature", "Temperature", "°C"), ("sensor/average", "Average", "°C"), ("sensor/alarm", "Hot", "")),
        "actions": (("calibrate", "Calibrate"), ("reset", "Reset", "Forget the average?")),
    }

    def start(self):
        self._limit = self.platform.prefs.get("sensor.limit", 30)
        self._kept = []
        self._zero = 0.0
        self._due = time.ticks_ms()

    def tick(self):
        now = time.ticks_ms()
        if time.ticks_diff(now, self._due) < 0:
            return
        self._due = time.ticks_add(now, _PERIOD_MS)
        self._kept.append(self._measure(now))
        if len(self._kept) > _KEEPS:
            self._kept.pop(0)

    def telemetry(self):
        if not self._kept:
            return None
        newest = self._kept[-1]
        average = sum(self._kept) / len(self._kept)
        return {
            "sensor/temperature": round(newest, 1),
            "sensor/average": round(average, 1),
            "sensor/alarm": newest > self._limit,
        }

    def on_command(self, command):
        if command.path == "sensor/calibrate":
            self._zero -= self._kept[-1] - 20 if self._kept else 0
            self.platform.log("sensor: calibrated by", command.source)
        elif command.path == "sensor/reset":
            self._kept = []
        elif command.path == "sensor/limit":
            self._limit = int(command.payload)
            self.platform.prefs.set("sensor.limit", self._limit)
            self.platform.prefs.save()
        elif command.path == "sensor":  # typed at the console
            gc.collect()
            self.platform.log("sensor: free", gc.mem_free(), "limit", self._limit)

    def _measure(self, now):
        return 20 + 4 * math.sin(now / 60_000) + self._zero + _OFFSET
