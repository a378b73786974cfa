"""modules/ota/transport/http.py against servers over real sockets: right, wrong, slow, endless and hostile ones."""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import ipaddress
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from iotctl import authorities
from iotctl.errors import IotctlError
from modules.ota.errors import OtaError
from modules.ota.transport import urls
from modules.ota.transport.http import Http
from tests.support.scripted_server import KEEP, ScriptedServer, answer, endless


def finish(job: Any) -> Any:
    """Run a generator as the board's loop does; its result."""
    while True:
        try:
            next(job)
        except StopIteration as stop:
            return stop.value
        time.sleep(0.001)


def read(response: Any, size: int = 100) -> bytes:
    view, body = memoryview(bytearray(size)), b""
    while n := finish(response.read_into(view)):
        body += view[:n]
    return body


def fetch(url: str, *, headers: dict[str, str] | None = None, **options: Any) -> tuple[Any, bytes]:
    options.setdefault("idle_ms", 400)
    options.setdefault("total_ms", 3000)
    http = Http(url, headers)
    try:
        response = finish(http.get("", **options))
        return response, read(response)
    finally:
        http.close()


def refusal(*script: bytes | float, **options: Any) -> OtaError:
    """The error that a server's answer leads to."""
    with ScriptedServer(script) as server, pytest.raises(OtaError) as caught:
        fetch(server.url, **options)
    assert caught.value.kind == "transport"
    return caught.value


def test_reads_an_answer_and_its_headers() -> None:
    reply = answer(b"hello", 'ETag: "abc"', "Retry-After: 5", "X-Other: " + "x" * 900)
    with ScriptedServer([reply]) as server:
        response, body = fetch(server.url + "/board/stable.json?x=1")
    assert (response.status, body, response.etag, response.content_length) == (200, b"hello", '"abc"', 5)
    assert (response.retry_after, response.total) == (5, None)
    head = server.requests[0].raw.decode().split("\r\n")
    assert head[0] == "GET /board/stable.json?x=1 HTTP/1.1"
    assert f"Host: 127.0.0.1:{server.port}" in head
    assert "User-Agent: iot-platform-ota" in head
    assert "Connection: close" not in head


@pytest.mark.parametrize("size", [999, 1016, 1017, 1018, 1019, 1020, 1021, 2040, 2041, 2042, 4000, 8000])
def test_a_long_header_that_nobody_reads_is_no_reason_to_refuse_the_answer(size: int) -> None:
    """GitHub's and S3's security policies; at every place where the buffer may end."""
    reply = answer(b"hello", "X-Policy: " + "x" * size, 'ETag: "abc"')
    with ScriptedServer([reply]) as server:
        response, body = fetch(server.url)
    assert (body, response.etag) == (b"hello", '"abc"')


def test_a_file_whose_own_name_says_gzip_is_taken_as_it_is() -> None:
    """What many servers say of any .tar.gz: these are its bytes."""
    with ScriptedServer([answer(b"\x1f\x8bbundle", "Content-Encoding: gzip")]) as server:
        assert fetch(server.url + "/1.0.0.tar.gz")[1] == b"\x1f\x8bbundle"


@pytest.mark.parametrize("size", [1, 3, 1024, 5000])
def test_an_answer_in_single_bytes_is_the_same(size: int) -> None:
    chunked = answer(b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: x\r\n\r\n", "Transfer-Encoding: chunked", length=None)
    with ScriptedServer([bytes([byte]) for byte in chunked]) as server:
        response, body = fetch(server.url)
    assert body == b"hello world"
    assert response.content_length is None


@given(st.binary(max_size=5000), st.lists(st.integers(1, 900), max_size=8), st.integers(1, 1500))
@settings(max_examples=25, deadline=None)
def test_chunks_of_any_size_give_the_body(body: bytes, sizes: list[int], view: int) -> None:
    wire, rest = b"", body
    for size in [*sizes, 5000]:
        if part := rest[:size]:
            wire += b"%X\r\n%s\r\n" % (len(part), part)
        rest = rest[size:]
    with ScriptedServer([answer(wire + b"0\r\n\r\n", "Transfer-Encoding: chunked", length=None)]) as server:
        response = finish(Http(server.url).get("/"))
        assert read(response, view) == body
        assert read(response, view) == b""
        response.close()


def test_a_body_that_only_the_connection_ends() -> None:
    with ScriptedServer([b"HTTP/1.0 200 OK\r\n\r\nhello"]) as server:
        response, body = fetch(server.url)
    assert (body, response.content_length) == (b"hello", None)


def test_informational_answers_are_skipped() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    with ScriptedServer([b"HTTP/1.1 100 Continue\r\n\r\n" + early + answer(b"x")]) as server:
        assert fetch(server.url)[1] == b"x"


def test_not_modified_has_no_body() -> None:
    with ScriptedServer([answer(b"", 'ETag: "a"', "Content-Length: 99", status="304 Not Modified", length=None)]) as server:
        response, body = fetch(server.url, etag='"a"')
    assert (response.status, body) == (304, b"")
    assert b'\r\nIf-None-Match: "a"\r\n' in server.requests[0].raw


@pytest.mark.parametrize("status", ["404 Not Found", "410 Gone", "416 Range Not Satisfiable", "500 Oops", "503 Busy", "429 "])
def test_other_statuses_are_given_out(status: str) -> None:
    with ScriptedServer([answer(b"x" * 9999, "Content-Encoding: gzip", "Retry-After: 120", status=status)]) as server:
        response = finish(Http(server.url).get("/", max_body=10))
        response.close()
    assert (response.status, response.retry_after) == (int(status[:3]), 120)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("-1", None),
        ("999999999", 604800),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Thu, 21 Oct 2100 07:28:00 GMT", 604800),
        ("Wed, 21 Nix 2100 07:28:00 GMT", None),
        ("Wed, 21 Oct 2100 07:28 GMT", None),
        ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None),
        ("Thursday, 21-Oct-00 07:28:00 GMT", None),
        ("next Thursday", None),
    ],
)
def test_retry_after_is_bounded(value: str, seconds: int | None) -> None:
    with ScriptedServer([answer(b"", "Retry-After: " + value, status="503 Busy")]) as server:
        assert fetch(server.url)[0].retry_after == seconds


@pytest.mark.parametrize("days", [0, 1, 5])
def test_retry_after_as_a_date_counts_from_now(days: int) -> None:
    date = email.utils.formatdate(time.time() + days * 86_400 + 600, usegmt=True)
    # gmtime() of now asks a coarser clock than time(): for some milliseconds of each second it is one behind
    assert urls.retry_after(date.encode()) in range(days * 86_400 + 500, days * 86_400 + 602)


def test_retry_after_as_a_date_says_nothing_where_the_time_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls.time, "gmtime", lambda: time.struct_time((2021, 1, 1, 0, 0, 7, 4, 1, 0)))
    assert urls.retry_after(b"Thu, 21 Oct 2100 07:28:00 GMT") is None
    assert urls.retry_after(b"120") == 120


# -- Range


def part(body: bytes, which: str) -> bytes:
    return answer(body, f"Content-Range: {which}", status="206 Partial Content")


@pytest.mark.parametrize(("total", "known"), [("10", 10), ("*", None)])
def test_asks_for_a_part(total: str, known: int | None) -> None:
    with ScriptedServer([part(b"567", f"bytes 5-7/{total}")]) as server:
        response, body = fetch(server.url, begin=5, end=8)
    assert (response.status, response.total, body) == (206, known, b"567")
    assert b"\r\nRange: bytes=5-7\r\n" in server.requests[0].raw


def test_a_server_that_ignores_the_range_says_200() -> None:
    with ScriptedServer([answer(b"0123456789")]) as server:
        assert fetch(server.url, begin=5, end=10)[0].status == 200


@pytest.mark.parametrize(
    "value",
    [
        "bytes 4-9/10", "bytes 6-10/11", "bytes 5-8/10", "bytes 9-5/10", "bytes */10", "5-9/10", "bytes 5-9", "",
        "bytes 5-9/x", "bytes -5-9/10", "bytes 5-9/99999999999", "items 5-9/10", "bytes 5-9/10, 5-9/10",
    ],
)  # fmt: skip
def test_refuses_another_part_than_it_asked_for(value: str) -> None:
    assert refusal(part(b"56789", value), begin=5, end=10).reason == "bad_response"


@pytest.mark.parametrize("length", [4, 6, None])
def test_refuses_a_part_of_another_length_than_its_place_says(length: int | None) -> None:
    """Without a length it is as long as its place says: a longer one is the beginning of the next answer, a shorter one lost."""
    head = answer(b"", "Content-Range: bytes 5-9/10", status="206 Partial Content", length=length)
    if length:
        assert refusal(head + b"5" * length, begin=5, end=10).reason == "bad_response"
    else:
        assert refusal(head + b"5678", begin=5, end=10).reason == "connection_lost"


def test_refuses_several_parts_at_once() -> None:
    body = b"--x\r\nContent-Range: bytes 5-9/10\r\n\r\n56789\r\n--x--\r\n"
    script = answer(body, "Content-Type: multipart/byteranges; boundary=x", status="206 Partial Content")
    assert refusal(script, begin=5, end=10).reason == "bad_response"


def test_refuses_a_part_that_it_did_not_ask_for() -> None:
    assert refusal(part(b"0", "bytes 0-0/1")).reason == "bad_response"
    assert refusal(answer(b"0", status="206 Partial Content"), begin=3, end=4).reason == "bad_response"


# -- one connection for several requests


def test_a_connection_is_kept_when_the_body_was_read_to_its_end() -> None:
    bodies = [b"one", b"", b"three" * 1000]
    replies = [answer(bodies[0]), answer(bodies[1], status="404 Not Found"), answer(bodies[2])]
    scripts: list[list[bytes | float]] = [[reply, KEEP] for reply in replies]
    with ScriptedServer(*scripts) as server:
        http = Http(server.url)
        for body in bodies:
            response = finish(http.get("x"))
            assert read(response) == body
            response.close()
        assert http.connection.wire_out == sum(len(request.raw) for request in server.requests)
        assert http.connection.wire_in == sum(map(len, replies))
        http.close()
    assert server.connections == 1


def test_a_chunked_answer_keeps_its_connection_too() -> None:
    chunked = answer(b"5\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked", length=None)
    assert two_requests([chunked, KEEP], [answer(b"x"), KEEP]) == [(b"hello", b"x"), 1]


@pytest.mark.parametrize(
    "first",
    [
        [answer(b"hello", "Connection: close")],
        [answer(b"hello", "Connection: Close"), KEEP],
        [b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", KEEP],
        [b"HTTP/1.0 200 OK\r\n\r\nhello"],
        [answer(b"hello")],  # kept, but the server has closed it when the next request comes
    ],
)
def test_a_connection_that_is_over_is_opened_again_once(first: list[bytes | float]) -> None:
    assert two_requests(first, [answer(b"x"), KEEP]) == [(b"hello", b"x"), 2]


def test_a_server_that_closes_a_kept_connection_twice_is_a_lost_connection() -> None:
    with pytest.raises(OtaError) as caught:
        two_requests([answer(b"hello")], [b""])
    assert caught.value.reason == "connection_lost"


def test_an_answer_that_was_not_read_to_its_end_gives_the_connection_up() -> None:
    with ScriptedServer([answer(b"x" * 5000), KEEP]) as server:
        http = Http(server.url)
        for _request in range(2):
            response = finish(http.get("x"))
            finish(response.read_into(memoryview(bytearray(10))))
            response.close()
        http.close()
    assert server.connections == 2


def test_bytes_behind_an_answer_are_no_answer_to_the_next_request() -> None:
    """A server that says more than it was asked for: what it says first would be taken for the next answer."""
    with pytest.raises(OtaError) as caught:
        two_requests([answer(b"hello") + b"and more", KEEP], [answer(b"x"), KEEP])
    assert caught.value.reason == "bad_response"


def two_requests(*scripts: list[bytes | float]) -> list[Any]:
    """The bodies of two requests, one after the other, and how many connections they took."""
    with ScriptedServer(*scripts) as server:
        http = Http(server.url)
        try:
            bodies = []
            for _request in range(2):
                response = finish(http.get("x", idle_ms=400, total_ms=3000))
                bodies.append(read(response))
                response.close()
                time.sleep(0.05)  # a server that closes has done so by then
        finally:
            http.close()
        return [tuple(bodies), server.connections]


# -- what a broken or hostile server says


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 -20 OK\r\n\r\n",
        b"HTTP/1.1 999 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: empty\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n\tfolded: c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xd9\xa5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 8200 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x" * 1100 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1100 + b"\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * 1100 + b"\r\n\r\n",
        b"HTTP/1.1 200 " + b"x" * 1100 + b"\r\n\r\n",
    ],
)
def test_refuses_an_answer_that_is_not_right(head: bytes) -> None:
    assert refusal(head).reason == ("bad_response" if head else "connection_lost")


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\nx",
        b"+1\r\nx",
        b"0x1\r\nx\r\n0\r\n\r\n",
        b"1_0\r\n",
        b"12345678\r\n",
        b"1\r\nxx\r\n0\r\n\r\n",
        b"2\r\nx\r\n0\r\n\r\n",
        b"1" + b";" * 100 + b"\r\n",
        b"0" * 100,
        b"0\r\n" + b"T: x\r\n" * 300,
        b"0\r\n" + b"T" * 2000,
    ],
)
def test_refuses_chunks_that_are_not_right(body: bytes) -> None:
    assert refusal(answer(body, "Transfer-Encoding: chunked", length=None)).reason in ("bad_response", "connection_lost")


@pytest.mark.parametrize("cut", range(1, 70, 4))
def test_a_connection_lost_anywhere_is_noticed(cut: int) -> None:
    whole = answer(b"5\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked", length=None)
    assert refusal(whole[:-cut] if cut < len(whole) else whole[:1]).reason in ("connection_lost", "bad_response")
    assert refusal(answer(b"x" * 70)[:-cut]).reason == "connection_lost"


def test_a_flood_of_headers_is_cut_off() -> None:
    flood = [b"HTTP/1.1 200 OK\r\n"] + [b"X: " + b"y" * 500 + b"\r\n"] * 2000
    assert refusal(*flood).reason == "too_large"
    assert refusal(*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 2000).reason == "too_large"


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"64\r\n" + b"x" * 100 + b"\r\n", b"HTTP/1.0 200 OK\r\n\r\n"],
)  # fmt: skip
def test_a_body_that_is_too_large_is_cut_off(head: bytes) -> None:
    more = (b"64\r\n" + b"x" * 100 + b"\r\n") * 100 if b"64" in head else b"x" * 10_000
    assert refusal(head, more, more, more, max_body=1000).reason == "too_large"


def test_a_body_of_exactly_the_bound_is_right() -> None:
    for script in (answer(b"x" * 1000), b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 1000):
        with ScriptedServer([script]) as server:
            assert fetch(server.url, max_body=1000)[1] == b"x" * 1000


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_garbage_is_an_ota_error_and_nothing_else(garbage: bytes) -> None:
    for prefix in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        with ScriptedServer([prefix + garbage]) as server, contextlib.suppress(OtaError):
            fetch(server.url, max_body=1000)


# -- deadlines


@pytest.mark.parametrize("script", [[9.0], [b"HTTP/1.1 200 OK\r\n", 9.0], [answer(b"xx")[:-1], 9.0]])
def test_a_silent_server_meets_the_idle_deadline(script: list[bytes | float]) -> None:
    began = time.monotonic()
    assert refusal(*script, idle_ms=200).reason == "timeout"
    assert time.monotonic() - began < 12


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nX: ", answer(b"x" * 900)[:-900]])
def test_a_trickling_server_meets_the_total_deadline(start: bytes) -> None:
    trickle = [step for _ in range(60) for step in (b"H", 0.02)]
    assert refusal(start, *trickle, idle_ms=500, total_ms=400).reason == "timeout"


def test_an_address_that_swallows_everything_meets_the_idle_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as full:
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        with pytest.raises(OtaError) as caught:
            fetch(f"http://127.0.0.1:{full.getsockname()[1]}/", idle_ms=300)
        for client in waiting:
            client.close()
    assert caught.value.reason in ("timeout", "connect")


def test_no_server_is_a_connect_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(OtaError) as caught:
        fetch(f"http://127.0.0.1:{port}/")
    assert caught.value.reason == "connect"


def test_the_loop_goes_on_while_a_body_arrives() -> None:
    with ScriptedServer([answer(b"x" * 50_000)]) as server:
        response = finish(Http(server.url).get("/"))
        time.sleep(0.1)  # all of it waits in the socket: each read must yield all the same
        job = response.read_into(memoryview(bytearray(100)))
        next(job)
        with pytest.raises(StopIteration):
            next(job)
        response.close()


def test_a_job_that_is_cancelled_closes_its_connection() -> None:
    with ScriptedServer([5.0]) as server:
        job = Http(server.url).get("/")
        deadline = time.monotonic() + 5
        while not server.requests and time.monotonic() < deadline:
            next(job)
            time.sleep(0.001)
        job.close()  # an unclosed socket would be a ResourceWarning


# -- redirects and credentials


def redirect(location: str, status: str = "302 Found") -> list[bytes]:
    return [answer(b"", "Location: " + location, status=status)]


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/x", "/x"),
        ("x", "/a/x"),
        ("../x?q=1#f", "/x?q=1"),
        ("?q", "/a/b?q"),
        ("./", "/a/"),
        ("{url}/y", "/y"),
        ("//{host}/z", "/z"),
    ],
)
def test_redirects_are_followed(status: str, location: str, target: str) -> None:
    with ScriptedServer() as server:
        host = server.url[7:]
        server.add(redirect(location.format(url=server.url, host=host), status))
        server.add([answer(b"there")])
        response, body = fetch(server.url + "/a/b?old")
    assert body == b"there"
    assert server.requests[1].raw.startswith(b"GET %s HTTP/1.1\r\n" % target.encode())


@pytest.mark.parametrize("size", [900, 1010, 1011, 1012, 1013, 2030, 4000])
def test_a_long_location_is_followed(size: int) -> None:
    """A signed URL, with its query."""
    target = "/blob?signature=" + "s" * size
    with ScriptedServer(redirect(target)) as server:
        server.add([answer(b"there")])
        assert fetch(server.url)[1] == b"there"
    assert server.requests[1].raw.startswith(b"GET %s HTTP/1.1\r\n" % target.encode())


def test_a_location_without_end_is_not() -> None:
    assert refusal(*redirect("/" + "x" * 5000)).reason == "redirect"


@pytest.mark.parametrize(("url", "host", "port", "header"), [
    ("http://[fe80::1]/x", "fe80::1", 80, "[fe80::1]"),
    ("https://[2001:DB8::2]:8443?q", "2001:db8::2", 8443, "[2001:db8::2]:8443"),
    ("http://[::ffff:10.0.0.1]:81/", "::ffff:10.0.0.1", 81, "[::ffff:10.0.0.1]:81"),
])  # fmt: skip
def test_an_ipv6_address_is_a_host(url: str, host: str, port: int, header: str) -> None:
    assert urls.split(url)[1:3] == (host, port)
    assert urls.host_header(urls.split(url)[0], host, port) == header
    assert urls.split(urls.join(url, "../y"))[1:] == (host, port, "/y")


@pytest.mark.parametrize("host", ["[]", "[::1", "[::1]x", "[::1]x80", "[::1]:", "[a b]", "::1"])
def test_what_is_no_address_is_refused(host: str) -> None:
    with pytest.raises(OtaError):
        urls.split(f"http://{host}/")


def test_a_redirect_loop_ends() -> None:
    with ScriptedServer(redirect("/again")) as server, pytest.raises(OtaError) as caught:
        fetch(server.url)
    assert caught.value.reason == "redirect"
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    "location",
    ["ftp://x/", "javascript:1", "http://user:pass@127.0.0.1/", "http://", "http:///x", "http://h:0/", "http://h:70000/", "http://[::1]/",
     "http://h h/", "/a b", "/\xe4", "x" * 1010, ""],
)  # fmt: skip
def test_refuses_a_redirect_to_what_is_no_url(location: str) -> None:
    script = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n".encode("latin-1")
    assert refusal(script).reason in ("redirect", "bad_response")


@pytest.mark.parametrize("hosts", [(), ("localhost",)])
def test_a_redirect_stays_on_the_host_unless_others_are_named(hosts: tuple[str, ...]) -> None:
    with ScriptedServer() as server, ScriptedServer([answer(b"there")]) as other:
        server.add(redirect(f"http://localhost:{other.port}/x"))
        http = Http(server.url, hosts=hosts)
        try:
            response = finish(http.get(server.url))
            assert hosts and response.status == 200
            response.close()
        except OtaError as error:
            assert not hosts and error.reason == "redirect" and "localhost" in str(error)
        http.close()
    assert len(other.requests) == len(hosts)


SECRET = {"Authorization": "Bearer secret"}


def test_credentials_go_to_the_configured_origin_only() -> None:
    with ScriptedServer([answer(b"x")]) as server, ScriptedServer([answer(b"x")]) as other:
        http = Http(server.url + "/base/", SECRET)
        for url in ("file", server.url + "/x", other.url + "/x"):
            response = finish(http.get(url))
            response.close()
    assert [b"secret" in request.raw for request in server.requests] == [True, True]
    assert server.requests[0].raw.startswith(b"GET /base/file ")
    assert [b"secret" in request.raw for request in other.requests] == [False]


def test_credentials_never_follow_a_redirect_not_even_back() -> None:
    with ScriptedServer() as server, ScriptedServer() as other:
        server.add(redirect(other.url + "/x"))
        server.add([answer(b"x")])
        other.add(redirect(server.url + "/y"))
        fetch(server.url, headers=SECRET)
    assert [b"secret" in request.raw for request in server.requests] == [True, False]
    assert [b"secret" in request.raw for request in other.requests] == [False]


@pytest.mark.parametrize("headers", [{"A": "b\r\nC: d"}, {"A\n": "b"}, {"A": "b\0"}, {"A": ""}, {"A": 5}, {"A": "\xe4"}])
def test_refuses_to_send_what_could_end_a_header(headers: dict[str, Any]) -> None:
    with pytest.raises(OtaError):
        Http("http://host/", headers)


@pytest.mark.parametrize("options", [{"etag": 'a"\r\nX: y'}, {"etag": '"a\n'}])
def test_refuses_to_send_an_etag_that_could_end_a_header(options: dict[str, Any]) -> None:
    with pytest.raises(OtaError):
        finish(Http("http://127.0.0.1:1/").get("/", **options))


@pytest.mark.parametrize("value", ['"a b"', '"' + "x" * 200, '"\xe4"', ""])
def test_an_etag_that_could_not_be_sent_back_is_none(value: str) -> None:
    with ScriptedServer([f"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: {value}\r\n\r\n".encode("latin-1")]) as server:
        assert fetch(server.url)[0].etag is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host/x",
        "ftp://host/",
        "http:/host/",
        "http://user@host/",
        "http://user:pw@host/",
        "http://host:x/",
        "http://host\r\nX: y/",
        "http://host/a b",
        "http://ho/\nst",
        "http://host/" + "x" * 4200,
        "http://h\xf6st/",
    ],
)
def test_refuses_a_configured_url_that_is_none(url: str) -> None:
    with pytest.raises(OtaError) as caught:
        Http(url)
    assert caught.value.reason == "not_configured"


# -- TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, ca.der and other.pem (authorities), server.pem for 127.0.0.1 and stranger.pem for elsewhere."""
    folder = tmp_path_factory.mktemp("tls")
    authority = _certificate(folder, "ca", None, None)
    _certificate(folder, "other", None, None)
    _certificate(folder, "server", x509.IPAddress(ipaddress.ip_address("127.0.0.1")), authority)
    _certificate(folder, "stranger", x509.DNSName("elsewhere"), authority)
    (folder / "ca.der").write_bytes(authority[0].public_bytes(serialization.Encoding.DER))
    (folder / "empty.pem").write_text("no certificate")
    return folder


def _certificate(folder: Path, name: str, host: Any, issuer: Any) -> Any:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if host:
        builder = builder.add_extension(x509.SubjectAlternativeName([host]), critical=False)
    certificate = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{name}.key").write_bytes(secret)
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
    return certificate, key


def secure(certificates: Path, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
    return context


@pytest.mark.parametrize(("server", "ca"), [("server", "ca.pem"), ("server", "ca.der"), ("server", None), ("stranger", None)])
def test_https_with_the_right_authority_or_none(certificates: Path, server: str, ca: str | None) -> None:
    with ScriptedServer([answer(b"x" * 5000)], tls=secure(certificates, server)) as scripted:
        response = finish(Http(scripted.url, ca=ca and str(certificates / ca)).get("/"))
        assert read(response) == b"x" * 5000
        response.close()


@pytest.mark.parametrize(
    ("server", "ca"), [("server", "other.pem"), ("stranger", "ca.pem"), ("server", "empty.pem"), ("server", "none.pem")]
)
def test_https_refuses_another_authority_or_name(certificates: Path, server: str, ca: str) -> None:
    with ScriptedServer([answer(b"x")], tls=secure(certificates, server)) as scripted, pytest.raises(OtaError) as caught:
        finish(Http(scripted.url, ca=str(certificates / ca)).get("/"))
    assert caught.value.reason == "tls"


def test_the_root_of_a_servers_authority_is_found(
    certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this computer trusts, and no more; with it a board believes the server."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.pem"))
    with ScriptedServer([answer(b"hello")], tls=secure(certificates, "server")) as scripted:
        mqtt = {"host": "127.0.0.1", "port": scripted.port, "ca": "system"}
        value = {"ota": {"url": scripted.url, "ca": "system"}, "mqtt": mqtt}
        assert authorities.needed(value) == [("127.0.0.1", scripted.port)] * 2
        assert authorities.needed({"ota": {"url": scripted.url, "ca": "ca.pem"}, "mqtt": None}) == []
        system = tmp_path / "system"
        system.write_bytes(authorities.roots(authorities.needed(value)))
        assert system.read_text() == (certificates / "ca.pem").read_text()
        response = finish(Http(scripted.url, ca=str(system)).get("/"))
        assert read(response) == b"hello"
        response.close()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "other.pem"))
        with pytest.raises(IotctlError, match=r"ca: 127.0.0.1:\d+, whose authority the board needs: .*verify failed"):
            authorities.roots(authorities.needed(value))


def test_a_redirect_from_https_to_http_is_refused(certificates: Path) -> None:
    script = redirect("http://127.0.0.1:1/")
    with ScriptedServer(script, tls=secure(certificates, "server")) as scripted, pytest.raises(OtaError) as caught:
        finish(Http(scripted.url).get("/"))
    assert caught.value.reason == "redirect"


def test_a_server_that_does_not_come_to_an_end_with_tls_meets_the_idle_deadline_and_is_not_called_silent() -> None:
    hello = endless(b"\x16\x03\x03\x20\x00\x02", b"\0", 0.02)
    with ScriptedServer(raw=lambda: hello) as server, pytest.raises(OtaError) as caught:
        finish(Http(server.url.replace("http:", "https:")).get("/", idle_ms=1000))
    assert caught.value.reason == "timeout"
    assert caught.value.message == "the server has not come to an end with TLS within 1 s"


def test_a_server_that_is_silent_behind_tls_is_called_silent(certificates: Path) -> None:
    with ScriptedServer([5.0], tls=secure(certificates, "server")) as server, pytest.raises(OtaError) as caught:
        finish(Http(server.url).get("/", idle_ms=1000))
    assert caught.value.message == "the server has been silent for 1 s"


@given(st.text("ab.~/?#:@", max_size=30))
def test_joined_urls_stay_on_their_server_unless_they_name_another(location: str) -> None:
    joined = urls.join("http://host:81/a/b?q", location)
    try:
        parts = urls.split(joined)
    except OtaError:
        return
    target = parts[3].split("?")[0]
    assert "#" not in joined
    assert "/../" not in target + "/"
    if not location.startswith("//"):
        assert parts[:3] == ("http", "host", 81)
