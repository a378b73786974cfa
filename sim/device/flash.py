"""A flash chip in a host file: 4 KiB blocks, erased to 0xff, programmed by clearing bits; power can fail at any operation.

Programs and erases are numbered together from 0 in each life of the process. Power fails before operation N, after it, or
torn within it: a program leaves its first half, an erase half a block and garbage. The process ends there with libc's
`_exit`, so nothing that was buffered anywhere reaches the file. All operations can be written to a log, from which the host
makes the image that a cut at any of them leaves (see sim/flashlog.py).

A chip's driver is C and allocates nothing. This one is Python: a collection in the middle of an operation would close files that
nobody holds any more, and littlefs, which is in the middle of its own list of open files, would follow one that is gone. So none
takes place then. The methods that it calls are small enough for MicroPython to keep their frames on the stack.
"""

import gc
import struct

import ffi

BLOCK = 4096
_ERASED = b"\xff" * 256
_GARBAGE = bytes((i * 151 + 77) & 0xFF for i in range(64))  # always the same: a cut can be repeated
_exit = ffi.open(None).func("v", "_exit", "i")
_PROGRAM, _ERASE = b"PE"  # in the log
POWER_CUT = 9  # exit codes that the host understands


class Flash:
    """The block device that VfsLfs2 and VfsFat mount."""

    def __init__(self, f, blocks, cut=-1, mode="", report=None, log=None):
        self._f = f
        self._blocks = blocks
        self._cut = cut
        self._mode = mode
        self._report = report  # called with the counters just before power fails
        self._log = log
        self._entry = bytearray(9)
        self.reads = self.programs = self.erases = self.programmed = self.read = 0

    def operations(self):
        return self.programs + self.erases

    def readblocks(self, block, buf, offset=0):
        self.reads += 1
        self.read += len(buf)
        self._f.seek(block * BLOCK + offset)
        self._f.readinto(buf)

    def writeblocks(self, block, buf, offset=None):
        """With an offset: program. Without (FAT): erase the block, then program it."""
        gc.disable()
        self._write(block, buf, offset)
        gc.enable()

    def _write(self, block, buf, offset):
        if offset is None:
            for i in range(len(buf) // BLOCK):
                self._erase(block + i)
            offset = 0
        torn = self._fails()
        self._note(_PROGRAM, block * BLOCK + offset, buf)
        self.programs += 1
        self.programmed += len(buf)
        self._f.seek(block * BLOCK + offset)
        if torn:
            gc.enable()
            self._f.write(memoryview(buf)[: len(buf) // 2])
            self._die()
        self._f.write(buf)
        self._after()

    def ioctl(self, op, arg):
        if op == 4:
            return self._blocks
        if op == 5:
            return BLOCK
        if op == 6:
            gc.disable()
            self._erase(arg)
            gc.enable()
        return 0

    def _erase(self, block):
        torn = self._fails()
        self._note(_ERASE, block * BLOCK, b"")
        self.erases += 1
        self._f.seek(block * BLOCK)
        for _ in range(8 if torn else 16):
            self._f.write(_ERASED)
        if torn:
            self._f.write(_GARBAGE)
            self._die()
        self._after()

    def _note(self, kind, position, data):
        if self._log:
            struct.pack_into("<BII", self._entry, 0, kind, position, len(data))
            self._log.write(self._entry)
            self._log.write(data)

    def _fails(self):
        """True when this operation is to be torn; does not return when power fails before it."""
        if self.operations() != self._cut:
            return False
        if self._mode == "before":
            self._die()
        return self._mode == "torn"

    def _after(self):
        if self.operations() == self._cut + 1 and self._mode == "after":
            self._die()

    def _die(self):
        gc.enable()
        if self._report:
            self._report()
        _exit(POWER_CUT)
