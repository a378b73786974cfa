"""Bad input: a proper status or a closed connection, a line in the log, memory as before, and an update goes on."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.world import Slowly
from tests.web.conftest import PATIENCE_S, Client, WebWorld

_SLACK = 3_000  # bytes: what a collection finds differs by some hundreds from one time to the next
_GET = b"GET /api/session HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture(scope="module")
def client(shared: WebWorld) -> Client:
    return shared.client()


@pytest.fixture
def unharmed(shared: WebWorld, client: Client) -> Iterator[None]:
    """The test must leave the board's memory as it was, and everything working."""
    client.get("/api/session")
    time.sleep(0.1)
    before = shared.memory()
    yield
    deadline = time.monotonic() + PATIENCE_S
    while shared.memory() < before - _SLACK:
        assert time.monotonic() < deadline, f"{before} bytes were free before, {shared.memory()} after"
        time.sleep(0.3)
    assert client.get("/api/status").status == 200


def answer_to(connection: socket.socket) -> bytes:
    """All that the board says until it closes the connection."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(4096):
            said += part
    connection.close()
    return said


MALFORMED = {
    "not http": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
    "one word": (b"GET\r\n\r\n", b"400"),
    "http 2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
    "another protocol": (b"GET / FTP/1.0\r\n\r\n", b"400"),
    "a whole url": (b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
    "an escape": (b"GET /%2e%2e/ HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
    "dots": (b"GET /../../prefs.json HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", b"403"),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", b"400"),
    "no colon": (_GET + b"nonsense\r\n\r\n", b"400"),
    "a folded line": (_GET + b"X: y\r\n  folded: z\r\n\r\n", b"400"),
    "a space before the colon": (_GET + b"Content-Length : 5\r\n\r\n", b"400"),
    "control characters": (_GET + b"Cookie: sid=\x00\x1b[2J\r\n\r\n", b"400"),
    "bytes that are no text": (_GET + b"Cookie: sid=\xff\xfe\r\n\r\n", b"400"),
    "a negative length": (_GET + b"Content-Length: -5\r\n\r\n", b"400"),
    "a length in hex": (_GET + b"Content-Length: 0x10\r\n\r\n", b"400"),
    "a huge length": (_GET + b"Content-Length: 99999999999\r\n\r\n", b"400"),
    "two lengths": (_GET + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", b"400"),
    "chunked": (_GET + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"411"),
    "a long address": (b"GET /" + b"a" * 4000 + b" HTTP/1.1\r\n\r\n", b"431"),
    "a long field": (_GET + b"X: " + b"a" * 60_000 + b"\r\n\r\n", b"431"),
    "many fields": (_GET + b"X: y\r\n" * 600 + b"\r\n", b"431"),
    "a large head": (_GET + (b"X: " + b"y" * 200 + b"\r\n") * 30 + b"\r\n", b"431"),
    "no line feed": (b"G" * 100_000, b"431"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_what_is_no_good_request_gets_its_status_and_a_line_in_the_log(shared: WebWorld, client: Client, kind: str) -> None:
    data, status = MALFORMED[kind]
    since = shared.now()
    connection = client.raw()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(data)
    said = answer_to(connection)
    assert said.startswith(b"HTTP/1.0 " + status) or (said == b"" and len(data) > 50_000), said
    assert b"Traceback" not in said
    shared.board.expect(
        rf"web: refused 127.0.0.1: .* \({status.decode()} |web: \d+ more requests were refused", PATIENCE_S, since
    )


@pytest.mark.usefixtures("unharmed")
def test_a_flood_of_malformed_requests_is_logged_in_a_few_lines(shared: WebWorld, client: Client) -> None:
    since = shared.now()
    for _round in range(2):
        for data, _status in MALFORMED.values():
            connection = client.raw()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(data)
            answer_to(connection)
    shared.board.expect(r"web: \d+ more requests were refused", PATIENCE_S, since)
    refusals = [line for line in shared.board.lines[since:] if "web: refused" in line]
    assert len(refusals) < 40
    assert not any("Traceback" in line for line in shared.board.lines)


def test_random_bytes_and_mutilated_requests_never_break_it(shared: WebWorld, client: Client) -> None:
    rng = random.Random(5)
    good = _GET + b"Cookie: sid=" + (client.cookie or "").encode() + b"\r\nContent-Length: 2\r\n\r\n{}"
    for _ in range(60):
        data = bytearray(good)
        for _change in range(rng.randrange(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.3:
            data = bytearray(rng.randbytes(rng.randrange(1, 400)))
        connection = client.raw()
        connection.sendall(bytes(data[: rng.randrange(1, len(data) + 1)]))
        connection.shutdown(socket.SHUT_WR)
        answer_to(connection)
    assert client.get("/api/status").status == 200
    assert not any("Traceback" in line or "switched off" in line for line in shared.board.lines)


def _silent(client: Client) -> socket.socket:
    return client.raw()


def _half_a_line(client: Client) -> socket.socket:
    return client.raw(b"GET /api/sess")


def _half_a_head(client: Client) -> socket.socket:
    return client.raw(_GET)


def _half_a_body(client: Client) -> socket.socket:
    return client.raw(b"POST /api/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{")


@pytest.mark.parametrize("begin", [_half_a_line, _half_a_head, _half_a_body])
@pytest.mark.usefixtures("unharmed")
def test_a_request_that_is_broken_off_leaves_nothing(
    shared: WebWorld, client: Client, begin: Callable[[Client], socket.socket]
) -> None:
    since = shared.now()
    begin(client).close()
    shared.board.expect(r"web: refused 127.0.0.1: .* \(400 incomplete\)|web: \d+ more requests", PATIENCE_S, since)


@pytest.mark.usefixtures("unharmed")
def test_slow_clients_are_cut_off_and_keep_nobody_waiting(shared: WebWorld, client: Client) -> None:
    """A byte now and then, for ever; and one that never reads its answer. Meanwhile the board serves others."""
    since = shared.now()
    slow = [begin(client) for begin in (_silent, _half_a_line, _half_a_head, _half_a_body)]
    began = time.monotonic()
    open_ones = set(slow)
    while open_ones and time.monotonic() < began + PATIENCE_S:
        assert client.get("/api/session").status == 200
        for connection in list(open_ones):
            try:
                connection.sendall(b"a")
                connection.settimeout(0.05)
                if not connection.recv(1):
                    open_ones.discard(connection)
            except TimeoutError:
                pass
            except OSError:
                open_ones.discard(connection)
        time.sleep(0.3)
    assert not open_ones
    shared.board.expect(r"web: refused 127.0.0.1: it was too slow \(408 timeout\)|web: \d+ more requests", PATIENCE_S, since)


@pytest.mark.usefixtures("unharmed")
def test_a_hundred_connections_that_send_nothing_keep_nobody_out(shared: WebWorld, client: Client) -> None:
    silent = []
    for _ in range(100):
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex(("127.0.0.1", client.port))
        silent.append(connection)
    answer = client.get("/api/session")
    assert answer.status == 200
    for connection in silent:
        connection.close()


@pytest.mark.usefixtures("unharmed")
def test_a_hundred_requests_at_once_are_answered(shared: WebWorld, client: Client) -> None:
    statuses = []
    connections = []
    for _ in range(100):
        connection = client.raw(b"")
        connection.sendall(_GET + b"\r\n")
        connections.append(connection)
    for connection in connections:
        said = answer_to(connection)
        statuses.append(said[9:12])
    assert set(statuses) <= {b"200", b"503"} and statuses.count(b"200") > 50


def test_only_the_first_of_pipelined_requests_is_answered(client: Client) -> None:
    said = answer_to(client.raw((_GET + b"\r\n") * 20))
    assert said.count(b"HTTP/1.0 200") == 1


class Nuisance(threading.Thread):
    """Everything bad at once, over and over: a hundred silent connections, slow ones, halves, floods, lies."""

    def __init__(self, client: Client) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.ended = threading.Event()
        self.rounds = 0

    def run(self) -> None:
        while not self.ended.is_set():
            silent = []
            with contextlib.suppress(OSError):  # the board restarts
                for _ in range(100):
                    connection = socket.socket()
                    connection.setblocking(False)
                    connection.connect_ex(("127.0.0.1", self.client.port))
                    silent.append(connection)
                self._annoy()
                self.rounds += 1
            for connection in silent:
                connection.close()
            self.ended.wait(0.2)

    def _annoy(self) -> None:
        client = self.client
        for kind in ("not http", "a large head", "dots", "chunked", "two lengths", "no line feed"):
            with contextlib.suppress(OSError):
                answer_to(client.raw(MALFORMED[kind][0], 5))
        for begin in (_half_a_line, _half_a_head, _half_a_body):
            begin(client).close()
        with contextlib.suppress(OSError):
            answer_to(client.raw((_GET + b"\r\n") * 50, 5))
            answer_to(client.raw(b"DELETE /api/ota/update HTTP/1.1\r\nHost: localhost\r\n\r\n", 5))
            lie = f"POST /api/ota/upload HTTP/1.1\r\nHost: localhost\r\nCookie: sid={client.cookie}\r\nX-CSRF: {client.csrf}\r\n"
            lie += "Content-Type: application/octet-stream\r\nContent-Length: 50000\r\n\r\n"
            client.raw(lie.encode() + b"x" * 3000, 5).close()


def test_an_update_goes_on_under_bad_input(web_world: WebWorld) -> None:
    old = web_world.start()
    new = web_world.release("1.1.0", {"www/a.txt": b"a" * 40_000})
    web_world.offer(new)
    web_world.server.trick = Slowly(6.0)
    nuisance = Nuisance(web_world.client())
    since = web_world.type("ota check")
    nuisance.start()
    web_world.wait_confirmed(new, since)
    nuisance.ended.set()
    nuisance.join(PATIENCE_S)
    assert old.version == "1.0.0" and nuisance.rounds >= 1
    assert "Traceback" not in web_world.board.console() and "is switched off" not in web_world.board.console()
    web_world.assert_runs(new)
