"""Event streams: the bus's changes, and the log's lines. A bounded number of them; a slow reader loses lines, never memory.

A stream holds no lines: it is a place in the log's own history. What has left the history before it was sent is counted, and
told as ``event: dropped``. Of the bus it holds the keys that have changed since they were sent last.
"""

import asyncio
import gc
import json

from iot_platform.log import SerialLog
from micropython import const

from .http import Refused

_STREAMS = const(4)  # at once, unless the profile says otherwise
_LEAST = const(8_000)  # bytes of free heap, so that there is still some for requests
_LINES = const(4)  # in one piece
_KEYS = const(8)


async def events(web, request):
    """Answers until the client hangs up."""
    streams = web.server.streams
    gc.collect()
    if len(streams) >= web.cfg.get("max_streams", _STREAMS) or web.platform.board.mem_free() < _LEAST:
        raise Refused(503, "too_many", "streams", 5)
    await request.start(200, "text/event-stream")
    if request.method == "HEAD":
        return
    request.fields = {}  # it lives for hours
    stream = Stream(web.platform.bus, request)
    streams.append(stream)
    try:
        await stream.run()
    finally:
        streams.remove(stream)


class Stream:
    """One of them; `request` is its connection."""

    def __init__(self, bus, request):
        self.request = request
        self.bus = bus
        self._changed = {key for key, _value in bus.items()}
        self._next = SerialLog.count - len(SerialLog.history())
        self._event = asyncio.Event()

    def tell(self, values):
        """There is something new: changed values, or lines in the log; or it is time to say something (None)."""
        if values:
            self._changed.update(values)
        self._event.set()

    async def run(self):
        request = self.request
        while True:
            self._event.clear()
            if not self._changed and self._next == SerialLog.count:
                await request.send(b": alive\n\n")
            while self._changed or self._next < SerialLog.count:
                await request.send((self._values() if self._changed else self._lines()).encode())
                await request.flush()
            await request.flush()
            request.timeout = None
            await self._event.wait()

    def _values(self):
        """A few at a time: the whole bus at once would be a long text."""
        some = {}
        while self._changed and len(some) < _KEYS:
            key = self._changed.pop()
            some[key] = self.bus.get(key)
        return "event: values\ndata: " + json.dumps(some) + "\n\n"

    def _lines(self):
        first, text = SerialLog.count - len(SerialLog.history()), ""
        if self._next < first:
            text = "event: dropped\ndata: %d\n\n" % (first - self._next)
            self._next = first
        for line in SerialLog.history()[self._next - first : self._next - first + _LINES]:
            text += "event: log\ndata: " + json.dumps(row(self._next, line)) + "\n\n"
            self._next += 1
        return text


def row(n, line):
    """A line of the log as the page gets it: its number, the letter of its level, its text."""
    at = line.find("] ") + 2
    return {"n": n, "level": line[at : at + 1], "line": line}
