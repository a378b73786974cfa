"""Connections: accepted, kept to their deadlines, each with its request read, guarded and answered.

At most so many at once: when all are taken, the oldest one that has not sent its request yet makes room, and the rest wait in the
backlog. An event stream is a connection that stays; it counts for itself. Where memory is short, the rest waits as well, and if
only event streams could give some back, the youngest ends: its page polls.

A request passes the guard before any handler sees it. It must

1. name this board in its Host header: a page elsewhere that has its own name resolved to this board cannot (DNS rebinding),
2. be a GET, HEAD or POST; a GET changes nothing,
3. not come from another site's page (Origin, Sec-Fetch-Site),
4. belong to a session, but for the page itself, ``/api/session`` and ``/api/login``,
5. for a POST carry the session's CSRF token (but for the login) and the right Content-Type.
"""

import asyncio
import gc
import time

from iot_platform.log import SerialLog
from micropython import const

import modules.web.api as api
import modules.web.events as events
import modules.web.sessions as sessions

from .http import Refused, Request

_MOST = const(8)
_LEAST = const(4_000)  # bytes of free heap for one more request
_EACH = const(3_000)  # and for each that is being served
_ACCEPTS = const(3)  # a tick
_CHECK_MS = const(500)
_SHED_MS = const(1_000)
_IDLE_MS = const(20_000)
_KEEP_ALIVE = const(30)  # checks
_NOTES_AGAIN = const(10)  # checks
_NOTES = const(6)  # lines in the log about refused requests, in so many checks
_HANDLERS = {
    "GET /api/session": sessions.who,
    "POST /api/login": sessions.login,
    "POST /api/logout": sessions.logout,
    "POST /api/password": sessions.change,
    "GET /api/status": api.status,
    "GET /api/panels": api.panels,
    "GET /api/values": api.values,
    "GET /api/log": api.log,
    "GET /api/events": events.events,
    "POST /api/log/level": api.set_level,
    "POST /api/log/purge": api.purge,
    "POST /api/action": api.action,
    "POST /api/restart": api.restart,
    "POST /api/ota/check": api.ota,
    "POST /api/ota/update": api.ota,
    "POST /api/ota/install": api.ota,
    "POST /api/ota/rollback": api.ota,
    "POST /api/ota/confirm": api.ota,
    "POST /api/ota/cancel": api.ota,
    "POST /api/ota/channel": api.channel,
    "POST /api/ota/upload": api.upload,
    "GET /api/wifi": api.wifi,
    "POST /api/wifi/scan": api.scan,
    "POST /api/wifi/join": api.join,
    "POST /api/wifi/forget": api.forget,
    "GET /api/mqtt": api.mqtt,
    "POST /api/mqtt": api.set_mqtt,
}


class Server:
    """:param web: the module."""

    def __init__(self, web):
        self.web = web
        self.requests = []  # http.Request, the oldest first
        self.streams = []  # events.Stream: those of them that stay
        self._busy = self._checked = time.ticks_ms()
        self._logged = self._notes = self._checks = 0

    def tick(self, now):
        """False when nobody has connected for so long that all of this can be forgotten."""
        if self.web.listener:
            self._accept(now)
        if self.streams and SerialLog.count != self._logged:
            self._logged = SerialLog.count
            self.wake(None)
        if time.ticks_diff(now, self._checked) >= _CHECK_MS:
            self._check(now)
        if self.requests:
            self._busy = now
        return time.ticks_diff(now, self._busy) < _IDLE_MS

    def wake(self, values):
        """Tell the streams: of changed values, or (None) of new lines in the log, or to say that they are alive."""
        for stream in self.streams:
            stream.wake(values)

    def close(self):
        for request in self.requests:
            request.close()

    # -- connections

    def _accept(self, now):
        for _ in range(_ACCEPTS):
            if not any(self.web.poll.ipoll(0)):
                return
            serving = len(self.requests) - len(self.streams)
            if serving >= _MOST and not self._shed(now) or not self._has_memory(serving):
                return
            try:
                sock, address = self.web.listener.accept()
            except OSError:  # it has hung up already
                return
            sock.setblocking(False)
            if not isinstance(address, tuple):  # the unix port gives a sockaddr
                address = ("%d.%d.%d.%d" % tuple(address[4:8]),)
            request = Request(sock, address[0])
            self.requests.append(request)
            request.task = asyncio.create_task(self._serve(request))

    def _has_memory(self, serving):
        """True when there is enough for one more request; a single one is served in any case."""
        least = _LEAST + _EACH * serving
        if self.web.platform.board.mem_free() < least:
            gc.collect()
            if self.web.platform.board.mem_free() < least:
                if self.streams:
                    self.streams[-1].request.task.cancel()
                return not serving
        return True

    def _shed(self, now):
        """Close the connection that has been silent for the longest time. True when there was one."""
        for request in self.requests:
            if request.waiting and time.ticks_diff(now, request.began) > _SHED_MS:
                request.waiting = False
                self._end(request, "it sent no request, and others want to")
                return True
        return False

    def _end(self, request, why):
        if request.head and not request.lingering:  # browsers open connections that they may never use
            self._note(request.address, 408, "timeout", why)
        request.task.cancel()

    def _check(self, now):
        """Twice a second: deadlines, streams whose client has gone, keep-alives."""
        self._checked = now
        for request in self.requests:
            if request.deadline is not None and time.ticks_diff(request.deadline, now) < 0:
                self._end(request, "it was too slow")
            elif request.streaming and request.gone():
                request.task.cancel()
        self._checks += 1
        if self._checks % _NOTES_AGAIN == 0:
            if self._notes > _NOTES:
                SerialLog.warning("web: %d more requests were refused" % (self._notes - _NOTES))
            self._notes = 0
        if self._checks % _KEEP_ALIVE == 0:
            self.wake(None)

    def _note(self, address, status, reason, message):
        """One line about a refused request; a flood of them is cut short."""
        if status == 401 and reason != "bad_password":  # a page whose session has ended asks again and again
            SerialLog.debug("web:", address, status, reason)
            return
        self._notes += 1
        if self._notes <= _NOTES:
            SerialLog.warning("web: refused %s: %s (%d %s)" % (address, message, status, reason))

    # -- one of them

    async def _serve(self, request):
        try:
            await self._answer(request)
            await request.finish()
        except (OSError, EOFError):
            if request.head and not request.answered:
                self._note(request.address, 400, "incomplete", "it hung up before its request was whole")
        except asyncio.CancelledError:
            pass
        except MemoryError:
            self._note(request.address, 503, "no_memory", "too little memory for this connection")
        except Exception as error:
            SerialLog.exception(error, "web: a connection failed:")
        finally:
            request.close()
            self.requests.remove(request)

    async def _answer(self, request):
        """Whatever happens, as long as nothing has been sent: every error is JSON, and a line in the log."""
        try:
            await request.read()
            self._guard(request)
            found = await self._handler(request)(self.web, request)
            if isinstance(found, int):
                found = (None, found)
            if found is not None:
                await request.answer(*(found if isinstance(found, tuple) else (found,)))
            return
        except Refused as error:
            refused = error
        except MemoryError:
            refused = Refused(503, "no_memory", "the board is short of memory, try again", 2)
        except Exception as error:
            if request.answered or (request.waiting or request.left > 0) and isinstance(error, (EOFError, OSError)):
                raise  # the connection has failed
            SerialLog.exception(error, "web: a request failed:")
            refused = Refused(500, "internal", "the board made a mistake: see its log")
        status, reason, message = refused.args[:3]
        self._note(request.address, status, reason, message)
        if not request.answered:
            wait = "".join(["Retry-After: %d\r\n" % seconds for seconds in refused.args[3:]])
            await request.answer({"error": reason, "message": message}, status, wait)

    def _guard(self, request):
        fields, path, post = request.fields, request.path, request.method == "POST"
        host = fields.get("host", "")
        if not self._knows(host):
            raise Refused(403, "bad_host", "this board does not go by that name: see web.hosts")
        if not post and request.method not in ("GET", "HEAD"):
            raise Refused(405, "bad_method", "only GET, HEAD and POST are known here")
        if not post and path[:5] != "/api/":
            return
        origin = fields.get("origin")
        if fields.get("sec-fetch-site", "none") not in ("same-origin", "none") or (
            post and origin is not None and origin.partition("://")[2] != host
        ):
            raise Refused(403, "cross_origin", "another site's page may not do this")
        if post and "content-length" not in fields:
            raise Refused(411, "length_required", "a body needs a content length")
        request.token = sessions.session(self.web, sessions.cookie_of(request))
        if path not in ("/api/session", "/api/login"):
            if not request.token:
                raise Refused(401, "login_required", "log in first")
            if post and fields.get("x-csrf") != request.token:
                raise Refused(403, "csrf", "the token of this session is missing or wrong")
        if post:
            wanted = "application/octet-stream" if path == "/api/ota/upload" else "application/json"
            if fields.get("content-type", "").partition(";")[0].strip() != wanted:
                raise Refused(415, "bad_type", "the body must be " + wanted)

    def _knows(self, host):
        """True when a Host header names this board."""
        host = host.lower()
        name, colon, port = host.rpartition(":")
        if not colon or not port.isdigit():
            name = host
        if name in ("localhost", "127.0.0.1") or name in self.web.cfg.get("hosts", ()):
            return True
        wifi = self.web.platform.module("wifi")
        return wifi is not None and name in wifi.addresses()

    def _handler(self, request):
        """Names from outside are looked up in dicts only: as an attribute each would stay in memory for ever."""
        path, own = request.path, self.web.handlers
        method, other = ("POST ", "GET ") if request.method == "POST" else ("GET ", "POST ")
        found = own.get(method + path) or _HANDLERS.get(method + path)
        if found:
            return found
        if path[:5] != "/api/" and method == "GET ":
            return api.page
        if path[:5] != "/api/" or other + path in own or other + path in _HANDLERS:
            raise Refused(405, "bad_method", "this needs " + other.strip())
        raise Refused(404, "not_found", "there is nothing at this address")
