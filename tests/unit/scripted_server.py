"""A real server on a real socket that answers exactly what a test tells it, byte by byte and pause by pause."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from typing import Any

Step = bytes | float  # bytes to send, or seconds to wait
Script = Iterable[Step]


def answer(body: bytes = b"", *headers: str, status: str = "200 OK", length: bool = True) -> bytes:
    """A complete HTTP answer."""
    lines = ["HTTP/1.1 " + status, *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class ScriptedServer:
    """Serves one connection after the other; each is told by the next script, the last one for all that follow.

    A script is a sequence of steps, or a function from the request to one.
    """

    def __init__(self, *scripts: Script | Callable[[bytes], Script], tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []
        self._scripts = list(scripts)
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(self, *_exception: Any) -> None:
        self._stopped.set()
        socket.create_connection(("127.0.0.1", self.port)).close()  # wakes accept()
        self._thread.join(10)
        self._socket.close()

    def add(self, script: Script) -> None:
        self._scripts.append(script)

    def _run(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            if self._stopped.is_set():
                connection.close()
                return
            try:
                connection.settimeout(5)
                self._serve(self._tls.wrap_socket(connection, server_side=True) if self._tls else connection)
            except OSError:  # the client went away, which many tests want
                connection.close()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            request = b""
            while b"\r\n\r\n" not in request:
                data = connection.recv(4096)
                if not data:
                    return
                request += data
            self.requests.append(request)
            script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
            for step in script(request) if callable(script) else script:
                if isinstance(step, bytes):
                    connection.sendall(step)
                elif self._stopped.wait(step):
                    return
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):  # closing with unread data would reset the connection under the answer
                continue
