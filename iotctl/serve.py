"""A static web server with what boards use: Range with If-Range, ETag with If-None-Match, one log line a request.

For development and for the tests; any other static server will do as well.

    with Server(Path("site")) as server:
        print(server.url, server.requests)
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

from iotctl import keys

MOST_REQUESTS = 1000  # that are remembered
MOST_HEAD = 8192  # characters of a request's path and headers: a stranger may send megabytes of them


@dataclass(frozen=True)
class Request:
    """One answered request: `sent` counts the body's bytes; `headers` has lower-case names."""

    method: str
    path: str
    status: int
    sent: int
    headers: dict[str, str]


@dataclass(frozen=True)
class Span:
    """Bytes `start` to `end` (not included) of a body."""

    start: int
    end: int


class RangeError(Exception):
    """A range of which nothing lies in the file."""


def etag_of(data: bytes) -> str:
    """A strong ETag: equal bytes have equal tags, whenever and wherever they were published."""
    return f'"{hashlib.sha256(data).hexdigest()[:16]}"'


def parse_range(text: str, size: int) -> Span | None:
    """The one range in a Range header; None for what is to be ignored, RangeError for what cannot be satisfied."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", text.strip())
    if not match or match.group(0).endswith("=-"):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= end:
        raise RangeError
    return Span(start, end)


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD from the server's folder. Subclass it in a test to misbehave."""

    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds of silence, after which a connection gives its thread back
    server: _HttpServer

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        if len(self.path) + sum(len(name) + len(value) for name, value in self.headers.items()) <= MOST_HEAD:
            return True
        self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        return False

    def do_GET(self) -> None:
        self._answer(self._find())

    def do_HEAD(self) -> None:
        self._answer(self._find())

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are logged by reply(); this is for what could not even be read."""
        self.server.owner.log(f"{self.log_date_time_string()} {self.address_string()} {format % args}")

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """One line a request is enough, and reply() knows more."""

    def reply(self, status: HTTPStatus, headers: dict[str, str], body: bytes) -> None:
        """Send a whole answer and remember it. `body` stays here for HEAD and 304."""
        empty = self.command == "HEAD" or status == HTTPStatus.NOT_MODIFIED
        self._remember(status, 0 if empty else len(body))
        self.send_response_only(status)  # without `Server`: who asks pays for each byte
        self.send_header("Date", self.date_time_string())
        for name, value in headers.items():
            self.send_header(name, value)
        if status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if not empty:
            self.wfile.write(body)

    def _find(self) -> bytes | None:
        """The content of the file that was asked for: read at once, so that a rename cannot mix two versions.

        None for what is not there, lies outside the folder, or is nobody's business: dotfiles, and private keys.
        """
        root = self.server.owner.directory.resolve()
        try:
            path = (root / unquote(urlsplit(self.path).path).lstrip("/")).resolve()
            if not path.is_relative_to(root) or _hidden(path.relative_to(root)) or not path.is_file():
                return None
            data = path.read_bytes()
        except (OSError, ValueError):
            return None
        if keys.holds_private(data):
            self.server.owner.log(f"{path} holds a private key: it is not served, and does not belong here")
            return None
        return data

    def _answer(self, data: bytes | None) -> None:
        if data is None:
            self.reply(HTTPStatus.NOT_FOUND, {"Content-Type": "text/plain"}, b"not found\n")
            return
        etag = etag_of(data)
        headers = {"ETag": etag, "Content-Type": _content_type(self.path)}
        known = [tag.strip().removeprefix("W/") for tag in self.headers.get("If-None-Match", "").split(",")]
        if etag in known or "*" in known:
            self.reply(HTTPStatus.NOT_MODIFIED, {"ETag": etag}, b"")
            return
        try:
            span = self._span(etag, len(data))
        except RangeError:
            self.reply(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {"Content-Range": f"bytes */{len(data)}"}, b"")
            return
        if span is None:
            self.reply(HTTPStatus.OK, {**headers, "Accept-Ranges": "bytes"}, data)
            return
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{len(data)}"
        self.reply(HTTPStatus.PARTIAL_CONTENT, headers, data[span.start : span.end])

    def _span(self, etag: str, size: int) -> Span | None:
        wished = self.headers.get("Range")
        if wished is None or self.command != "GET" or self.headers.get("If-Range", etag).strip() != etag:
            return None
        return parse_range(wished, size)

    def _remember(self, status: HTTPStatus, sent: int) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        remembered = self.server.owner.requests
        remembered.append(Request(self.command, self.path, int(status), sent, headers))
        del remembered[:-MOST_REQUESTS]
        wished = f" ({headers['range']})" if "range" in headers else ""
        self.log_message("%s", f"{self.command} {self.path}{wished} {int(status)} {sent} bytes")


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    owner: Server

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A board that goes away in the middle of an answer is no news for a traceback."""
        self.owner.log(f"{client_address[0]} went away")


class Server:
    """Serves a folder from a background thread while it is open.

    :param port: 0 takes a free one; see `url`.
    :param log: called with one line a request.
    """

    handler_class: type[Handler] = Handler

    def __init__(
        self,
        directory: Path,
        port: int = 0,
        host: str = "127.0.0.1",
        log: Callable[[str], None] | None = None,
        handler_class: type[Handler] | None = None,
    ) -> None:
        self.directory = Path(directory)
        self.requests: list[Request] = []
        self.log = log or (lambda _line: None)
        self._http = _HttpServer((host, port), handler_class or self.handler_class)
        self._http.owner = self
        self._host = host
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        """What a profile's ota.url would be, without a slash at its end."""
        return f"http://{self._host}:{self.port}"

    def start(self) -> None:
        """Begin to serve."""
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Serve until the thread ends or Ctrl-C comes."""
        while self._thread and self._thread.is_alive():
            self._thread.join(0.5)

    def close(self) -> None:
        """Stop, and free the port."""
        if self._thread:
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _content_type(path: str) -> str:
    if path.endswith(".json"):
        return "application/json"
    return "application/gzip" if path.endswith(".gz") else "application/octet-stream"
