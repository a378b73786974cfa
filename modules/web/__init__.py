"""What is always there of the web server: the listening socket, who is logged in, and what other modules have declared.

All the rest is imported when the first browser connects, and forgotten when none has been there for a while; this file alone does
that. Where there is no memory for it, whoever asks gets one short answer from here: 503, and come again.
"""

import gc
import select
import socket
import time

import ota_boot
from iot_platform.log import SerialLog
from iot_platform.module import Module as Base
from iot_platform.module import forget
from micropython import const

_SERVES = const(24_000)  # bytes of free heap for the server's code, a request and a stream (measured)
_JOB = const(46_000)  # and for a job of the updater beside it: _OBTAIN of modules/ota/updates, and what a check leaves
_BACKLOG = const(16)
_RETRY_S = const(3)  # from one attempt to listen to the next
_AWAY_S = const(1)  # browsers are sent away for so long before the memory is looked at again
_SAY_S = const(10)  # from one such time to the next, so that it is logged again
_CALLERS = const(8)  # that are sent away at once
_PIECE = const(128)  # bytes of a caller's request at once
_READS = const(16)
_SOON_MS = const(20)  # for the whole request to be there
_LATEST_MS = const(500)  # for the first byte of it
_BUSY = const("HTTP/1.0 503 \r\nRetry-After: 3\r\nCache-Control: no-store\r\nConnection: close\r\nContent-Type: ")
_JSON = const('application/json\r\n\r\n{"error": "%s", "message": "The board is %s"}')
_PAGE = const(
    'text/html\r\n\r\n<!doctype html><meta http-equiv="refresh" content="3"><title>%s</title><p>The board is %s. Please wait.'
)


def password_ok(value):
    """True for what may become a password, in the profile or on the page: 8 characters to 64 bytes."""
    return isinstance(value, str) and len(value) >= 8 and len(value.encode()) <= 64


class Module(Base):
    name = "web"

    def __init__(self, platform):
        super().__init__(platform)
        self.cfg = {}
        self.handlers = {}  # of other modules: {(method, path): handler}
        self.sessions = bytearray(576)  # a table, see sessions
        self.handed_over = False
        self.failures = {}  # wrong passwords, see sessions
        self.known = bytearray(32)  # eight addresses that have logged in, see sessions
        self.stretching = False  # a password is being stretched, see sessions
        self.server = None  # server.Server while there are browsers
        self.sock = None  # listens
        self.poll = select.poll()
        self.waiting = []  # who is sent away: (socket, ticks_ms of its coming)
        self.look_at = 0  # seconds(): what failed for want of a port or of memory is tried again then

    def route(self, path, handler, method="GET"):
        """For other modules, in their routes(web): answer `path` with ``handler(web, request)``, see http.Request.

        It may be async. It returns what becomes JSON, ``(that, status)``, a status alone, or None when it has answered by itself,
        or has nothing to say. Below ``/api/`` it takes a login, like everything there.
        """
        self.handlers[method, path] = handler

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
        if prefs.get("web.sessions"):
            from .sessions import take_over

            take_over(self)
        if not (self.cfg.get("password") or prefs.get("web.password")):
            from .passwords import renew

            renew(self)
        for name, module in self.platform.modules.items():
            try:
                module.routes(self)
            except Exception as error:  # its mistakes are its own affair
                SerialLog.exception(error, "web: module", name, "failed in routes")
        self.forget()
        self._listen()

    def tick(self):
        now, due = time.ticks_ms(), self.seconds() >= self.look_at
        if self.server:
            self.server.tick(now)
        elif not self.sock:
            if due:
                self._listen()
        elif self.waiting or not due:
            self._answer(now, not due)
        elif self.asked():
            self._open()

    def telemetry(self):
        if self.server and not self.server.check(time.ticks_ms(), self.seconds()):
            self.server = None
            self.forget()

    def on_telemetry(self, values):
        if self.server:
            self.server.tell(values)

    def on_command(self, command):
        """``web password`` at the serial console makes a new password, for an owner who has forgotten theirs."""
        if command.path == "web" and command.source == "console" and command.payload == "password":
            from .passwords import renew

            renew(self)

    def stop(self):
        """Before a restart."""
        try:
            self.end()
        finally:
            if self.sock:
                self.sock.close()
                self.sock = None

    # -- what the other parts use

    def end(self):
        """A restart is coming, perhaps for want of memory: nobody is served any more.

        Sessions are handed over first, once: while the server is there, so is the code for that.
        """
        gc.collect()
        try:
            if any(self.sessions) and not self.handed_over:
                from .sessions import hand_over

                hand_over(self)
                self.handed_over = True
        finally:
            if self.server:
                self.server.close()
                self.server = None
            self.forget()

    def seconds(self):
        """A clock that never goes back: seconds since the start."""
        return self.platform.uptime

    def asked(self):
        """True when somebody waits at the door."""
        return any(self.poll.ipoll(0))

    def forget(self):
        """All that was imported, unless it is serving somebody."""
        if not self.server:
            forget("modules.web", ())

    # -- inside

    def _job(self):
        """True while an update is at work, or on trial."""
        ota = self.platform.module("ota")
        return ota_boot.state or (ota and ota.job)

    def _listen(self):
        host, port = self.platform.board.tcp_address(self.cfg.get("port", 80))
        sock = socket.socket()
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setblocking(False)
            sock.bind(socket.getaddrinfo(host, port)[0][-1])
            sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            self.look_at = self.seconds() + _RETRY_S
            SerialLog.warning("web: cannot listen on port", port, error)
            return
        self.sock = sock
        self.poll.register(sock, select.POLLIN)
        SerialLog.log("web: listening on port", port)

    def _open(self):
        """The first browser for a while: import what serves it, if there is the memory for that. It may be in pieces."""
        gc.collect()
        try:
            if self.platform.board.mem_free() >= _SERVES + (_JOB if self._job() else 0):
                from .server import Server

                self.server = Server(self)
                return
        except MemoryError:
            self.forget()
        if self.seconds() > self.look_at + _SAY_S:
            SerialLog.warning("web: browsers are sent away: too little memory to serve them")
        self.look_at = self.seconds() + _AWAY_S

    def _answer(self, now, more):
        """Without memory for the server: answer who has asked, and, if `more`, let another one ask. Nothing here waits."""
        try:
            if more and len(self.waiting) < _CALLERS and self.asked():
                sock = self.sock.accept()[0]
                sock.setblocking(False)
                self.waiting.append((sock, now))
        except OSError:  # it has hung up already
            pass
        for caller in list(self.waiting):
            sock, came = caller
            age = time.ticks_diff(now, came)
            if age >= _SOON_MS and (self._told(sock) or age >= _LATEST_MS):
                sock.close()
                self.waiting.remove(caller)

    def _told(self, sock):
        """False while the caller has said nothing yet; then it is answered. The heap may be in pieces: none here is long."""
        try:
            request = bytearray(_PIECE)
            n = sock.readinto(request)
            if not n:
                return n is not None
            page = request[:4] == b"GET " and request[4:9] != b"/api/"
            for _ in range(_READS):  # what stays unread would cut off the answer
                if not sock.readinto(request):
                    break
            job = self._job()
            why = ("updating", "updating itself") if job else ("no_memory", "short of memory")
            sock.write(_BUSY)
            sock.write((_PAGE if page else _JSON) % why)
        except (OSError, MemoryError):
            pass
        return True
