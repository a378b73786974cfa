"""Connections: accepted, kept to their deadlines, told when there is news; all from the module's tick().

At most so many at once: when all are taken, the oldest one that has not sent its request yet makes room, and the rest wait in the
backlog. An event stream is a connection that stays; it counts for itself. Where memory is short, the rest waits as well, and if
only event streams could give some back, the youngest ends: its page polls.
"""

import asyncio
import gc
import time

from micropython import const

from modules.serial_log import SerialLog

from .app import App
from .connection import Connection

_MOST = const(8)
_MOST_TIGHT = const(2)  # while an update is short of memory
_LEAST = const(10_000)  # bytes of free heap for one more request, its handler's code included
_EACH = const(3_000)  # and for each that is being served
_ACCEPTS = const(3)  # a tick
_CHECK_MS = const(500)
_SHED_MS = const(1_000)
_PART_MS = const(3_000)
_IDLE_MS = const(20_000)
_KEEP_ALIVE = const(30)  # checks
_NOTES_AGAIN = const(10)  # checks
_NOTES = const(6)  # lines in the log about refused requests, in so many checks


class Server:
    """:param web: the module."""

    def __init__(self, web):
        self.web = web
        self.app = App(self)
        self.streams = []  # events.Events
        self.connections = []
        self._parts = {}
        self._used = self._busy = self._checked = time.ticks_ms()
        self._logged = self._notes = self._checks = 0

    def tick(self):
        """False when nobody has connected for so long that all of this can be forgotten."""
        now = time.ticks_ms()
        if self.web.listener:
            self._accept(now)
        if self.streams and SerialLog.count != self._logged:
            self._logged = SerialLog.count
            self.wake(None)
        if time.ticks_diff(now, self._checked) >= _CHECK_MS:
            self._check(now)
        if self.connections:
            self._busy = now
        return time.ticks_diff(now, self._busy) < _IDLE_MS

    def wake(self, values):
        """Tell the streams: of changed values, or (None) of new lines in the log."""
        for stream in self.streams:
            stream.wake(values)

    def close(self):
        for connection in list(self.connections):
            connection.close()

    def serving(self):
        """How many connections there are, event streams not counted."""
        return len(self.connections) - len(self.streams)

    def shed(self):
        """End all connections, and with them this server."""
        for connection in self.connections:
            connection.task.cancel()
        self._parts = {}

    def part(self, name):
        """A file of this package that is imported when a request needs it."""
        self._used = time.ticks_ms()
        if name not in self._parts:
            self._parts[name] = __import__("modules.web." + name, None, None, ("x",))
        return self._parts[name]

    def relax(self):
        """Give back memory."""
        self._parts = {}
        self.web.forget()

    def note(self, address, status, reason, message):
        """One line about a refused request; a flood of them is cut short."""
        if status == 401 and reason != "bad_password":  # a page whose session has ended asks again and again
            SerialLog.debug("web:", address, status, reason)
            return
        self._notes += 1
        if self._notes <= _NOTES:
            SerialLog.warning("web: refused %s: %s (%d %s)" % (address, message, status, reason))

    # -- inside

    def _accept(self, now):
        for _ in range(_ACCEPTS):
            for _ready in self.web.poll.ipoll(0):
                break
            else:
                return
            most = _MOST_TIGHT if self.web.tight else _MOST
            if self.serving() >= most and not self._shed(now) or not self._has_memory():
                return
            try:
                sock, address = self.web.listener.accept()
            except OSError:  # it has hung up already
                return
            sock.setblocking(False)
            connection = Connection(sock, _text(address))
            self.connections.append(connection)
            connection.task = asyncio.create_task(self._serve(connection))

    def _has_memory(self):
        """True when there is enough for one more request; a single one is served in any case."""
        least = _LEAST + _EACH * self.serving()
        if self.web.platform.board.mem_free() >= least:
            return True
        gc.collect()
        if self.web.platform.board.mem_free() >= least:
            return True
        if self.streams:
            self.streams[-1].end()
        return not self.serving()

    def _shed(self, now):
        """Close the connection that has been silent for the longest time. True when there was one."""
        for connection in self.connections:  # oldest first
            if connection.waiting and time.ticks_diff(now, connection.began) > _SHED_MS:
                connection.waiting = False
                self._end(connection, "it sent no request, and others want to")
                return True
        return False

    def _end(self, connection, why):
        if connection.head and not connection.lingering:  # browsers open connections that they may never use
            self.note(connection.address, 408, "timeout", why)
        connection.task.cancel()

    async def _serve(self, connection):
        try:
            await self.app.handle_request(connection)
        except (OSError, EOFError):
            if connection.head and not connection.lingering and (connection.waiting or connection.left > 0):
                self.note(connection.address, 400, "incomplete", "it hung up before its request was whole")
        except asyncio.CancelledError:
            pass
        except MemoryError:
            self.relax()
            self.note(connection.address, 503, "no_memory", "too little memory for this connection")
        except Exception as error:
            SerialLog.exception(error, "web: a connection failed:")
        finally:
            connection.close()
            self.connections.remove(connection)

    def _check(self, now):
        """Twice a second: deadlines, streams whose client has gone, keep-alives, parts that nobody uses."""
        self._checked = now
        for connection in self.connections:
            if connection.deadline is not None and time.ticks_diff(connection.deadline, now) < 0:
                self._end(connection, "it was too slow")
            elif connection.streaming and connection.gone():
                connection.task.cancel()
        self._checks += 1
        if self._checks % _NOTES_AGAIN == 0:
            if self._notes > _NOTES:
                SerialLog.warning("web: %d more requests were refused" % (self._notes - _NOTES))
            self._notes = 0
        if self._checks % _KEEP_ALIVE == 0:
            for stream in self.streams:
                stream.keep_alive()
        if self._parts and time.ticks_diff(now, self._used) > _PART_MS:
            self.relax()


def _text(address):
    """The client's address, without its port."""
    if isinstance(address, tuple):
        return address[0]
    return "%d.%d.%d.%d" % tuple(address[4:8])  # the unix port gives a sockaddr
