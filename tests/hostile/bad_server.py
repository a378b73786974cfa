"""A server that does with every path what a test says, with pauses, endless bodies and broken connections. Many at a time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from itertools import repeat

from iotctl.serve import etag_of

Step = bytes | float  # bytes to send, or seconds to wait
Route = Callable[["Request"], Iterable[Step]]


class Request:
    """What a board asked for: path, and headers with names in lower case."""

    def __init__(self, raw: bytes) -> None:
        first, *rest = raw.decode("latin-1").split("\r\n")
        self.path = first.split(" ")[1]
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest if line)}


def answer(body: bytes = b"", *headers: str, status: str = "200 OK", length: int | None = -1) -> bytes:
    """A whole answer; `length` None sends none, another number lies."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length < 0 else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def always(*steps: Step) -> Route:
    """The same to every request."""
    return lambda _request: steps


def forever(step: Step, pause: float = 0) -> Iterable[Step]:
    """`step` again and again, with a pause between."""
    for _n in repeat(None):
        yield step
        if pause:
            yield pause


def endless(head: Step, step: Step, pause: float = 0) -> Iterable[Step]:
    """`head`, then `step` again and again."""
    yield head
    yield from forever(step, pause)


def proper(body: bytes, most: int | None = None) -> Route:
    """What a good server does, ETag and Range and all; `most` drops the connection after so many bytes of the body."""

    def route(request: Request) -> Iterable[Step]:
        etag = etag_of(body)
        if request.headers.get("if-none-match") == etag:
            return [answer(b"", f"ETag: {etag}", status="304 Not Modified", length=None)]
        start = 0
        if "range" in request.headers and request.headers.get("if-range", etag) == etag:
            start = int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))
        headers = [f"ETag: {etag}"]
        if start:
            headers.append(f"Content-Range: bytes {start}-{len(body) - 1}/{len(body)}")
        whole = answer(body[start:], *headers, status="206 Partial Content" if start else "200 OK")
        return [whole if most is None else whole[: len(whole) - len(body) + start + most]]

    return route


class BadServer:
    """Answers from `routes`, a dict of path to Route that a test may change at any time; what is not in it is a 404."""

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.requests: list[Request] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> BadServer:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopped.set()
        socket.create_connection(("127.0.0.1", self.port)).close()  # wakes accept()
        self._thread.join(10)
        self._socket.close()

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    def _run(self) -> None:
        while not self._stopped.is_set():
            connection, _address = self._socket.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(10)
            with connection:
                self._answer(connection)
        except OSError:
            return  # the board has gone away, which is what many tests want

    def _answer(self, connection: socket.socket) -> None:
        raw = b""
        while b"\r\n\r\n" not in raw:
            data = connection.recv(4096)
            if not data:
                return
            raw += data
        request = Request(raw)
        self.requests.append(request)
        for step in self.routes.get(request.path.partition("?")[0], always(answer(b"no", status="404 Not Found")))(request):
            if isinstance(step, bytes):
                connection.sendall(step)
            elif self._stopped.wait(step):
                return
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):  # closing with unread data would reset the connection under the answer
            continue
