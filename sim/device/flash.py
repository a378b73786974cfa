"""A flash chip in a host file: 4 KiB blocks, erased to 0xff, programmed by clearing bits. See power for one that can fail.

A chip's driver is C and allocates nothing. This one is Python: a collection in the middle of an operation would close files that
nobody holds any more, and littlefs, which is in the middle of its own list of open files, would follow one that is gone. So none
takes place then. The methods that it calls are small enough for MicroPython to keep their frames on the stack.
"""

import gc

from micropython import const

_BLOCK = const(4096)


class Flash:
    """The block device that VfsLfs2 and VfsFat mount. `n` counts reads, bytes read, programs, bytes programmed, and erases."""

    def __init__(self, f, blocks):
        self.f = f
        self.n = [0, 0, 0, 0, 0]
        self.blocks = blocks

    def readblocks(self, block, buf, offset=0):
        self.n[0] += 1
        self.n[1] += len(buf)
        self.f.seek(block * _BLOCK + offset)
        self.f.readinto(buf)

    def writeblocks(self, block, buf, offset=None):
        """With an offset: program. Without (FAT): erase the block, then program it."""
        gc.disable()
        if offset is None:
            for i in range(len(buf) // _BLOCK):
                self.erase(block + i)
            offset = 0
        self.write(block * _BLOCK + offset, buf)
        gc.enable()

    def ioctl(self, op, arg):
        if op == 4:
            return self.blocks
        if op == 5:
            return _BLOCK
        if op == 6:
            gc.disable()
            self.erase(arg)
            gc.enable()
        return 0

    def write(self, at, buf):
        self.n[2] += 1
        self.n[3] += len(buf)
        self.f.seek(at)
        self.f.write(buf)

    def erase(self, block):
        self.n[4] += 1
        self.f.seek(block * _BLOCK)
        for _ in range(16):
            self.f.write(_ERASED)


_ERASED = b"\xff" * 256
