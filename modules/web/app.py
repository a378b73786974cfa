"""From a request to its answer: microdot's Request and Response, and handlers found in files that are imported when needed.

A request passes the guard before any handler sees it. It must

1. name this board in its Host header: a page elsewhere that has its own name resolved to this board cannot (DNS rebinding),
2. be a GET, HEAD or POST; a GET changes nothing,
3. not come from another site's page (Origin, Sec-Fetch-Site),
4. belong to a session, but for the page itself, ``/api/session`` and ``/api/login``,
5. for a POST carry the session's CSRF token (but for the login) and the right Content-Type.
"""

import json

from microdot.microdot import Request, Response
from micropython import const

from modules.serial_log import SerialLog

from .refused import Refused
from .sessions import csrf

_MAX_BODY = const(1024)  # of all but uploads
_MAX_NESTED = const(100)
_FILES = {
    "session": "account", "login": "account", "logout": "account", "password": "account",
    "events": "events", "ota": "updates", "wifi": "settings", "mqtt": "settings",
}  # fmt: skip
_HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Connection", "close"),
)

Request.max_body_length = _MAX_BODY  # microdot reads no more than this before the guard has looked
Response.send_file_buffer_size = 256


class App:
    """:param server: what handlers get beside the request; ``server.web`` is the module."""

    def __init__(self, server):
        self.server = server

    async def handle_request(self, connection):
        """Read one request, answer it. EOFError or OSError when the client hangs up."""
        answer = await self._answered(connection)  # the request itself is free now: an event stream lives for hours
        headers = answer.headers
        for name, value in _HEADERS:
            headers[name] = value
        if headers.get("Cache-Control") is None:
            headers["Cache-Control"] = "no-store"
        try:
            await answer.write(connection)
            await connection.finish()
        finally:
            if hasattr(answer.body, "close"):
                answer.body.close()

    async def _answered(self, connection):
        """The Response, whatever happens."""
        request = None
        try:
            request = await Request.create(self, connection, connection, connection.address)
            self._guard(request)
            handler, owner = self._find(request.method, request.path)
            found = await handler(owner, request)
            if isinstance(found, int):
                found = (b"", found)
            answer = found if isinstance(found, Response) else Response(*found) if isinstance(found, tuple) else Response(found)
            answer.is_head = request.method == "HEAD"
            return answer
        except Refused as error:
            return self._error(connection, *error.args)
        except MemoryError:
            self.server.relax()
            return self._error(connection, 503, "no_memory", "the board is short of memory, try again", 2)
        except (EOFError, OSError):
            if request is None:
                raise
            return self._error(connection, 400, "incomplete", "the request was not whole", None)
        except Exception as error:
            SerialLog.exception(error, "web: a request failed:")
            return self._error(connection, 500, "internal", "the board made a mistake: see its log", None)

    def _error(self, connection, status, reason, message, wait):
        """Every error is JSON, and a line in the log."""
        self.server.note(connection.address, status, reason, message)
        return Response({"error": reason, "message": message}, status, {"Retry-After": str(wait)} if wait else {})

    def _guard(self, request):
        headers, path, post = request.headers, request.path, request.method == "POST"
        host = headers.get("Host", "")
        if not self._knows(host):
            raise Refused(403, "bad_host", "this board does not go by that name: see web.hosts")
        if not post and request.method not in ("GET", "HEAD"):
            raise Refused(405, "bad_method", "only GET, HEAD and POST are known here")
        if not post and path[:5] != "/api/":
            return
        origin = headers.get("Origin")
        if headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none") or (
            post and origin is not None and origin.partition("://")[2] != host
        ):
            raise Refused(403, "cross_origin", "another site's page may not do this")
        if post and "Content-Length" not in headers:
            raise Refused(411, "length_required", "a body needs a content length")
        request.g.csrf = csrf(self.server.web, request.cookies.get("sid"))
        if path not in ("/api/session", "/api/login"):
            if not request.g.csrf:
                raise Refused(401, "login_required", "log in first")
            if post and headers.get("X-CSRF") != request.g.csrf:
                raise Refused(403, "csrf", "the token of this session is missing or wrong")
        if post:
            wanted = "application/octet-stream" if path == "/api/ota/upload" else "application/json"
            if (request.content_type or "").partition(";")[0].strip() != wanted:
                raise Refused(415, "bad_type", "the body must be " + wanted)

    def _knows(self, host):
        """True when a Host header names this board."""
        name, colon, port = host.lower().rpartition(":")
        if not colon or not port.isdigit():
            name = host.lower()
        web = self.server.web
        if name in ("localhost", "127.0.0.1") or name in web.cfg.get("hosts", ()):
            return True
        wifi = web.platform.module("wifi")
        return wifi is not None and name in wifi.addresses()

    def _find(self, method, path):
        """The handler of a request, and its first argument.

        Names from outside are looked up in dicts only: as an attribute each would stay in memory for ever.
        """
        key = ("GET " if method == "HEAD" else method + " ") + path
        others = self.server.web.handlers
        if key in others:
            return others[key], self.server.web
        if path[:5] != "/api/":
            if method == "POST":
                raise Refused(405, "bad_method", "this needs GET")
            return self.server.part("static").serve, self.server
        group = path[5:].partition("/")[0]
        handlers = self.server.part("upload" if path == "/api/ota/upload" else _FILES.get(group, "api")).HANDLERS
        if key in handlers:
            return handlers[key], self.server
        other = ("GET " if method == "POST" else "POST ") + path
        if other in handlers or other in others:
            raise Refused(405, "bad_method", "this needs " + other.partition(" ")[0])
        raise Refused(404, "not_found", "there is nothing at this address")


def body(request):
    """The JSON object that came with a request."""
    if request.content_length > len(request.body):
        raise Refused(413, "too_large", "the body is larger than %d bytes" % _MAX_BODY)
    value, data = None, request.body.strip() or b"{}"
    whole = data[:1] == b"{" and data[-1:] == b"}"  # MicroPython up to 1.25 takes a lone brace for an object
    if whole and data.count(b"[") + data.count(b"{") < _MAX_NESTED:  # a thousand lists in each other are 40 KB of heap
        try:
            value = json.loads(data)
        except (ValueError, RuntimeError):
            pass
    if not isinstance(value, dict):
        raise Refused(400, "bad_json", "the body must be a JSON object")
    return value
