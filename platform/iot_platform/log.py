"""The board's log: everything that is worth knowing, printed, with a short memory of it. It works before anything else does.

>>> SerialLog.log("door", 3, "opened")
[    1.234] I door 3 opened

The last lines are remembered, 1 to 2 KiB of them, in memory that is taken once: as texts they would lie all over the heap, where
an update needs long pieces. Logging never raises. And it does not wait: while a computer holds the port open and reads nothing,
lines are only remembered, and it says later how many.
"""

import gc
import io
import select
import sys
import time

from micropython import const

_DEBUG = const(10)
_INFO = const(20)
_WARNING = const(30)
_ERROR = const(40)
_NAMES = const(("debug", "info", "warning", "error"))
_MAX_LINE = const(300)  # bytes of a line's text; with characters that take up to four of them it has fewer
_FEWER = const(240)
_HALF = const(1024)
_SLOW_MS = const(50)  # a line that took longer had to wait
_PAUSE_MS = const(10_000)


class SerialLog:
    """One log for the whole board."""

    level = _INFO
    count = 0  # lines since the start: they are numbered from 0
    first = 0  # the number of the oldest one that is remembered
    _halves = [bytearray(_HALF), bytearray(_HALF)]  # lines with their ends; new ones go to the second
    _middle = 0  # the number of the first line there
    _used = 0  # bytes there
    _poll = None  # of the console's output
    _tells = False  # True once that has said that it takes something: not every port's does
    _pause = None  # ticks_ms until which nothing is printed
    _unseen = 0  # lines that were not printed

    @classmethod
    def set_level(cls, name):
        """Say no less than `name`: debug, info, warning or error. False for any other."""
        if name not in _NAMES:
            return False
        cls.level = _DEBUG * (_NAMES.index(name) + 1)
        return True

    @classmethod
    def log(cls, *parts):
        """Log at level INFO; the parts are joined by spaces."""
        cls._add(_INFO, parts)

    info = log

    @classmethod
    def debug(cls, *parts):
        cls._add(_DEBUG, parts)

    @classmethod
    def warning(cls, *parts):
        cls._add(_WARNING, parts)

    @classmethod
    def error(cls, *parts):
        cls._add(_ERROR, parts)

    @classmethod
    def exception(cls, error, *parts):
        """Log what an exception means, then its traceback line by line."""
        try:
            cls._add(_ERROR, parts + (repr(error),))
            text = io.StringIO()
            sys.print_exception(error, text)
            for line in text.getvalue()[-1500:].rstrip("\n").split("\n"):
                cls._add(_ERROR, (line,))
        except MemoryError:
            gc.collect()

    @classmethod
    def history(cls):
        """The lines that are still remembered, oldest first. Generator."""
        for n in range(cls.first, cls.count):
            if n >= cls.first:
                yield cls.line(n)

    @classmethod
    def line(cls, n):
        """Line number `n`, from `first` to `count` - 1."""
        half, skip, at = cls._halves[n >= cls._middle], n - (cls._middle if n >= cls._middle else cls.first), 0
        for _ in range(skip):
            at = half.find(b"\n", at) + 1
        return str(half[at : half.find(b"\n", at)], "utf-8")

    @classmethod
    def purge(cls):
        """Forget everything."""
        cls.first = cls._middle = cls.count
        cls._used = 0

    @classmethod
    def _add(cls, level, parts):
        if level < cls.level:
            return
        try:
            line = _line(level, parts)
            cls._print(line)
            cls._remember(line.encode() + b"\n")
        except MemoryError:
            gc.collect()

    @classmethod
    def _remember(cls, line):
        end = cls._used + len(line)
        if end > _HALF:
            cls._halves.reverse()
            cls.first, cls._middle, cls._used, end = cls._middle, cls.count, 0, len(line)
        cls._halves[1][end - len(line) : end] = line
        cls._used = end
        cls.count += 1

    @classmethod
    def _print(cls, line):
        began = time.ticks_ms()
        if not cls._takes(began):
            cls._unseen += 1
            return
        if cls._unseen:
            print("(%d lines were not shown: nobody read)" % cls._unseen)
            cls._unseen = 0
        print(line)
        if time.ticks_diff(time.ticks_ms(), began) > _SLOW_MS:
            cls._pause = time.ticks_add(began, _PAUSE_MS)

    @classmethod
    def _takes(cls, now):
        """False while printing would wait."""
        if cls._poll is None:
            cls._poll = select.poll()
            try:
                cls._poll.register(sys.stdout, select.POLLOUT)
            except (OSError, ValueError, TypeError):  # no stream that can be asked
                cls._poll = False
        if cls._poll and cls._poll.poll(0):
            cls._tells, cls._pause = True, None
        elif cls._tells:
            return False
        if cls._pause is not None and time.ticks_diff(cls._pause, now) > 0:
            return False
        cls._pause = None
        return True


def _line(level, parts):
    text = " ".join([str(part) for part in parts])
    if not all(32 <= c != 127 for c in text.encode()):  # what could forge a line of the console or move its cursor
        text = "".join([c if 32 <= ord(c) != 127 else "\\x%02x" % ord(c) for c in text[: _MAX_LINE + 1]])
    size = len(text.encode())
    if size > _MAX_LINE:
        text = text[: _MAX_LINE if size == len(text) else _FEWER] + "..."
    ms = time.ticks_ms()
    return "[%5d.%03d] %s %s" % (ms // 1000, ms % 1000, "DIWE"[level // 10 - 1], text)
