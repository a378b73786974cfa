"""How long all this would take the board: `time` in its place goes as fast as the board's own, and nobody sleeps for it.

What this process computes takes the board longer by its port's slowness, and its flash takes what it takes; what is waited
for takes the time that it takes. The processor's time is counted, without what the simulated chip's driver and this clock use,
nor, through machine.until_there(), what looking again and again for the network's answer does.
How slow the port is beside this computer is measured anew in each life, by what both take for the same thing: a power of 3072
bits. With SIMULATOR_BOARD_TIME=1.
"""

import gc
import os
import time as _host
from time import *  # noqa: F403

import ffi
from flash import Flash

_clock = ffi.open(None).func("i", "clock", "")  # microseconds of this process's CPU
_WRAP = (1 << 30) - 1  # as the port's ticks
_PATIENCE_MS = 2000


def _number(name):
    return int(os.getenv("SIMULATOR_PORT_" + name))


def _least(function, *args):
    """Microseconds of a call, of several the shortest."""
    best = 1 << 29
    for _ in range(8):
        began = _clock()
        function(*args)
        best = min(best, _clock() - began)
    return best


def _often(function, *args):
    for _ in range(100):
        function(*args)


class Timed(Flash):
    """The chip, which knows how much of the processor's time its driver has taken."""

    spent = 0

    def readblocks(self, block, buf, offset=0):
        began = _clock()
        super().readblocks(block, buf, offset)
        self.spent += _clock() - began

    def writeblocks(self, block, buf, offset=None):
        began = _clock()
        super().writeblocks(block, buf, offset)
        self.spent += _clock() - began

    def ioctl(self, op, arg):
        began = _clock()
        found = super().ioctl(op, arg)
        self.spent += _clock() - began
        return found


def attach(machine, chip):
    """This clock begins, and machine.work_us() beside it, which counts no waiting."""
    global ticks_ms, ticks_us
    number, power = (1 << 3072) - 12345, (1 << 3071) + 54321
    scale = _number("CPU_US") // _least(pow, power, 65537, number)
    number = power = None
    read, byte, page_us, erase = [_number(name) for name in ("READ_NS", "READ_BYTE_NS", "PAGE_US", "ERASE_US")]
    n = chip.n
    asked = looking = around = 0
    start = _clock()

    def work():
        nonlocal asked
        asked += 1
        cpu = _clock() - start - chip.spent - (n[0] * around + asked * looking) // 100
        flash_us = n[0] * read // 1000 + n[1] // 1000 * byte + n[3] // 256 * page_us + n[4] * erase
        return cpu * scale + flash_us

    def ticks_us():
        return _host.ticks_us() + work() - (_clock() - start) & _WRAP

    def ticks_ms():  # never behind the host's: asyncio's queue is C and asks that one
        return _host.ticks_ms() + (work() - (_clock() - start)) // 1000 & _WRAP

    def until_there(call, *arguments):
        """What `call` returns once that is not None: nothing of the wait counts, so not how busy this computer is either."""
        nonlocal start
        found, began = call(*arguments), _clock()
        for _ in range(_PATIENCE_MS):
            if found is not None:
                break
            _host.sleep_ms(1)
            found = call(*arguments)
        start += _clock() - began
        return found

    nothing = _least(_often, min, 0, 0)
    looking = _least(_often, ticks_ms) - nothing
    page = bytearray(256)
    before = chip.spent, n[0]
    around = _least(_often, chip.readblocks, 0, page) - nothing
    around -= (chip.spent - before[0]) * 100 // (n[0] - before[1])
    n[0] = n[1] = chip.spent = asked = 0
    start = _clock()

    machine.work_us = lambda: work() & _WRAP
    machine.until_there = until_there
    gc.collect()
