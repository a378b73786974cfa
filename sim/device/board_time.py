"""How long all this would take the board: `time` in its place goes as fast as the board's own, and nobody sleeps for it.

What this process computes takes the board what its port makes of so many instructions, and its flash takes what it takes; what
is waited for takes the time that it takes. Not counted is what the simulated chip's driver and this clock execute, nor, through
machine.until_there(), what looking again and again for the network's answer does.
With SIMULATOR_BOARD_TIME, a file with the number of instructions: bench/counting.py.
"""

import gc
import os
import time as _host
from time import *  # noqa: F403

import ffi
import uctypes
from flash import Flash

_libc = ffi.open(None)
_clock = _libc.func("i", "clock", "")  # microseconds of this process's CPU
_WRAP = (1 << 30) - 1  # as the port's ticks
_PATIENCE_MS = 2000
_OFTEN = 100
_count = None  # its `low` has 30 bits of the number of instructions


def _number(name):
    return int(os.getenv("SIMULATOR_PORT_" + name))


def _map(path):
    global _count
    f = _libc.func("i", "open", "si")(path, 2)
    address = _libc.func("p", "mmap", "piiiii")(0, 8, 1, 1, f, 0)  # to read, shared
    _count = uctypes.struct(address, {"low": 0 | uctypes.BFUINT32 | 0 << uctypes.BF_POS | 30 << uctypes.BF_LEN})


def _least(function, *args):
    """Instructions of a call, of several the smallest number: a collection may come between."""
    best = _WRAP
    for _ in range(8):
        began = _count.low
        function(*args)
        best = min(best, _count.low - began & _WRAP)
    return best


def _often(function, *args):
    for _ in range(_OFTEN):
        function(*args)


class Timed(Flash):
    """The chip, which knows how many instructions its driver has taken."""

    spent = 0

    def readblocks(self, block, buf, offset=0):
        began = _count.low
        super().readblocks(block, buf, offset)
        self.spent += _count.low - began & _WRAP

    def writeblocks(self, block, buf, offset=None):
        began = _count.low
        super().writeblocks(block, buf, offset)
        self.spent += _count.low - began & _WRAP

    def ioctl(self, op, arg):
        began = _count.low
        found = super().ioctl(op, arg)
        self.spent += _count.low - began & _WRAP
        return found


def attach(machine, chip):
    """This clock begins, and machine.work_us() beside it, which counts no waiting."""
    global ticks_ms, ticks_us
    mips, read, byte, page_us, erase = [_number(name) for name in ("MIPS", "READ_NS", "READ_BYTE_NS", "PAGE_US", "ERASE_US")]
    n = chip.n
    last = done = rest = reads = looking = around = 0
    start = _clock()

    def work():
        """Microseconds of the board. To be asked often: the count begins again after 16 s of the board's."""
        nonlocal last, done, rest, reads
        now = _count.low
        rest += (now - last & _WRAP) - chip.spent - (n[0] - reads) * around - looking
        last, chip.spent, reads = now, 0, n[0]
        done += rest // mips
        rest %= mips
        return done + n[0] * read // 1000 + n[1] // 1000 * byte + n[3] // 256 * page_us + n[4] * erase

    def ticks_us():
        return _host.ticks_us() + work() - (_clock() - start) & _WRAP

    def ticks_ms():  # never behind the host's: asyncio's queue is C and asks that one
        return _host.ticks_ms() + max(work() - (_clock() - start), 0) // 1000 & _WRAP

    def until_there(call, *arguments):
        """What `call` returns once that is not None: nothing of the wait counts, so not how busy this computer is either."""
        nonlocal last, start
        found = call(*arguments)
        work()
        began = _clock()
        for _ in range(_PATIENCE_MS):
            if found is not None:
                break
            _host.sleep_ms(1)
            found = call(*arguments)
        last = _count.low
        start += _clock() - began
        return found

    nothing = _least(_often, min, 0, 0)
    looking = (_least(_often, ticks_ms) - nothing) // _OFTEN
    page = bytearray(256)
    chip.spent = 0
    around = _least(_often, chip.readblocks, 0, page) - nothing
    around = (around - chip.spent // 8) // _OFTEN
    n[0] = n[1] = chip.spent = done = rest = reads = 0
    last, start = _count.low, _clock()

    machine.work_us = lambda: work() & _WRAP
    machine.until_there = until_there
    gc.collect()


_map(os.getenv("SIMULATOR_BOARD_TIME"))
