"""Memory for the decompressor, in one piece.

A heap that has run for days is in pieces: 34 KB may be free without one hole of 4 KB, the window of a bundle (measured: some 2 of
100 updates failed for it). So the piece is taken at the start, while the heap is whole, and given away only for the moment in
which the decompressor asks for it.
"""

import gc

_LEAST = 5_408  # measured: window 4096, tables 1296
_MOST = _LEAST + 256  # for what is allocated while the decompressor reads its first bytes


class Room:
    """A hole in the heap that nobody else can take."""

    def __init__(self):
        self._held = None
        self.take()

    def take(self):
        """Hold it (again). Where memory is too short, do without: whoever needs it then finds out."""
        self._lent = False
        self.keep()

    def keep(self):
        """Hold it, unless somebody uses it just now: called when memory has become free."""
        if not self._held and not self._lent:
            gc.collect()
            self._held = _piece(_MOST) or _piece(_LEAST)

    def give(self):
        """Make it the first hole that is large enough for the next one who asks."""
        self._lent = True
        self._held = None
        gc.collect()

    def give_all(self):
        """What can be done without, too: the history of the log."""
        from iot_platform.log import SerialLog

        SerialLog.purge()
        self.give()


def _piece(size):
    """So many bytes in one piece, or None."""
    try:
        return bytearray(size)
    except MemoryError:
        return None
