"""Event streams: the bus's changes, and the log's lines. A bounded number of them; a slow reader loses lines, never memory.

A stream holds no lines: it is a place in the log's own history. What has left the history before it was sent is counted, and
told as ``event: dropped``. Of the bus it holds what has changed since it was sent last: the latest value of each key, at most.
"""

import asyncio
import gc
import json

from microdot.microdot import Response
from micropython import const

from modules.serial_log import SerialLog

from .refused import Refused

_STREAMS = const(4)  # at once, unless the profile says otherwise
_LEAST = const(13_000)  # bytes of free heap, so that there is still some for requests
_LINES = const(4)  # in one piece
_KEYS = const(8)


async def events(server, request):
    web = server.web
    gc.collect()
    if web.tight or len(server.streams) >= web.cfg.get("max_streams", _STREAMS) or web.platform.board.mem_free() < _LEAST:
        raise Refused(503, "too_many", "all event streams are taken: ask /api/values and /api/log instead", 5)
    connection = request.sock[0]
    stream = Events(server, connection)
    if request.method != "HEAD":
        connection.streaming = True
        server.streams.append(stream)
    return Response(stream, 200, {"Content-Type": "text/event-stream"})


class Events:
    """The body of a response that goes on until the client hangs up."""

    def __init__(self, server, connection):
        self._server = server
        self._connection = connection
        self._values = dict(server.web.platform.bus.items())
        self._next = SerialLog.count - len(SerialLog.history())
        self._news = asyncio.Event()
        self._alive = False

    def wake(self, values):
        """There is something new: changed values, or lines in the log (None)."""
        if values:
            if self._values:
                self._values.update(values)
            else:
                self._values = dict(values)
        self._news.set()

    def keep_alive(self):
        self._alive = True
        self._news.set()

    def __aiter__(self):
        return self

    async def __anext__(self):
        while True:
            self._news.clear()
            piece = self._piece()
            if piece:
                return piece
            self._connection.deadline = None
            await self._news.wait()

    def end(self):
        """Hang up."""
        self._connection.task.cancel()

    def close(self):
        """The connection has ended."""
        if self in self._server.streams:
            self._server.streams.remove(self)

    def _piece(self):
        if self._values:
            return self._some_values()
        if self._next < SerialLog.count:
            return self._some_lines()
        if self._alive:
            self._alive = False
            return b": alive\n\n"
        return None

    def _some_values(self):
        """A few at a time: the whole bus at once would be a long text."""
        some = {}
        while self._values and len(some) < _KEYS:
            key, value = self._values.popitem()
            some[key] = value
        return b"event: values\ndata: " + json.dumps(some).encode() + b"\n\n"

    def _some_lines(self):
        first, lost = SerialLog.count - len(SerialLog.history()), 0
        if self._next < first:
            lost, self._next = first - self._next, first
        text = "event: dropped\ndata: %d\n\n" % lost if lost else ""
        for line in SerialLog.history()[self._next - first : self._next - first + _LINES]:
            text += "event: log\ndata: " + json.dumps(row(self._next, line)) + "\n\n"
            self._next += 1
        return text.encode()


def row(n, line):
    """A line of the log as the page gets it: its number, the letter of its level, its text."""
    at = line.find("] ") + 2
    return {"n": n, "level": line[at : at + 1], "line": line}


HANDLERS = {"GET /api/events": events}
