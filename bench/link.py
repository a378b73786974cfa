"""The link between a board and its server: a TCP relay on 127.0.0.1 that counts bytes, and can be slow, or break.

with Link(server.port, Weather(bytes_per_s=65536, request_ms=80)) as link:
    ...                                  # the board talks to link.url
    sum(c.wire_in for c in link.connections)
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType

_PIECES_PER_S = 64  # a slow link passes its bytes on in so many pieces a second
_CHUNK = 16 * 1024
_END = b"\r\n\r\n"  # of a request: boards send no bodies


@dataclass(frozen=True)
class Weather:
    """How the link behaves. `break_after`: bytes towards the board after which it hangs up, once, in a long answer."""

    bytes_per_s: int | None = None
    request_ms: int = 0
    break_after: int | None = None


@dataclass
class Connection:
    """One TCP connection: bytes of payload towards the board (`wire_in`) and from it (`wire_out`), when each request came."""

    began: float
    wire_in: int = 0
    wire_out: int = 0
    requests: list[float] = field(default_factory=list)
    answering: bool = False  # what has been asked last


class Link:
    """Relays to `port` of this machine while it is open; `weather` may be changed between two connections."""

    def __init__(self, port: int, weather: Weather | None = None) -> None:
        self.weather = weather or Weather()
        self.connections: list[Connection] = []
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._closed = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Link:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closed = True
        for sock in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                board, _address = self._listener.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._relay, args=(board,), daemon=True).start()

    def _relay(self, board: socket.socket) -> None:
        connection = Connection(time.monotonic())
        self.connections.append(connection)
        board.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError), board, socket.create_connection(("127.0.0.1", self._port)) as server:
            self._open |= {board, server}
            threading.Thread(target=self._upwards, args=(board, server, connection), daemon=True).start()
            self._downwards(server, board, connection)
            with contextlib.suppress(OSError):
                board.shutdown(socket.SHUT_RDWR)
        self._open.discard(board)

    def _upwards(self, board: socket.socket, server: socket.socket, connection: Connection) -> None:
        with contextlib.suppress(OSError):
            tail = b""
            while data := board.recv(_CHUNK):
                connection.wire_out += len(data)
                seen = (tail + data).count(_END)
                tail = (tail + data)[-len(_END) + 1 :] if not data.endswith(_END) else b""
                if seen:
                    connection.requests += [time.monotonic()] * seen
                    connection.answering = False
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _downwards(self, server: socket.socket, board: socket.socket, connection: Connection) -> None:
        weather = self.weather
        piece = max(1, weather.bytes_per_s // _PIECES_PER_S) if weather.bytes_per_s else _CHUNK
        due = 0.0
        while data := server.recv(piece):
            if not connection.answering:
                connection.answering = True
                time.sleep(weather.request_ms / 1000)
                due = time.monotonic()
            if weather.break_after is not None and connection.wire_in + len(data) > weather.break_after:
                board.sendall(data[: weather.break_after - connection.wire_in])
                connection.wire_in = weather.break_after
                self.weather = Weather(weather.bytes_per_s, weather.request_ms)
                return
            if weather.bytes_per_s:
                due += len(data) / weather.bytes_per_s
                time.sleep(max(0.0, due - time.monotonic()))
            board.sendall(data)
            connection.wire_in += len(data)
