"""What is always there of the web server: the listening socket, who is logged in, and what other modules have declared.

All the rest (server, app, connection, microdot, the handlers) is imported when a browser connects, and forgotten when none has
been there for a while: an update that comes by itself has that memory.
"""

import select
import socket
import sys
import time

from iot_platform import parts
from iot_platform.module import Module as Base
from micropython import const

from modules.serial_log import SerialLog

_RETRY_MS = const(3_000)
_NEVER_MS = const(600_000)
_BACKLOG = const(16)


class Module(Base):
    name = "web"

    def __init__(self, platform):
        super().__init__(platform)
        self.cfg = {}
        self.handlers = {}  # of other modules: {"GET /path": handler}
        self.panels = []  # of other modules: (id, title, values, actions)
        self.logins = {}  # see sessions
        self.guesses = {}  # failed logins, see account
        self.stretching = False  # a password is being stretched, see password
        self.listener = None
        self.poll = select.poll()
        self.uptime_ms = 0
        self._server = None
        self._held = False  # True while an update needs the memory of this
        self._retry = self._clock = time.ticks_ms()

    # -- for other modules, in their routes(web)

    def route(self, path, handler, method="GET"):
        """Answer `path` with ``async handler(web, request)``: a dict, ``(dict, status)`` or microdot's Response.

        Below ``/api/`` it takes a login, like everything there.
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
        from .setup import set_up

        set_up(self)
        self.forget()
        self._listen()

    def tick(self):
        if self._server:
            if not self._server.tick():
                self._server = None
                self.forget()
        elif self.listener:
            for _ready in self.poll.ipoll(0):
                self._open()
        elif time.ticks_diff(time.ticks_ms(), self._retry) > 0:
            self._listen()

    def telemetry(self):
        now = time.ticks_ms()
        self.uptime_ms += time.ticks_diff(now, self._clock)
        self._clock = now

    def on_telemetry(self, values):
        if self._server:
            self._server.wake(values)

    def on_command(self, command):
        """``web password`` at the serial console makes a new password, for an owner who has forgotten theirs."""
        if command.path == "web" and command.source == "console" and command.payload == "password":
            self.make_password()

    def relax(self):
        """Without browsers until the update is over: they ask again and again, as they do while a board restarts."""
        self._held = True
        if self._server:
            self._server.leave()

    def stop(self):
        if self._server:
            self._server.close()
        if self.logins:
            from .sessions import hand_over

            hand_over(self)
        if self.listener:
            self.poll.unregister(self.listener)
            self.listener.close()
            self.listener = self._server = None
            self._retry = time.ticks_add(time.ticks_ms(), _NEVER_MS)

    # -- what the other parts use

    def seconds(self):
        """A clock that never goes back: seconds since the start."""
        return self.uptime_ms // 1000

    def make_password(self):
        """Make a password, as a task of its own, and show it on the serial console."""
        import asyncio

        if not self.stretching:
            self.stretching = True
            asyncio.create_task(self._make_password())

    def forget(self):
        """Give back the memory of all parts that nobody is using."""
        if not self._server:
            for name in "microdot.microdot", "microdot":
                sys.modules.pop(name, None)
            parts.forget("modules.web", ("module",))
        else:
            parts.forget("modules.web", ("module", "server", "app", "connection", "refused", "sessions"))

    # -- inside

    async def _make_password(self):
        try:
            from .password import make

            await make(self)
        finally:
            self.stretching = False
            self.forget()

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
            self._retry = time.ticks_add(time.ticks_ms(), _RETRY_MS)
            SerialLog.warning("web: cannot listen on port", port, error)
            return
        self.listener = listener
        self.poll.register(listener, select.POLLIN)
        SerialLog.log("web: listening on port", port)

    def _open(self):
        """The first browser for a while: import what serves it. Without the memory for that it is sent away."""
        ota = self.platform.module("ota")
        self._held = bool(self._held and ota and ota.job)
        if not self._held:
            try:
                from .server import Server

                self._server = Server(self)
                return
            except MemoryError:
                self.forget()
                SerialLog.warning("web: a browser was sent away: memory is short")
        self.listener.accept()[0].close()
