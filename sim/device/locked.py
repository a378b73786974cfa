"""Takes what reaches the computer away from board code: `ffi`, `os.system`, and `VfsPosix`, which mounts the host's folders.

A firmware has none of them; the unix port builds them in, and a module that is built in comes back however it is hidden from
`import`. So the entries are taken out of the modules' own tables, which takes libc: the last thing that the simulator asks of it.
What its drivers hold already, they keep.

This makes no sandbox: see docs/security.md.
"""

import os
import struct
import sys

import ffi
import uctypes
import vfs

_WORD = 4 if sys.maxsize < 1 << 40 else 8
_PAGE = 4096


def _words(at, count):
    return struct.unpack("%dP" % count, uctypes.bytes_at(at, count * _WORD))


def install():
    """RuntimeError where an interpreter keeps its modules in another way: board code does not run then."""
    protect = ffi.open(None).func("i", "mprotect", "Pii")
    for module, names in (
        (ffi, ("open", "func", "callback", "as_bytearray")),
        (os, ("system", "VfsPosix")),
        (vfs, ("VfsPosix",)),
    ):
        gone = [id(getattr(module, name)) for name in names if hasattr(module, name)]
        _base, _flags, _used, table = _words(_words(id(module), 2)[1], 4)
        name = bytes(uctypes.bytes_at(table, 2 * _WORD))  # of every module the first entry: __name__
        for n in range(len(dir(module)) - 2):  # dir() adds __class__ and __dict__
            at = table + 2 * _WORD * n
            if _words(at + _WORD, 1)[0] in gone:
                protect(uctypes.bytearray_at(at & -_PAGE, 1), _PAGE, 3)  # PROT_READ | PROT_WRITE
                uctypes.bytearray_at(at, 2 * _WORD)[:] = name
        if any(hasattr(module, name) for name in names):
            raise RuntimeError("this interpreter does not let go of " + module.__name__)
