"""A flash chip whose power can fail at any operation, or that keeps a log of them all.

Programs and erases are numbered together from 0 in each life of the process. Power fails before operation N, after it, or
torn within it: a program leaves its first half, an erase half a block and garbage. The process ends there with libc's
`_exit`, so nothing that was buffered anywhere reaches the file. From the log the host makes the image that a cut at any of them
leaves (see sim/flashlog.py).
"""

import gc
import struct

import machine
from flash import Flash

BLOCK = 4096
_ERASED = b"\xff" * 256
_GARBAGE = bytes((i * 151 + 77) & 0xFF for i in range(64))  # always the same: a cut can be repeated
_PROGRAM, _ERASE = b"PE"  # in the log
_POWER_CUT = 9  # the exit code that the host understands


class Failing(Flash):
    """:param report: called with the counters just before power fails."""

    def __init__(self, f, blocks, cut, mode, report, log):
        super().__init__(f, blocks)
        self._cut = cut
        self._mode = mode
        self._report = report
        self._log = log
        self._entry = bytearray(9)

    def write(self, at, buf):
        torn = self._fails()
        self._note(_PROGRAM, at, buf)
        if torn:
            self.n[2] += 1
            self.n[3] += len(buf)
            self.f.seek(at)
            gc.enable()
            self.f.write(memoryview(buf)[: len(buf) // 2])
            self._die()
        super().write(at, buf)
        self._after()

    def erase(self, block):
        torn = self._fails()
        self._note(_ERASE, block * BLOCK, b"")
        if torn:
            self.n[4] += 1
            self.f.seek(block * BLOCK)
            for _ in range(8):
                self.f.write(_ERASED)
            self.f.write(_GARBAGE)
            self._die()
        super().erase(block)
        self._after()

    def _note(self, kind, position, data):
        if self._log:
            struct.pack_into("<BII", self._entry, 0, kind, position, len(data))
            self._log.write(self._entry)
            self._log.write(data)

    def _fails(self):
        """True when this operation is to be torn; does not return when power fails before it."""
        if self.n[2] + self.n[4] != self._cut:
            return False
        if self._mode == "before":
            self._die()
        return self._mode == "torn"

    def _after(self):
        if self.n[2] + self.n[4] == self._cut + 1 and self._mode == "after":
            self._die()

    def _die(self):
        gc.enable()
        self._report()
        machine.end(_POWER_CUT)
