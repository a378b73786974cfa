"""What is always there of the web server: the listening socket, who is logged in, and what other modules have declared.

All the rest is imported when the first browser connects, and forgotten when none has been there for a while; this file alone does
that. Where there is no memory for it, whoever asks gets one short answer from here: 503, and come again.
"""

import asyncio
import gc
import select
import socket
import time

from iot_platform import parts
from iot_platform.log import SerialLog
from iot_platform.module import Module as Base
from micropython import const

_SERVES = const(32_000)  # bytes of free heap for the server's code and two requests (measured)
_JOB = const(44_000)  # and for a job of the updater beside it
_BACKLOG = const(16)
_RETRY_MS = const(3_000)  # from one attempt to listen to the next
_NEVER_MS = const(600_000)
_AWAY_MS = const(1_000)  # browsers are sent away for so long before the memory is looked at again
_SAY_MS = const(10_000)  # from one such time to the next, so that it is logged again
_CALLERS = const(8)  # that are sent away at once
_READS = const(8)  # of 256 bytes of a caller's request
_SOON_MS = const(20)  # for the whole request to be there
_LATEST_MS = const(500)  # for the first byte of it
_REST_MS = const(100)  # longer than the main loop sleeps
_BUSY = const("HTTP/1.0 503 N/A\r\nRetry-After: 3\r\nCache-Control: no-store\r\nConnection: close\r\nContent-Type: ")
_JSON = const('application/json\r\n\r\n{"error": "%s", "message": "%s"}')
_PAGE = const('text/html\r\n\r\n<!doctype html><meta http-equiv="refresh" content="3"><title>%s</title><p>%s. Please wait.')


class Module(Base):
    name = "web"

    def __init__(self, platform):
        super().__init__(platform)
        self.cfg = {}
        self.handlers = {}  # of other modules: {"GET /path": handler}
        self.panels = []  # of other modules: (id, title, values, actions)
        self.logins = bytearray(576)  # a table, see sessions
        self.guesses = {}  # failed logins, see sessions
        self.stretching = False  # a password is being stretched, see sessions
        self.server = None  # server.Server while there are browsers
        self.listener = None
        self.poll = select.poll()
        self._uptime_ms = 0
        self._callers = []  # who is sent away: (socket, ticks_ms of its coming)
        self._again = self._clock = time.ticks_ms()  # _again: what failed for want of a port or of memory is tried again then

    # -- for other modules, in their routes(web)

    def route(self, path, handler, method="GET"):
        """Answer `path` with ``async handler(web, request)``, see http.Request.

        It returns what becomes JSON, ``(that, status)``, a status alone, or None when it has answered by itself. Below ``/api/``
        it takes a login, like everything there.
        """
        self.handlers[method + " " + path] = handler

    def panel(self, panel_id, title, values=(), actions=()):
        """Add a panel to the dashboard.

        :param panel_id: an action of the panel becomes the command ``<panel_id>/<action id>`` on the bus.
        :param values: rows ``(key on the bus, label, unit)``.
        :param actions: rows ``(id, label)`` or ``(id, label, question)``: a question is asked before it is done.
        """
        self.panels.append((panel_id, title, values, actions))

    # -- lifecycle

    def start(self):
        section, prefs = self.platform.profile.get("web"), self.platform.prefs
        if section is not None:
            from .config import check

            errors = check(section)
            if errors:
                SerialLog.warning("web: profile.json: %s %s; expected: %s; the section is not used" % errors[0])
            else:
                self.cfg = section
        if prefs.get("web.sessions") or not (self.cfg.get("password") or prefs.get("web.password")):
            from .sessions import set_up

            set_up(self)
        for name, module in self.platform.modules.items():
            self._declare(name, module)
        self.forget()
        self._listen()

    def tick(self):
        now = time.ticks_ms()
        waits = time.ticks_diff(self._again, now) > 0
        if self.server:
            if not self.server.tick(now):
                self.server = None
                self.forget()
        elif not self.listener:
            if not waits:
                self._listen()
        elif waits or self._callers:
            self._send_away(now, waits)
        elif any(self.poll.ipoll(0)):
            self._open(now)

    def telemetry(self):
        now = time.ticks_ms()
        self._uptime_ms += time.ticks_diff(now, self._clock)
        self._clock = now

    def on_telemetry(self, values):
        if self.server:
            self.server.wake(values)

    def on_command(self, command):
        """``web password`` at the serial console makes a new password, for an owner who has forgotten theirs."""
        if command.path == "web" and command.source == "console" and command.payload == "password":
            from .sessions import make_password

            make_password(self)

    def stop(self):
        """Before a restart. Sessions are handed over first: while the server is there, so is the code for that."""
        gc.collect()
        try:
            if any(self.logins):
                from .sessions import hand_over

                hand_over(self)
        finally:
            if self.server:
                self.server.close()
                self.server = None
            self.forget()
            if self.listener:
                self.poll.unregister(self.listener)
                self.listener.close()
                self.listener = None
                self._again = time.ticks_add(time.ticks_ms(), _NEVER_MS)

    # -- what the other parts use

    def seconds(self):
        """A clock that never goes back: seconds since the start."""
        return self._uptime_ms // 1000

    def forget(self):
        """All that was imported, unless it is serving somebody."""
        if not self.server:
            parts.forget("modules.web", ("module",))
            asyncio.create_task(_nothing())

    # -- inside

    def _updating(self):
        ota = self.platform.module("ota")
        return ota is not None and ota.job is not None

    def _declare(self, name, module):
        """Take a module's panels and routes; its mistakes are its own affair."""
        try:
            if module is not self:
                given = getattr(module, "panels", ())
                for panel in (given,) if isinstance(given, dict) else given:
                    self.panel(panel.get("id", name), panel["title"], panel.get("values", ()), panel.get("actions", ()))
            module.routes(self)
        except Exception as error:
            SerialLog.exception(error, "web: module", name, "failed in routes")

    def _listen(self):
        port = self.platform.board.tcp_port(self.cfg.get("port", 80))
        listener = socket.socket()
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind(socket.getaddrinfo("0.0.0.0", port)[0][-1])
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            self._again = time.ticks_add(time.ticks_ms(), _RETRY_MS)
            SerialLog.warning("web: cannot listen on port", port, error)
            return
        self.listener = listener
        self.poll.register(listener, select.POLLIN)
        SerialLog.log("web: listening on port", port)

    def _open(self, now):
        """The first browser for a while: import what serves it, if there is the memory for that. It may be in pieces."""
        gc.collect()
        try:
            if self.platform.board.mem_free() >= _SERVES + (_JOB if self._updating() else 0):
                from .server import Server

                self.server = Server(self)
                return
        except MemoryError:
            self.forget()
        if time.ticks_diff(now, self._again) > _SAY_MS:
            SerialLog.warning("web: browsers are sent away: too little memory to serve them")
        self._again = time.ticks_add(now, _AWAY_MS)

    def _send_away(self, now, more):
        """Without memory for the server: answer who has asked, and, if `more`, let another one ask. Nothing here waits."""
        try:
            if more and len(self._callers) < _CALLERS and any(self.poll.ipoll(0)):
                sock = self.listener.accept()[0]
                sock.setblocking(False)
                self._callers.append((sock, now))
        except OSError:  # it has hung up already
            pass
        for caller in list(self._callers):
            age = time.ticks_diff(now, caller[1])
            if age >= _SOON_MS and (self._answered(caller[0]) or age >= _LATEST_MS):
                caller[0].close()
                self._callers.remove(caller)

    def _answered(self, sock):
        """False while the caller has said nothing yet."""
        try:
            request = sock.read(256)
            for _ in range(_READS):  # what stays unread would cut off the answer
                if not sock.read(256):
                    break
            if request:
                updating = self._updating()
                word = "updating" if updating else "no_memory"
                sentence = "The board is updating itself" if updating else "The board is short of memory"
                api = request[:5] == b"POST " or request[:9] == b"GET /api/"
                sock.write((_BUSY + (_JSON if api else _PAGE) % (word, sentence)).encode())
            return request is not None
        except OSError:
            return True


async def _nothing():
    """What asyncio's queue remembers as its last task, in place of a connection's: that holds the whole server."""
    await asyncio.sleep_ms(_REST_MS)
