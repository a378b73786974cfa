"""A real name server on a real UDP socket that knows what a test tells it, and can answer wrongly in many ways.

    with NameServer({"server.example": "127.0.0.1"}) as names:
        world.board.env["SIMULATOR_DNS"] = str(names.port)
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

A, CNAME = 1, 5
Reply = Callable[[bytes], Iterable[bytes]]  # the datagrams that follow a question


def wire(name: str) -> bytes:
    """A name as a packet has it."""
    return b"".join(bytes((len(part),)) + part.encode() for part in name.split(".")) + b"\0"


def record(name: bytes, kind: int, data: bytes, ttl: int = 300) -> bytes:
    return name + struct.pack(">HHIH", kind, 1, ttl, len(data)) + data


def address(text: str, name: bytes = b"\xc0\x0c", ttl: int = 300) -> bytes:
    """An A record; by default of the name that was asked for."""
    return record(name, A, socket.inet_aton(text), ttl)


def reply(question: bytes, *records: bytes, code: int = 0, count: int | None = None) -> bytes:
    """The answer to a question, which it repeats."""
    head = question[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(records) if count is None else count, 0, 0)
    return head + question[12:] + b"".join(records)


def asked(question: bytes) -> str:
    """The name that a question is about."""
    parts, at = [], 12
    while size := question[at]:
        parts.append(question[at + 1 : at + 1 + size].decode())
        at += 1 + size
    return ".".join(parts)


class NameServer:
    """`hosts` can be changed while it runs: name -> address. `trick` answers in its place. `questions` are the names so far."""

    def __init__(self, hosts: Mapping[str, str], trick: Reply | None = None, ttl: int = 300) -> None:
        self.hosts = dict(hosts)
        self.trick = trick
        self.ttl = ttl
        self.questions: list[str] = []
        self.last: tuple[str, int] | None = None  # who asked last
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(10)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            question, who = self._socket.recvfrom(2048)
            if not question:
                return
            name, self.last = asked(question), who
            self.questions.append(name)
            for datagram in self.trick(question) if self.trick else [self._answer(question, name)]:
                self._socket.sendto(datagram, who)

    def _answer(self, question: bytes, name: str) -> bytes:
        if name not in self.hosts:
            return reply(question, code=3)
        return reply(question, address(self.hosts[name], ttl=self.ttl))


def silence(_question: bytes) -> Iterable[bytes]:
    """A server that does not answer."""
    return []
