"""modules/ota/transport/http.py on the board's interpreter and heap; what it must do in detail is in tests/unit/test_http.py."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from sim.board import Board
from tests.support.driver import new_board, run
from tests.support.scripted_server import ScriptedServer, answer
from tests.unit.test_http import certificates, secure

__all__ = ["certificates"]  # a fixture

_FETCH = """
import gc, hashlib
from iot_platform import sockets
from modules.ota.transport.http import Http
gc.collect()
before = gc.mem_alloc()
http = Http(VALUES["url"], {"X-Token": "t"}, VALUES.get("ca"))
idle_ms, begin = VALUES.get("idle_ms", 5000), VALUES.get("begin", 0)
response = finish(http.get("x", begin=begin, end=VALUES.get("end"), max_body=200000, idle_ms=idle_ms, total_ms=5000))
view = memoryview(bytearray(1024))
gc.collect()
heap = gc.mem_alloc() - before - 1024
digest, size, late = hashlib.sha256(), 0, 0
n = finish(response.read_into(view))
while n:
    late = max(late, longest)
    digest.update(view[:n])
    size += n
    n = finish(response.read_into(view))
response.close()
return [response.status, size, "".join("%02x" % b for b in digest.digest()), heap, late]
"""


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return new_board(tmp_path_factory.mktemp("http") / "board.img")


def fetch(board: Board, *script: bytes | float, **values: Any) -> Any:
    with ScriptedServer(script) as server:
        return run(board, _FETCH, url=server.url, **values)


BODY = bytes(range(256)) * 600


@pytest.mark.parametrize("kind", ["length", "chunked", "until the end"])
def test_a_body_arrives_whole_in_short_steps(board: Board, kind: str) -> None:
    wire = {
        "length": answer(BODY),
        "chunked": answer(b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY), "Transfer-Encoding: chunked", length=None),
        "until the end": b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
    }[kind]
    status, size, digest, heap, late = fetch(board, wire)
    assert (status, size, digest) == (200, len(BODY), hashlib.sha256(BODY).hexdigest())
    assert heap < 2500
    assert late < 50


def test_a_part_is_fetched(board: Board) -> None:
    reply = answer(BODY[1000:5000], f"Content-Range: bytes 1000-4999/{len(BODY)}", status="206 Partial Content")
    assert fetch(board, reply, begin=1000, end=5000)[:3] == [206, 4000, hashlib.sha256(BODY[1000:5000]).hexdigest()]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"], "connection_lost"),
        ([answer(b"x" * 300_000)], "too_large"),
        ([b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 300_000], "too_large"),
        ([b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000], "bad_response"),
        ([b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000], "too_large"),
        ([b"\xff\xfe\r\n\r\n"], "bad_response"),
        ([b"HTTP/1.1 200 OK\r\nETag: \xff\xfe\r\nContent-Length: 1_0\r\n\r\n"], "bad_response"),
        ([answer(b"", "Location: /x", status="302 Found")], "redirect"),
        ([3.0], "timeout"),
        ([b"HTTP/1.1 200 OK\r\n", 3.0], "timeout"),
        ([b""], "connection_lost"),
    ],
)
def test_what_a_hostile_server_does_is_an_ota_error(board: Board, script: list[bytes | float], reason: str) -> None:
    assert fetch(board, *script, idle_ms=300)["error"] == reason


def test_no_server_is_a_connect_error(board: Board) -> None:
    with ScriptedServer([b""]) as server:
        url = server.url
    assert run(board, _FETCH, url=url)["error"] == "connect"


def test_an_unknown_name_is_a_dns_error(board: Board) -> None:
    assert run(board, _FETCH, url="http://no-such-host.invalid/")["error"] == "dns"


def test_credentials_never_follow_a_redirect(board: Board) -> None:
    with ScriptedServer() as server, ScriptedServer([answer(b"x")]) as other:
        server.add([answer(b"", f"Location: {other.url}/", status="302 Found")])
        assert run(board, _FETCH, url=server.url)[1] == 1
        assert b"X-Token: t" in server.requests[0].raw
        assert b"X-Token" not in other.requests[0].raw


@pytest.mark.parametrize(("ca", "expected"), [("ca", 10), ("other", "tls"), (None, 10)])
def test_https_with_the_authority_of_the_profile(board: Board, certificates: Path, ca: str | None, expected: int | str) -> None:
    board.write({name + ".pem": (certificates / (name + ".pem")).read_bytes() for name in ("ca", "other")})
    with ScriptedServer([answer(b"0123456789")], tls=secure(certificates, "server")) as server:
        result = run(board, _FETCH, url=server.url, ca=ca and f"/{ca}.pem")
    assert (result["error"] if isinstance(result, dict) else result[1]) == expected
