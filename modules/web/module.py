"""What is always there of the web server: the listening socket, who is logged in, and what other modules have declared.

All the rest (server, app, connection, microdot, the handlers) is imported when a browser connects, and forgotten when none has
been there for a while: an update that comes by itself has that memory. An update that runs short of memory gets it back: then few
browsers are served until it is over, without event streams, or none, where the server alone is too much (see spare).
"""

import asyncio
import gc
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
_SERVES = const(24_000)  # bytes of free heap that the server and a request take
_UPDATES = const(44_000)  # and that an update takes beside them
_SAY_MS = const(10_000)
_REST_MS = const(100)  # longer than the main loop sleeps
_TIGHT_MS = const(90_000)  # what could not begin for want of memory is tried again within this time


class Module(Base):
    name = "web"

    def __init__(self, platform):
        super().__init__(platform)
        self.cfg = {}
        self.handlers = {}  # of other modules: {"GET /path": handler}
        self.panels = []  # of other modules: (id, title, values, actions)
        self.logins = None  # see sessions
        self.guesses = {}  # failed logins, see account
        self.stretching = False  # a password is being stretched, see password
        self.listener = None
        self.poll = select.poll()
        self.uptime_ms = 0
        self.tight = 0  # how often memory was short for an update that runs, or that could not begin
        self._server = self._spare = None
        self._ending = 0  # rounds until the tasks of a server that had to go have come to their end
        self._relaxed = None  # ticks_ms of the last relax()
        self._said = None  # ticks_ms of the last line about short memory
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
        if self._ending:
            self._ending -= 1
            if not self._ending:
                self.forget()
        if self.tight:
            self._give_way()
        if self._server:
            if not self._server.tick():
                self._server = None
                self.forget()
        elif self._spare:
            if not self._spare.tick():
                self._spare = None
                self.forget()
        elif self.listener and not self._ending:
            for _ready in self.poll.ipoll(0):
                self._open()
        elif not self.listener and time.ticks_diff(time.ticks_ms(), self._retry) > 0:
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
        """Every browser gives way to an update that is short of memory. Whether some may come back is seen in _open()."""
        self.tight += 1
        self._relaxed = time.ticks_ms()
        if self._server:
            self._server.shed()
            self._server = None
            self._ending = 2

    def stop(self):
        for server in self._server, self._spare:
            if server:
                server.close()
        self._server = self._spare = None
        self.forget()
        gc.collect()
        if self.logins and any(self.logins):
            from .sessions import hand_over

            hand_over(self)
        if self.listener:
            self.poll.unregister(self.listener)
            self.listener.close()
            self.listener = None
            self._retry = time.ticks_add(time.ticks_ms(), _NEVER_MS)

    # -- what the other parts use

    def seconds(self):
        """A clock that never goes back: seconds since the start."""
        return self.uptime_ms // 1000

    def excuse(self):
        """Why browsers are sent away: a word for a program, a sentence for a person."""
        if not self._updating():
            return "no_memory", "the board is short of memory, try again"
        percent = self.platform.bus.get("ota/progress")
        return "updating", "the board needs its memory for an update" + (": %d %%" % percent if percent else "")

    def make_password(self):
        """Make a password, as a task of its own, and show it on the serial console."""
        if not self.stretching:
            self.stretching = True
            asyncio.create_task(self._make_password())

    def forget(self):
        """Give back the memory of all parts that nobody is using."""
        if self._server:
            parts.forget("modules.web", ("module", "server", "app", "connection", "refused", "sessions"))
            return
        for name in "microdot.microdot", "microdot":
            sys.modules.pop(name, None)
        parts.forget("modules.web", ("module",))
        asyncio.create_task(_nothing())

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
        """The first browser for a while: import what serves it, or, without the memory for that, what sends it away."""
        gc.collect()
        try:
            if not self._serve():
                self._send_away()
        except MemoryError:
            self._spare = None
            self.forget()
            self.listener.accept()[0].close()

    def _serve(self):
        """False without the memory for it: where there seems to be enough, it may be in pieces."""
        if self.platform.board.mem_free() < _SERVES + (_UPDATES if self.tight else 0) or self.tight >= 2:
            return False
        try:
            from .server import Server

            self._server = Server(self)
            return True
        except MemoryError:
            self.forget()
            return False

    def _send_away(self):
        from .spare import Spare

        self._spare = Spare(self)
        now = time.ticks_ms()
        if self._said is None or time.ticks_diff(now, self._said) > _SAY_MS:
            self._said = now
            SerialLog.warning("web: browsers are sent away:", self.excuse()[1])

    def _give_way(self):
        """While memory is short: see when it is over."""
        if self._updating():
            self._relaxed = None
        elif self._relaxed is None or time.ticks_diff(time.ticks_ms(), self._relaxed) > _TIGHT_MS:
            self.tight = 0

    def _updating(self):
        ota = self.platform.module("ota")
        return ota is not None and (ota.job is not None or ota.state == "rebooting")


async def _nothing():
    """What asyncio's queue remembers as its last task, in place of a connection's: that holds the whole server, 20 KB of code."""
    await asyncio.sleep_ms(_REST_MS)
