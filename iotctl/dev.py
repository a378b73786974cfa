"""The web page while it is written: its files from disk, its API from a board, and a reload in every browser after each change.

    /  /app.js  /style.css ...    modules/web/www, as it is now, with the headers that a board sends
    /api/...                      passed on to the board
    /dev.js  /dev/changes         what reloads the page; only here

The board is a simulated one that is made anew each time, or any board that answers at a URL.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import mimetypes
import secrets
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from iotctl import ROOT, terminal, webfiles
from iotctl import profile as profiles
from iotctl.sim import flash, free_port, live, open_board

PAGE = ROOT / "modules" / "web" / webfiles.FOLDER
VERSION = "0.0.1"
_LOOK_S = 0.25
_PING_S = 10.0
_CHUNK = 64 * 1024
_PASSED_ON = ("Accept", "Content-Length", "Content-Type", "Cookie", "Sec-Fetch-Site", "X-CSRF")
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)
_RELOAD = b"""new EventSource("/dev/changes").onmessage = ({ data }) => {
  if (!data.endsWith(".css")) return location.reload();
  for (const sheet of document.querySelectorAll("link[rel=stylesheet]")) sheet.href = `${data}?${Date.now()}`;
};
"""


class Changes:
    """Which file of a folder changed last, by the number of changes so far."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._news = threading.Condition()
        self._known = self._look()
        self.count = 0
        self.name = ""

    def look(self) -> None:
        """Compare with the last look; who waits is told."""
        now = self._look()
        changed = sorted(path for path in now.keys() | self._known.keys() if now.get(path) != self._known.get(path))
        self._known = now
        if changed:
            with self._news:
                self.count += 1
                self.name = changed[-1].name
                self._news.notify_all()

    def wait(self, count: int, timeout: float) -> bool:
        """Until there were more than `count` changes; False when the time is up."""
        with self._news:
            return self._news.wait_for(lambda: self.count > count, timeout)

    def _look(self) -> dict[Path, int]:
        found = {}
        for path in self._folder.rglob("*"):
            with contextlib.suppress(OSError):  # an editor is just replacing it
                found[path] = path.stat().st_mtime_ns
        return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _HttpServer

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.startswith("/api/"):
            self._pass_on()
        elif path == "/dev.js":
            self._reply(HTTPStatus.OK, "text/javascript", _RELOAD)
        elif path == "/dev/changes":
            self._tell_changes()
        else:
            self._file(path[1:] or "index.html")

    def do_POST(self) -> None:
        self._pass_on()

    def log_message(self, format: str, *args: Any) -> None:
        """The board's console is what one wants to read."""

    def _file(self, name: str) -> None:
        path = self.server.owner.page / name
        if "/" in name or not path.is_file():
            self._reply(HTTPStatus.NOT_FOUND, "text/plain", b"not found\n")
            return
        data = webfiles.content(path)
        if path.suffix == ".html":
            data = data.replace(b"</head>", b'<script src="/dev.js" defer></script>\n</head>')
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        self._reply(HTTPStatus.OK, kind, data)

    def _reply(self, status: HTTPStatus, kind: str, data: bytes) -> None:
        packed = "gzip" in self.headers.get("Accept-Encoding", "")
        data = gzip.compress(data, 9) if packed else data
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8" if kind.startswith("text/") else kind)
        self.send_header("Content-Security-Policy", _CSP)
        self.send_header("Cache-Control", "no-store")
        if packed:
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _tell_changes(self) -> None:
        changes = self.server.owner.changes
        count = changes.count
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.close_connection = True
        while not self.server.owner.closing:
            if changes.wait(count, _PING_S):
                count = changes.count
                self.wfile.write(f"data: {changes.name}\n\n".encode())
            else:
                self.wfile.write(b": alive\n\n")
            self.wfile.flush()

    def _pass_on(self) -> None:
        """The request to the board, the answer back, piece by piece: an event stream has no end."""
        owner = self.server.owner
        self.close_connection = True
        connection = http.client.HTTPConnection(owner.board, timeout=60)
        try:
            self._send_to(connection)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException):
            body = {"error": "no_board", "message": "The board does not answer."}
            self._reply(HTTPStatus.BAD_GATEWAY, "application/json", json.dumps(body).encode())
            return
        with contextlib.closing(connection):
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            while piece := answer.read1(_CHUNK):
                self.wfile.write(piece)
                self.wfile.flush()

    def _send_to(self, connection: http.client.HTTPConnection) -> None:
        owner = self.server.owner
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", owner.board)
        origin = self.headers.get("Origin")
        if origin:
            connection.putheader("Origin", f"http://{owner.board}" if origin == f"http://{self.headers.get('Host')}" else origin)
        for name in _PASSED_ON:
            if self.headers.get(name) is not None:
                connection.putheader(name, self.headers[name])
        connection.endheaders()
        left = int(self.headers.get("Content-Length", 0))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the board has answered already
            while left > 0 and (piece := self.rfile.read1(min(left, _CHUNK))):
                connection.send(piece)
                left -= len(piece)


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    owner: DevServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no news."""


class DevServer:
    """Serves the page of `page` and passes its API on to `board` (host:port) while it is open."""

    def __init__(self, board: str, port: int = 0, host: str = "127.0.0.1", page: Path = PAGE) -> None:
        self.board = board
        self.page = page
        self.changes = Changes(page)
        self.closing = False
        self._http = _HttpServer((host, port), _Handler)
        self._http.owner = self
        self._end = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/"

    def __enter__(self) -> DevServer:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.closing = True
        self._end.set()
        self._http.shutdown()
        self._http.server_close()

    def _watch(self) -> None:
        while not self._end.wait(_LOOK_S):
            self.changes.look()


def run_dev(path: Path, port: int, image: Path, board: str | None = None) -> int:
    """Serve the page until Ctrl-C, against the board at the URL `board`, or a simulated one made from the profile at `path`.

    Returns 0, or 1 when the simulated board is dead at the REPL.
    """
    if board:
        address = urlsplit(board if "//" in board else f"//{board}").netloc
        with DevServer(address, port) as server, contextlib.suppress(KeyboardInterrupt):
            terminal.say(f"the page of {address}: {server.url}")
            threading.Event().wait()
        return 0
    web_port = free_port()
    given = prepare(path)
    simulated = open_board(image, fs="lfs", heap="128k", device_id="sim-0001", web_port=web_port)
    flash(simulated, given, VERSION)
    simulated.on_line = terminal.say
    with DevServer(f"127.0.0.1:{web_port}", port) as server:
        password = given.value["web"]["password"]
        terminal.say(f"the page: {server.url} (password: {password}); a change of {PAGE.relative_to(ROOT)} reloads it")
        return live(simulated)


def prepare(path: Path) -> profiles.Profile:
    """The simulated board's profile: the one at `path` with the web module, and a password of its page."""
    given = profiles.read_good(path)
    modules = [*given.modules, *(["web"] if "web" not in given.modules else [])]
    web = given.value.get("web")
    web = {"password": secrets.token_urlsafe(9), **(web if isinstance(web, dict) else {})}
    made = {**given.value, "activeModules": modules, "web": web}
    return profiles.Profile(path, json.dumps(made, ensure_ascii=False).encode(), made)
