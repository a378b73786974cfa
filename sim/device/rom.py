"""Makes the names of the simulator's drivers the firmware's: a chip's drivers have theirs in ROM, where they take nothing.

MicroPython keeps each name for ever, in tables each of which holds twice as many as the one before; the first that a program
fills holds 20. With the drivers' names among its own, 150 or so, a board would need the table of 1,280 names that much too early,
and it takes 9 KB. So the last table is told that it is as small as a firmware's: what the board adds begins with one for 20.
"""

import struct
import sys

import uctypes

_WORD = 4 if sys.maxsize < 1 << 40 else 8
_FIRST = 10  # py/mpconfig.h: MICROPY_ALLOC_QSTR_ENTRIES_INIT
_HEAD = 6  # py/qstr.h: prev, total_prev_len, alloc, len, hashes, lengths; then a pointer to each name
_MOST = 1280


class _Names:
    pass


def install(low):
    """RuntimeError where an interpreter keeps its names in another way.

    :param low: the address of something in the heap that lies before all tables of the drivers' names.
    """
    setattr(_Names, "_the" + "_newest", None)
    newest = [name for name in _Names.__dict__ if name == "_the" + "_newest"][0]
    heap = uctypes.bytearray_at(low, uctypes.addressof(bytearray(2048)) - low)
    at = heap.find(struct.pack("P", uctypes.addressof(newest)))
    while at >= 0:
        for n in range(1, min(_MOST, at // _WORD - _HEAD)):
            table = at - (_HEAD + n - 1) * _WORD
            alloc, used = struct.unpack("2P", heap[table + 2 * _WORD : table + 4 * _WORD])
            if used == n <= alloc <= _MOST and alloc % 20 == 0:
                heap[table + 2 * _WORD : table + 3 * _WORD] = struct.pack("P", _FIRST)
                return
        at = heap.find(struct.pack("P", uctypes.addressof(newest)), at + 1)
    raise RuntimeError("this interpreter keeps its names in another way")
