"""Connections: accepted, kept to their deadlines, each with its request read, guarded and answered.

At most so many at once, the rest waits in the backlog. When all are taken, or memory is, the one makes room that has kept the
board waiting for the longest time: for its request, or for taking what it asked for. Who is logged in is not touched by that. And
only so many of an address may be without their request. An event stream is a connection that stays; it counts for itself. If only
event streams could give some memory back, the youngest ends: its page polls.
"""

import asyncio
import gc
import time

from iot_platform import sockets
from iot_platform.log import SerialLog
from micropython import const

import modules.web.events as events
import modules.web.sessions as sessions

from .http import Refused, Request, page

_MOST = const(8)
_LEAST = const(5_000)  # bytes of free heap for one more request
_EACH = const(4_000)  # and for each that is being served
_ACCEPTS = const(3)  # a tick
_SHED_MS = const(1_000)  # that a connection may keep the board waiting while others wait
_LATE_MS = const(200)  # after which a request that is not there counts for its address,
_LATE = const(3)  # which has so many of them
_IDLE_S = const(20)
_PERIOD_S = const(10)  # of keep-alives, and of
_NOTES = const(10)  # lines in the log about refused requests
# By the path below /api/: what pages ask for all the time; and the file of what is done, in memory only meanwhile. Its function
# is called as the path begins.
_READ = {
    "session": sessions.status,
    "status": events.status,
    "panels": events.panels,
    "values": events.values,
    "log": events.log,
    "events": events.events,
    "wifi": events.wifi,
    "mqtt": events.mqtt,
}
_DONE = const(
    " login:passwords logout:sessions password:passwords prefs:config mqtt:config wifi/scan:config wifi/join:config"
    " wifi/forget:config log/level:api log/purge:api console:api action:api restart:api ota/check:api ota/update:api"
    " ota/install:api ota/rollback:api ota/confirm:api ota/cancel:api ota/channel:api ota/upload:api "
)


class Server:
    """:param web: the module."""

    def __init__(self, web):
        self.web = web
        self.requests = []  # http.Request, the oldest first
        self.streams = []  # events.Stream: those of them that stay
        self._since = web.seconds()  # when there was a request
        self._told = self._notes = 0

    def tick(self, now):
        for _ in range(_ACCEPTS):
            if not self.web.asked() or not self._free(now):
                break
            self._open()
        if self.streams and SerialLog.count != self._told:
            self._told = SerialLog.count
            self.tell(None)

    def tell(self, values):
        """Tell the streams: of changed values, or (None) of new lines in the log, or to say that they are alive."""
        for stream in self.streams:
            stream.tell(values)

    def check(self, now, seconds):
        """Once a second: deadlines, streams whose client has gone, keep-alives. False when nobody has been here for long."""
        for request in self.requests:
            if request.timeout is not None and time.ticks_diff(request.timeout, now) < 0:
                self._end(request, "it was too slow")
        for stream in self.streams:
            if stream.request.ended():
                stream.request.task.cancel()
        if seconds % _PERIOD_S == 0:
            if self._notes > _NOTES:
                SerialLog.warning("web: %d more requests were refused" % (self._notes - _NOTES))
            self._notes = 0
            self.tell(None)
        if self.requests:
            self._since = seconds
        return seconds - self._since < _IDLE_S

    def close(self):
        for request in self.requests:
            request.task.cancel()
            request.stream.s.close()  # there may be no next round in which the task ends

    # -- connections

    def _open(self):
        try:
            sock, address = self.web.sock.accept()
        except OSError:  # it has hung up already
            return
        sockets.heard = True
        sock.setblocking(False)
        if not isinstance(address, tuple):  # the unix port gives a sockaddr
            address = ("%d.%d.%d.%d" % tuple(address[4:8]),)
        request = Request(sock, address[0])
        self._shed(time.ticks_ms(), _LATE_MS, "too many connections", request.address, _LATE)
        self.requests.append(request)
        self._since = self.web.seconds()
        request.task = asyncio.create_task(self._serve(request))

    def _free(self, now):
        """True when one more request can be served; a single one is in any case."""
        serving = len(self.requests) - len(self.streams)
        board, least = self.web.platform.board, _LEAST + _EACH * serving
        short = board.mem_free() < least
        if short:
            gc.collect()
            short = board.mem_free() < least
        if (short or serving >= _MOST) and self._shed(now, _SHED_MS, "others wait"):
            return False  # but soon
        if short and self.streams:
            self.streams[-1].request.task.cancel()
        return serving < _MOST and not (short and serving)

    def _shed(self, now, idle_ms, why, address=None, most=0):
        """Close the oldest of those that keep the board waiting, where there are more than `most`. True if one was.

        :param address: look only at its own, which have not sent their request.
        """
        slow = [
            request
            for request in self.requests
            if request.waiting
            and not (request.whole if address else request.csrf)
            and (not address or address == request.address)
            and time.ticks_diff(now, request.since) > idle_ms
        ]
        if len(slow) <= most:
            return False
        slow[0].waiting = False
        self._end(slow[0], why)
        return True

    def _end(self, request, why):
        if request.head:  # browsers open connections that they may never use
            self._note(request, 408, "timeout", why)
        request.task.cancel()

    def _note(self, request, status, reason, message):
        """One line about a refused request; a flood of them is cut short."""
        if status == 401 and reason != "bad_password":  # a page whose session has ended asks again and again
            SerialLog.debug("web: %s %d %s" % (request.address, status, reason))
            return
        self._notes += 1
        if self._notes <= _NOTES:
            SerialLog.warning("web: refused %s: %s (%d %s)" % (request.address, message, status, reason))

    # -- one of them

    async def _serve(self, request):
        try:
            await self._answer(request)
            await request.finish()
        except (OSError, EOFError):
            if request.head and not request.started:
                self._note(request, 400, "incomplete", "the client hung up")
        except asyncio.CancelledError:
            pass
        except MemoryError:
            self._note(request, 503, "no_memory", "its answer ended")
        except Exception as error:
            SerialLog.exception(error, "web: a connection failed:")
        finally:
            request.stream.s.close()
            self.requests.remove(request)

    async def _answer(self, request):
        """Whatever happens, as long as nothing has been sent: every error is JSON, and a line in the log."""
        try:
            await request.read()
            sessions.guard(self.web, request)
            found = self._find(request)
            if isinstance(found, str):
                file, _, name = found.partition(" ")
                found = self.web.platform.once("modules.web." + file, name, self.web, request)
            else:
                found = found(self.web, request)
            if hasattr(found, "send"):  # of an async handler
                found = await found
            if request.started:
                return
            if found is None:
                found = (None, 204)
            elif isinstance(found, int):
                found = ({"started": True} if found == 202 else None, found)
            await request.answer(*(found if isinstance(found, tuple) else (found,)))
            return
        except Refused as error:
            refused = error.args
        except MemoryError:
            refused = (503, "no_memory", "", 2)
        except Exception as error:
            if request.started or (not request.whole or request.left > 0) and isinstance(error, (EOFError, OSError)):
                raise  # the connection has failed
            SerialLog.exception(error, "web: a request failed:")
            refused = (500, "internal", "see the log")
        status, reason, why, wait = (refused + ("", 0))[:4]
        message = reason.replace("_", " ") + (": " + why if why else "")
        self._note(request, status, reason, message)
        if not request.started:
            fields = "Retry-After: %d\r\n" % wait if wait else ""
            await request.answer({"error": reason, "message": message}, status, fields)

    def _find(self, request):
        """The handler, or file and name of one. Names from outside are looked for as text and in dicts only: as an attribute each
        would stay in memory for ever.
        """
        path, own = request.path, self.web.handlers
        method, other = ("POST", "GET") if request.method == "POST" else ("GET", "POST")
        key = path[:5] == "/api/" and path[5:]
        at = _DONE.find(" " + key + ":") + 2 if key else 0
        found = own.get((method, path)) or (_READ.get(key) if method == "GET" else None)
        if found:
            return found
        if not key and method == "GET":
            return page
        if at > 1 and (method == "POST" or key == "prefs"):
            return _DONE[at + len(key) :].split(" ")[0] + " " + key.split("/")[0]
        if not key or (other, path) in own or at > 1 or key in _READ:
            raise Refused(405, "bad_method", other)
        raise Refused(404, "not_found")
