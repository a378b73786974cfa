"""A real server on a real socket that answers exactly what a test tells it, byte by byte and pause by pause. Many at a time.

    with ScriptedServer([answer(b"hello")]) as server:           # to whoever comes; a further script is for the next
        server.routes["/board/stable.json"] = proper(channel)    # to who asks for this path: these come first
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat

from iotctl.serve import etag_of

Step = bytes | float  # bytes to send, seconds to wait, or KEEP
Route = Callable[["Request"], Iterable[Step]]
KEEP = -1.0  # in place of seconds, as the last step: the connection stays open for another request


class Request:
    """What a client sent, up to the empty line: `raw`, and what that asks for; names of headers in lower case."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
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
    """What a good server does, ETag, Range and kept connections; `most` hangs up after so many bytes of the body."""

    def route(request: Request) -> Iterable[Step]:
        etag = etag_of(body)
        headers = request.headers
        if headers.get("if-none-match") == etag:
            return [answer(b"", f"ETag: {etag}", status="304 Not Modified", length=None), KEEP]
        first, last = _range(headers.get("range", ""), len(body)) if headers.get("if-range", etag) == etag else (0, len(body) - 1)
        sent, more = body[first : last + 1], [f"ETag: {etag}"]
        partial = len(sent) < len(body)
        if partial:
            more.append(f"Content-Range: bytes {first}-{last}/{len(body)}")
        whole = answer(sent, *more, status="206 Partial Content" if partial else "200 OK")
        return [whole, KEEP] if most is None else [whole[: len(whole) - len(sent) + most]]

    return route


def _range(asked: str, size: int) -> tuple[int, int]:
    """The first and the last byte that a Range header of one range asks for; without one, all."""
    first, _, last = asked.removeprefix("bytes=").partition("-")
    return int(first or 0), min(int(last or size), size) - (not last or int(last) >= size)


class ScriptedServer:
    """Answers from `routes`, a dict of path to Route that a test may change at any time. All other requests get the next
    script, the last one for all that follow, and a 404 where there is none.

    A script is a sequence of steps, or a Route. Without KEEP at its end the server hangs up. The steps of `raw` are sent to
    whoever connects, whatever that says.
    """

    def __init__(
        self,
        *scripts: Iterable[Step] | Route,
        tls: ssl.SSLContext | None = None,
        raw: Callable[[], Iterable[Step]] | None = None,
    ) -> None:
        self.routes: dict[str, Route] = {}
        self.requests: list[Request] = []
        self.connections = 0
        self._scripts = list(scripts)
        self._lock = threading.Lock()
        self._tls = tls
        self._raw = raw
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopped.set()
        socket.create_connection(("127.0.0.1", self.port)).close()  # wakes accept()
        self._thread.join(10)
        self._socket.close()

    def add(self, script: Iterable[Step]) -> None:
        """One more script."""
        self._scripts.append(script)

    def asked(self, path: str) -> Sequence[Request]:
        return [request for request in self.requests if request.path == path]

    def _run(self) -> None:
        while True:
            connection, _address = self._socket.accept()
            if self._stopped.is_set():
                connection.close()
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(10)
            with self._tls.wrap_socket(connection, server_side=True) if self._tls else connection as opened:
                self._talk(opened)
        except OSError:  # the client has gone away, which many tests want
            connection.close()

    def _talk(self, connection: socket.socket) -> None:
        if self._raw:
            self._send(connection, self._raw())
            return
        received = b""
        while True:
            while b"\r\n\r\n" not in received:
                data = connection.recv(4096)
                if not data:
                    return
                received += data
            head, _, received = received.partition(b"\r\n\r\n")
            if not self._send(connection, self._script(Request(head + b"\r\n\r\n"))):
                break
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):  # closing with unread data would reset the connection under the answer
            continue

    def _send(self, connection: socket.socket, steps: Iterable[Step]) -> bool:
        """True when another request may follow."""
        for step in steps:
            if step == KEEP:
                return True
            if isinstance(step, bytes):
                connection.sendall(step)
            elif self._stopped.wait(step):
                break
        return False

    def _script(self, request: Request) -> Iterable[Step]:
        with self._lock:
            self.requests.append(request)
            script = self.routes.get(request.path.partition("?")[0])
            if script is None and not self._scripts:
                return [answer(b"no", status="404 Not Found")]
            chosen = script or (self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0])
        return chosen(request) if callable(chosen) else chosen
