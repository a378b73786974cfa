"""The web server's frame: accepts connections, keeps their deadlines, and feeds the event streams; all from tick().

Resident are this file, app, connection, refused, sessions and microdot's core. What answers a request (api, static, account...) is
imported for it, and forgotten when no connection has needed it for a while.
"""

import asyncio
import select
import socket
import time

from iot_platform import parts
from iot_platform.module import Module as Base
from micropython import const

from modules.serial_log import SerialLog

from .app import App
from .connection import Connection
from .sessions import Sessions

_MOST = const(8)  # connections at once, streams not counted: others wait in the backlog
_ACCEPTS = const(3)  # a tick
_CHECK_MS = const(500)
_FORGET_MS = const(5_000)
_SHED_MS = const(1_000)
_RETRY_MS = const(3_000)
_KEEP_ALIVE_MS = const(15_000)
_NOTES = const(6)  # lines in the log about refused requests, in ten seconds
_STAYS = ("module", "app", "connection", "refused", "sessions")


class Module(Base):
    name = "web"

    def __init__(self, platform):
        super().__init__(platform)
        self.cfg = {}
        self.sessions = None
        self.app = None
        self.panels = []  # of other modules: dicts
        self.streams = []  # events.Events that are open
        self.guesses = {}  # of account: failed logins
        self.stretching = False  # a password is being stretched
        self._listener = None
        self._poll = select.poll()
        self._connections = []
        self._parts = {}
        self._used = self._checked = self._kept_alive = self._retry = time.ticks_ms()
        self._clock_ms = 0
        self._logged = 0
        self._notes = 0
        self.max_streams = 4

    # -- for other modules, in their routes(web)

    def route(self, path, handler, method="GET"):
        """Answer `path` (not below /api/ in use) with ``async handler(web, request)``: a dict, ``(dict, status)`` or a Response."""
        self.app.routes[method + " " + path] = handler

    def panel(self, panel_id, title, values=(), actions=()):
        """Add a panel to the dashboard.

        :param panel_id: an action of the panel becomes the command ``<panel_id>/<action id>`` on the bus.
        :param values: rows ``(key on the bus, label, unit)``.
        :param actions: rows ``(id, label)`` or ``(id, label, question)``: a question is asked before it is done.
        """
        self.panels.append((panel_id, title, values, actions))

    # -- lifecycle

    def start(self):
        from .config import check

        section = self.platform.profile.get("web")
        errors = check(section)
        if errors:
            SerialLog.warning("web: profile.json: %s %s; expected: %s; the section is not used" % errors[0])
        self.cfg = section if section and not errors else {}
        self.max_streams = self.cfg.get("max_streams", 4)
        self.sessions = Sessions(self.cfg.get("session_s", 3600))
        self.sessions.take_over(self.platform.prefs)
        self.app = App(self)
        for name in list(self.platform.modules):
            self._add_routes(name, self.platform.modules[name])
        self._listen()
        if not self.platform.prefs.get("web.password") and "password" not in self.cfg:
            self.stretching = True
            asyncio.create_task(self._make_password())
        parts.forget("modules.web", _STAYS)

    def tick(self):
        now = time.ticks_ms()
        if self._listener:
            self._accept(now)
        elif time.ticks_diff(now, self._retry) > 0:
            self._listen()
        if self.streams and SerialLog.count != self._logged:
            self._logged = SerialLog.count
            self._wake(None)
        if time.ticks_diff(now, self._checked) >= _CHECK_MS:
            self._check(now)

    def on_telemetry(self, values):
        if self.streams:
            self._wake(values)

    def on_command(self, command):
        """At the serial console ``web password`` makes a new password, for an owner who has forgotten theirs."""
        if command.path == "web" and command.source == "console" and command.payload == "password" and not self.stretching:
            self.stretching = True
            asyncio.create_task(self._make_password())

    def stop(self):
        if self.sessions:
            self.sessions.hand_over(self.platform.prefs)
        for connection in list(self._connections):
            connection.close()
        if self._listener:
            self._listener.close()
            self._listener = None
            self._retry = time.ticks_add(time.ticks_ms(), 600_000)

    # -- what app and the handlers use

    def part(self, name):
        """A file of this package that is imported when it is needed."""
        self._used = time.ticks_ms()
        if name not in self._parts:
            self._parts[name] = __import__("modules.web." + name, None, None, ("x",))
        return self._parts[name]

    def relax(self):
        """Give back memory."""
        self._parts = {}
        parts.forget("modules.web", _STAYS)

    def knows_host(self, host):
        """True when a Host header names this board."""
        name, colon, port = host.lower().rpartition(":")
        if not colon or not port.isdigit():
            name = host.lower()
        if name in ("localhost", "127.0.0.1") or name in self.cfg.get("hosts", ()):
            return True
        wifi = self.platform.module("wifi")
        return bool(name) and wifi is not None and name in wifi.addresses()

    def uptime_s(self):
        return self._clock_ms // 1000

    def note(self, address, status, reason):
        """One line about a refused request; a flood of them is cut short."""
        if isinstance(address, tuple):
            address = address[0]
        if status in (401, 404) and reason[0] in ("login_required", "not_found"):
            SerialLog.debug("web:", address, status, reason[0])
            return
        self._notes += 1
        if self._notes <= _NOTES:
            SerialLog.warning("web: refused %s: %s (%d %s)" % (address, reason[1], status, reason[0]))

    # -- inside

    def _listen(self):
        port = self.platform.board.tcp_port(self.cfg.get("port", 80))
        try:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind(socket.getaddrinfo("0.0.0.0", port)[0][-1])
            listener.listen(8)
        except OSError as error:
            listener.close()
            self._retry = time.ticks_add(time.ticks_ms(), _RETRY_MS)
            self.platform.log("web: cannot listen on port", port, error)
            return
        self._listener = listener
        self._poll.register(listener, select.POLLIN)
        self.platform.log("web: listening on port", port)

    def _accept(self, now):
        for _ in range(_ACCEPTS):
            if len(self._connections) - len(self.streams) >= _MOST and not self._shed(now):
                return
            for _ready in self._poll.ipoll(0):
                break
            else:
                return
            try:
                sock, address = self._listener.accept()
            except OSError:  # it has hung up already
                return
            sock.setblocking(False)
            connection = Connection(sock, _text(address))
            self._connections.append(connection)
            connection.task = asyncio.create_task(self._serve(connection))

    def _shed(self, now):
        """Too many connections: close the one that has been silent for the longest time. True when there was one."""
        for connection in self._connections:  # oldest first
            if connection.waiting and time.ticks_diff(now, connection.began) > _SHED_MS:
                self.note(connection.address, 408, ("timeout", "too many connections, and it sent no request"))
                connection.task.cancel()
                connection.waiting = False
                return True
        return False

    async def _serve(self, connection):
        try:
            await self.app.handle_request(connection)
        except (OSError, EOFError):  # it has hung up
            if connection.waiting:
                SerialLog.debug("web:", connection.address, "hung up before its request was whole")
        except asyncio.CancelledError:
            pass
        except MemoryError:
            self.relax()
            self.note(connection.address, 503, ("no_memory", "too little memory for this connection"))
        except Exception as error:
            SerialLog.exception(error, "web: a connection failed:")
        finally:
            connection.close()
            if connection in self._connections:
                self._connections.remove(connection)

    def _check(self, now):
        """Twice a second: deadlines, streams whose client has gone, keep-alives, parts that nobody uses."""
        diff = time.ticks_diff(now, self._checked)
        self._checked = now
        self._clock_ms += diff
        self.sessions.now = self._clock_ms // 1000
        for connection in self._connections:
            late = connection.deadline is not None and time.ticks_diff(connection.deadline, now) < 0
            if late:
                if connection.waiting or connection.left:
                    self.note(connection.address, 408, ("timeout", "its request did not come in time"))
                connection.task.cancel()
            elif connection.streaming and connection.gone():
                connection.task.cancel()
        if time.ticks_diff(now, self._kept_alive) >= _KEEP_ALIVE_MS:
            self._kept_alive = now
            if self._notes > _NOTES:
                SerialLog.warning("web: %d more requests were refused" % (self._notes - _NOTES))
            self._notes = 0
            for stream in self.streams:
                stream.keep_alive()
        if self._parts and time.ticks_diff(now, self._used) > _FORGET_MS and not self.streams:
            self.relax()

    def _wake(self, values):
        for stream in self.streams:
            stream.wake(values)

    def _add_routes(self, name, module):
        try:
            declared = getattr(module, "panels", ()) if module is not self else ()
            for panel in (declared,) if isinstance(declared, dict) else declared:
                self.panel(panel.get("id", name), panel["title"], panel.get("values", ()), panel.get("actions", ()))
            module.routes(self)
        except Exception as error:  # a module's mistake is its own affair
            SerialLog.exception(error, "web: module", name, "failed in routes")

    async def _make_password(self):
        try:
            await self.part("password").make(self)
        finally:
            self.stretching = False


def _text(address):
    """The client's address, without its port."""
    if isinstance(address, tuple):
        return address[0]
    return "%d.%d.%d.%d" % tuple(address[4:8])  # the unix port gives a sockaddr
