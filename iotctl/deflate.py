"""MicroPython's module `deflate`, as far as the board's reader uses it: with it the same reader runs on this computer."""

from __future__ import annotations

import zlib
from typing import BinaryIO

RAW = 1


class DeflateIO:
    """A raw deflate stream, unpacked; it takes no more of its source than it needs."""

    def __init__(self, source: BinaryIO, _format: int, window: int) -> None:
        self._source = source
        self._reader = zlib.decompressobj(-window)

    def readinto(self, view: memoryview) -> int:
        """Fill `view` as far as it goes; 0 at the end of the stream, EOFError or OSError where it is cut short or damaged."""
        if self._reader.eof:
            return 0
        at = self._source.tell()
        held = self._source.read()
        try:
            data = self._reader.decompress(held, len(view))
        except zlib.error:
            raise OSError("damaged") from None
        rest = len(self._reader.unused_data if self._reader.eof else self._reader.unconsumed_tail)
        self._source.seek(at + len(held) - rest)
        if not data and not self._reader.eof:
            raise EOFError
        view[: len(data)] = data
        return len(data)
