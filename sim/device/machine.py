"""MicroPython's `machine` for the simulated board: reset, reset cause, unique id and a watchdog that really bites.

Imported before the board's file system is mounted, so it takes the place of the unix port's own module.
"""

import os
import select
import struct
import sys
import time

import ffi
from micropython import const

PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5
_RESET = const(3)  # the process's exit codes; the host starts it again
_DEEPSLEEP = const(5)
_AT_REPL = const(4)  # boot.py or main.py ended, and no watchdog will ever bite
_libc = ffi.open(None)
try:
    _libc.func("i", "prctl", "iLLLL")(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG: the board ends with the thread that has started it
except OSError:
    pass  # no Linux
end = _libc.func("v", "_exit", "i")
_setitimer = _libc.func("i", "setitimer", "iPP")
del _libc, ffi
_cause = int(os.getenv("SIMULATOR_RESET_CAUSE"))
_id = (os.getenv("SIMULATOR_DEVICE_ID") or "sim-0001").encode()
for _name in ("HARD_RESET", "DEEPSLEEP_RESET", "SOFT_RESET"):
    if _name not in os.getenv("SIMULATOR_PORT_CONSTANTS"):
        del globals()[_name]
before_end = []  # functions that the simulator wants called: they save its counters


def reset():
    """Restart the board, as the reset pin does."""
    _leave(_RESET)


def soft_reset():
    _leave(_RESET)


def deepsleep(ms=0):
    """Sleep, then start from the beginning; all of memory is lost."""
    time.sleep_ms(min(ms, 1000))
    _leave(_DEEPSLEEP)


def reset_cause():
    return _cause


def unique_id():
    return _id


def tcp_address(port):
    """Where to listen instead of at `port` of all interfaces."""
    return "127.0.0.1", (int(os.getenv("SIMULATOR_WEB_PORT") or 0) if port == 80 else 0) or port


def freq(_hz=None):
    return 240_000_000


def idle():
    pass


repl = None  # the module, where a tool is at the line


def stay_at_repl():
    """A board at the REPL stays there, unless a watchdog was started that no timer feeds.

    With SIMULATOR_REPL=1 somebody sits there, and types lines of Python; with ``raw`` it is a tool, see repl.
    """
    while repl:
        for timer in Timer.running:
            timer.look()
        repl.look()
        time.sleep_ms(1)
    typed = os.getenv("SIMULATOR_REPL") and select.poll()
    if typed:
        typed.register(sys.stdin, select.POLLIN)
    if WDT.started and not Timer.running and os.getenv("SIMULATOR_WATCHDOG_MS"):
        _setitimer(0, struct.pack("llll", 0, 0, 0, 1), None)
    while WDT.started and (typed or not Timer.running):
        for timer in Timer.running:
            timer.look()
        if typed and typed.poll(0):
            exec(sys.stdin.readline())
        time.sleep_ms(50)
    end(_AT_REPL)


class WDT:
    """SIGALRM ends the process when nobody feeds: a loop that hangs inside C or Python is bitten alike.

    SIMULATOR_WATCHDOG_MS makes it bite sooner, and at the REPL at once, for tests that are about what comes after the bite.
    """

    started = False

    def __init__(self, id=0, timeout=5000):
        most = int(os.getenv("SIMULATOR_PORT_WDT_MAX_MS"))
        if most and timeout > most:
            raise ValueError("timeout exceeds %d" % most)
        WDT.started = True
        timeout = min(timeout, int(os.getenv("SIMULATOR_WATCHDOG_MS") or timeout))
        self._timer = struct.pack("llll", 0, 0, timeout // 1000, timeout % 1000 * 1000)
        self.feed()

    def feed(self):
        _setitimer(0, self._timer, None)


class Timer:
    """Calls back while the board is at the REPL; a port's does so between any two bytecodes of Python.

    rp2 has only -1, made in software; esp32 has only those of its hardware, from 0.
    """

    running = []

    def __init__(self, id):
        if (id == -1) != (os.getenv("SIMULATOR_PORT_PLATFORM") == "rp2"):
            raise ValueError("Timer doesn't exist")

    def init(self, *, period, callback):
        self.deinit()
        self._period, self._callback, self._last = period, callback, time.ticks_ms()
        Timer.running.append(self)

    def deinit(self):
        if self in Timer.running:
            Timer.running.remove(self)

    def look(self):
        if time.ticks_diff(time.ticks_ms(), self._last) >= self._period:
            self._last = time.ticks_ms()
            self._callback(self)


class RTC:
    """The host's clock; boards without a battery set it by NTP, and so does a simulated one with SIMULATOR_CLOCK=unset."""

    def datetime(self, value=None):
        import time

        if value is not None and hasattr(time, "set_clock"):
            year, month, day, _weekday, hour, minute, second, _ = value
            time.set_clock(time.mktime((year, month, day, hour, minute, second, 0, 0)))
        now = time.gmtime()
        return (now[0], now[1], now[2], now[6], now[3], now[4], now[5], 0)


def _leave(code):
    for function in before_end:
        function()
    end(code)
