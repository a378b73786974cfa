"""Microdot's application, made for a small heap: handlers are found by name in files that are imported when they are needed.

A request passes the guard before any handler sees it. It must

1. name this board in its Host header: a page elsewhere that has its own name resolved to this board cannot (DNS rebinding),
2. be a GET, HEAD or POST; a GET changes nothing,
3. not come from another site's page (Origin, Sec-Fetch-Site),
4. belong to a session, but for the page itself, ``/api/session`` and ``/api/login``,
5. for a POST carry the session's CSRF token (but for the login) and the right Content-Type.
"""

import json

from microdot.microdot import Microdot, Request, Response

from .refused import Refused
from .sessions import csrf

_JSON = "application/json"
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

Request.max_content_length = 0x3FFFFFFF  # each handler says what it takes
Request.max_body_length = 1024
Response.send_file_buffer_size = 512


class App(Microdot):
    """:param server: what handlers get beside the request; ``server.web`` is the module."""

    default_options_handler = None  # OPTIONS is refused like any other method

    def __init__(self, server):
        super().__init__()
        self.server = server
        self.error_handlers[MemoryError] = self._short
        self.error_handlers[Exception] = self._failed

    async def handle_request(self, connection, _writer=None):
        """Read one request, answer it. EOFError or OSError when the client hangs up."""
        refused = None
        try:
            request = await Request.create(self, connection, connection, connection.address)
        except Refused as error:
            refused = error
        if refused:
            answer = Response(*self._error(connection.address, refused.status_code, *refused.reason))
        else:
            answer = await self.dispatch_request(request)
        request = None  # an event stream lives for hours
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

    def find_route(self, request):
        """Always the same handler: what it raises is then answered by dispatch_request."""
        request.url_args = {}
        return self._answer, "", None

    async def error_response(self, request, status, reason=None):
        """Every error as JSON, with a line in the log."""
        if not isinstance(reason, tuple):
            reason = ("bad_request" if status < 500 else "internal", reason or "", None)
        return self._error(request.client_addr, status, *reason)

    def _error(self, address, status, word, message, wait):
        self.server.note(address, status, word, message)
        return {"error": word, "message": message}, status, {"Retry-After": str(wait)} if wait else {}

    async def _answer(self, request):
        self._guard(request)
        handler, owner = self._find(request.method, request.path)
        return await handler(owner, request)

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
            wanted = "application/octet-stream" if path == "/api/ota/upload" else _JSON
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
        """The handler of a request, and its first argument. Names from outside are looked up in dicts only: as an attribute each would stay in memory."""
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

    async def _short(self, request, _error):
        """Too little memory for this request: the next one may find more."""
        self.server.relax()
        return await self.error_response(request, 503, ("no_memory", "the board is short of memory, try again", 2))

    async def _failed(self, request, error):
        self.server.web.platform.log("web:", request.method, request.path, "failed:", repr(error))
        return await self.error_response(request, 500, "the board made a mistake: see its log")


def body(request):
    """The JSON object that came with a request."""
    if request.content_length > len(request.body):
        raise Refused(413, "too_large", "the body is larger than %d bytes" % Request.max_body_length)
    try:
        value = json.loads(request.body or b"{}")
    except (ValueError, RuntimeError):
        value = None
    if not isinstance(value, dict):
        raise Refused(400, "bad_json", "the body must be a JSON object")
    return value
