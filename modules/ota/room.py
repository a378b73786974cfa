"""Memory for the decompressor, in one piece.

A heap that has run for days is in pieces: 34 KB may be free without one hole of 4 KB, the window of a bundle (measured: some 2 of
100 updates failed for it). So the piece is taken at the start, while the heap is whole, and given away only for the moment in
which the decompressor asks for it.
"""

import gc

_BYTES = 5_440  # window 4096, tables 1296 (measured: 5,408); no more, for what is left over is where others settle


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
            try:
                self._held = bytearray(_BYTES)
            except MemoryError:
                self._held = None

    def give(self):
        """Make it the first hole that is large enough for the next one who asks."""
        self._lent = True
        self._held = None
        gc.collect()

    def give_all(self):
        """What can be done without, too: the history of the log."""
        from modules.serial_log import SerialLog

        SerialLog.purge()
        self.give()
