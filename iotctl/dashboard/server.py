"""The dashboard's web application: who may ask for what, and the answers.

Every request: its Host is an address or a name of this computer (a name that somebody else's DNS leads here is refused). Every
POST: its Origin is this page. All below /api but signing in: a session, and for a POST its CSRF token. A page may load its own
files and nothing else, says its Content-Security-Policy.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import ipaddress
import json
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from iot_platform.module import name_ok
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from iotctl import ROOT, errors
from iotctl.dashboard.live import COMMANDS, Live
from iotctl.dashboard.rollouts import Plan
from iotctl.dashboard.view import Query
from iotctl.errors import IotctlError

COOKIE = "iotctl-fleet"  # other pages of this computer may have a "sid": cookies know no port
_WWW = Path(__file__).with_name("www")
_SESSION_S = 43_200
_SESSIONS = 100
_STREAMS = 30
_TICK_S = 0.5
_QUIET_S = 15
_MOST_JSON = 262_144
_MOST_BUNDLE = 64 << 20
_MOST_NAMES = 2000  # in one request; "all that match" has no list
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Sessions:
    """Who is signed in: cookies, and the CSRF token that belongs to each."""

    def __init__(self, password: str) -> None:
        self._password = password.encode()
        self._secret = secrets.token_bytes(32)
        self._ends: dict[str, float] = {}

    def enter(self, password: str) -> str | None:
        """A new cookie, for the right password."""
        if not hmac.compare_digest(password.encode(errors="replace"), self._password):
            return None
        cookie = secrets.token_urlsafe(32)
        self._ends[cookie] = time.monotonic() + _SESSION_S
        for old in list(self._ends)[:-_SESSIONS]:
            del self._ends[old]
        return cookie

    def leave(self, cookie: str) -> None:
        self._ends.pop(cookie, None)

    def token(self, cookie: str) -> str | None:
        """The CSRF token of a session; None for none."""
        if self._ends.get(cookie, 0) < time.monotonic():
            return None
        return hmac.new(self._secret, cookie.encode(), hashlib.sha256).hexdigest()


class Guard:
    """The rules at the top of this file, before anything else sees a request."""

    def __init__(self, app: ASGIApp, sessions: Sessions, names: tuple[str, ...]) -> None:
        self._app, self._sessions, self._names = app, sessions, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no WebSockets here
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store" if scope["path"].startswith("/api/") else "no-cache")
            await send(message)

        refused = self._refuse(Request(scope))
        await (refused or self._app)(scope, receive, with_headers)

    def _refuse(self, request: Request) -> Response | None:
        host, path, post = request.headers.get("host", ""), request.url.path, request.method == "POST"
        if not self._is_here(host):
            return _no(403, "this dashboard does not go by that name: see --name")
        if post and not _same_origin(request.headers, host):
            return _no(403, "another page may not ask for that")
        if not path.startswith("/api/") or path in ("/api/login", "/api/session"):
            return None
        token = self._sessions.token(request.cookies.get(COOKIE, ""))
        if token is None:
            return _no(401, "please sign in")
        if post and not hmac.compare_digest(request.headers.get("x-csrf", "").encode(), token.encode()):
            return _no(403, "this page's session is another one now: reload it")
        return None

    def _is_here(self, host: str) -> bool:
        name = host.lower().rpartition(":")[0] if host.rpartition(":")[2].isdigit() and ":" in host else host.lower()
        with contextlib.suppress(ValueError):
            return bool(ipaddress.ip_address(name.strip("[]")))
        return name in self._names


def _same_origin(headers: Headers, host: str) -> bool:
    return headers.get("origin", "").partition("://")[2] == host and bool(host)


def _no(status: int, message: str) -> Response:
    return JSONResponse({"message": message}, status)


def make_app(live: Live, password: str, names: tuple[str, ...], ends: Callable[[], bool]) -> Starlette:
    """The application over what is live. `names`: others than this computer's own that browsers may know it by.

    :param ends: True when open streams should end, so that the server can.
    """
    pages = _Pages(live, Sessions(password), ends)
    here = socket.gethostname().lower()
    guard = Middleware(Guard, sessions=pages.sessions, names=("localhost", here, f"{here}.local", *names))

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        driver = asyncio.create_task(live.driver.run())
        yield
        driver.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await driver

    def reported(_request: Request, error: Exception) -> Response:
        return _no(409, getattr(error, "message", errors.report(error).line))

    return Starlette(
        routes=pages.routes(),
        middleware=[guard],
        exception_handlers=dict.fromkeys(errors.REPORTED, reported),
        lifespan=lifespan,
        max_body_size=_MOST_BUNDLE,
    )


class _Pages:
    def __init__(self, live: Live, sessions: Sessions, ends: Callable[[], bool]) -> None:
        self.live, self.sessions, self._ends = live, sessions, ends
        self._streams = 0

    def routes(self) -> list[Route | Mount]:
        posts = {
            "login": self.login,
            "logout": self.logout,
            "order": self.order,
            "bundle": self.bundle,
            "publish": self.publish,
            "rollout": self.rollout,
            "log": self.log,
        }
        return [
            *(Route(f"/api/{name}", call, methods=["POST"]) for name, call in posts.items()),
            Route("/api/session", self.session),
            Route("/api/boards", self.boards),
            Route("/api/events", self.events),
            Route("/board.css", lambda _request: FileResponse(ROOT / "modules" / "web" / "www" / "style.css")),
            Mount("/", StaticFiles(directory=_WWW, html=True)),
        ]

    # -- signing in

    async def login(self, request: Request) -> Response:
        cookie = self.sessions.enter(str((await _json(request)).get("password", "")))
        if cookie is None:
            return _no(403, "that is not the password")
        answer = JSONResponse({"csrf": self.sessions.token(cookie)})
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", max_age=_SESSION_S, secure=secure)
        return answer

    async def logout(self, request: Request) -> Response:
        self.sessions.leave(request.cookies.get(COOKIE, ""))
        return JSONResponse({})

    async def session(self, request: Request) -> Response:
        return JSONResponse({"csrf": self.sessions.token(request.cookies.get(COOKIE, ""))})

    # -- what there is

    async def boards(self, request: Request) -> Response:
        self.live.refresh()
        return JSONResponse(self.live.page(Query.of(request.query_params)))

    async def events(self, request: Request) -> Response:
        """A page of boards, or one board (``?board=``), and the same again whenever it has changed."""
        name = request.query_params.get("board")
        query = Query.of(request.query_params)
        if self._streams >= _STREAMS:
            return _no(503, "too many windows are open")
        look: Callable[[], dict[str, Any]] = (lambda: self.live.board(name)) if name else lambda: self.live.page(query)
        stream = self._follow(look, request.cookies.get(COOKIE, ""))
        return StreamingResponse(stream, media_type="text/event-stream")

    async def _follow(self, look: Callable[[], dict[str, Any]], cookie: str) -> AsyncIterator[str]:
        seen, last, told = None, "", time.monotonic()
        self._streams += 1
        try:
            while self.sessions.token(cookie) and not self._ends():
                state = self.live.refresh()
                if state != seen:
                    seen, text = state, _look(look)
                    if text != last:
                        last, told = text, time.monotonic()
                        yield f"data: {text}\n\n"
                if time.monotonic() - told > _QUIET_S:
                    told = time.monotonic()
                    yield ":\n\n"
                await asyncio.sleep(_TICK_S)
        finally:
            self._streams -= 1

    # -- what is asked for

    async def order(self, request: Request) -> Response:
        """``{"what", "names"}``, or ``{"what", "query"}`` for all that it finds; ``text`` is the group that they are put into."""
        given = await _json(request)
        what, names, text = str(given.get("what")), given.get("names"), str(given.get("text", ""))
        if what not in COMMANDS:
            raise IotctlError("there is no such command")
        if text and (what != "group" or not name_ok(text)):
            raise IotctlError("a group's name has letters, digits, _ . or -")
        self.live.refresh()
        if names is None:
            query = given.get("query")
            names = [row.name for row in self.live.index.find(Query.of(query if isinstance(query, dict) else {})) if row.online]
        elif not isinstance(names, list) or len(names) > _MOST_NAMES or not all(isinstance(name, str) for name in names):
            raise IotctlError(f"name at most {_MOST_NAMES} boards")
        return JSONResponse({"asked": self.live.ask(names, what, text)})

    async def log(self, request: Request) -> Response:
        self.live.listen(str((await _json(request)).get("name")))
        return JSONResponse({})

    async def bundle(self, request: Request) -> Response:
        data = await request.body()
        return JSONResponse(await asyncio.to_thread(self.live.driver.keep, data))

    async def publish(self, request: Request) -> Response:
        given = await _json(request)
        words = {key: str(given.get(key, "")) for key in ("id", "how", "channel", "steps", "soak", "group")}
        failures = given.get("max_failures", 2.0)
        if not isinstance(failures, (int, float)) or not 0 <= failures <= 100 or words["how"] not in ("all", "rollout"):
            raise IotctlError("for all boards, or as a rollout that takes 0 to 100 % of failures")
        plan = Plan(words["how"], words["channel"] or "stable", words["steps"], words["soak"], float(failures), words["group"])
        await asyncio.to_thread(self.live.driver.publish, words["id"], plan)
        return JSONResponse({})

    async def rollout(self, request: Request) -> Response:
        given = await _json(request)
        await asyncio.to_thread(self.live.driver.change, str(given.get("what")), str(given.get("version", "")))
        return JSONResponse({})


def _look(look: Callable[[], dict[str, Any]]) -> str:
    try:
        return json.dumps(look())
    except IotctlError as error:
        return json.dumps({"gone": error.message})


async def _json(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise IotctlError("expected JSON")
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > _MOST_JSON:
            raise IotctlError("that is too long")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise IotctlError("expected a JSON object")
    return value
