"""The bench's own module: measures the gaps between two of its ticks while an update runs, and says when it first ticks.

In the board's own time, where the simulator accounts for it (sim/device/board_time.py), without what it waits for: there the
network answers at once, or each look whether it has would count as work, and a slow answer make the board slow.
"""

import time
from array import array

import machine
from iot_platform import sockets
from iot_platform.module import Module as Base
from micropython import const

_LONGEST = const(250)  # ms; longer ones count as the last class (a larger table would itself be in the way)
_AT_REST = ("", "idle", "up_to_date", "confirmed", "failed")


def _patient(attempt):
    def patient(call, argument, reason, error):
        if reason == "connect":  # cannot be asked for twice
            return attempt(call, argument, reason, error)
        return machine.until_there(attempt, call, argument, reason, error)

    return patient


class Module(Base):
    name = "ticker"

    def start(self):
        with open("/version") as f:
            self._version = f.read().strip()
        self._now = getattr(machine, "work_us", time.ticks_us)
        if hasattr(machine, "until_there"):
            sockets.attempt = _patient(sockets.attempt)
        self._last = None
        self._classes = array("H", bytes(2 * (_LONGEST + 1)))
        self._state = ""
        self._clear()

    def tick(self):
        now = self._now()
        if self._last is None:
            self.platform.log("ticker: first tick of", self._version)
        else:
            self._count(time.ticks_diff(now, self._last) // 1000)
        self._last = now

    def on_telemetry(self, values):
        state = values.get("ota/status", self._state)
        if self._state in _AT_REST and state not in _AT_REST:  # a short check can be over before anybody hears of it
            self._clear()
        self._state = state

    def stop(self):
        took = time.ticks_diff(self._now(), self._began) // 1000
        values = self._n, self._percentile(99), self._max, self._where, took
        self.platform.log("ticker: gaps %d, p99 %d ms, longest %d ms in %s, took %d ms" % values)

    def _clear(self):
        self._began = self._now()
        self._n = self._max = 0
        self._where = "none"
        for i in range(len(self._classes)):
            self._classes[i] = 0

    def _count(self, ms):
        self._n += 1
        self._classes[min(ms, _LONGEST)] += 1
        if ms > self._max:
            self._max, self._where = ms, self._state

    def _percentile(self, percent):
        left = self._n * percent // 100
        for ms in range(len(self._classes)):
            left -= self._classes[ms]
            if left < 0:
                return ms if ms < _LONGEST else self._max
        return self._max
