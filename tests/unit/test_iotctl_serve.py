"""iotctl serve over real HTTP: Range, If-Range, ETag, If-None-Match, and nothing outside its folder."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from iotctl import ROOT
from iotctl.serve import Handler, Server
from tests.unit.iotctl_fixture import key

DATA = bytes(range(256)) * 40


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    site = tmp_path / "site"
    (site / "door").mkdir(parents=True)
    (site / "door" / "1.tar.gz").write_bytes(DATA)
    (site / "empty").write_bytes(b"")
    (tmp_path / "secret").write_text("secret")
    with Server(site) as running:
        yield running


class Answer:
    def __init__(self, server: Server, path: str, method: str = "GET", **headers: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        self.status, self.headers, self.body = response.status, response.headers, response.read()
        connection.close()


def test_a_whole_file(server: Server) -> None:
    answer = Answer(server, "/door/1.tar.gz")
    assert (answer.status, answer.body) == (200, DATA)
    assert answer.headers["Content-Length"] == str(len(DATA)) and answer.headers["Accept-Ranges"] == "bytes"
    assert [(r.method, r.path, r.status, r.sent) for r in server.requests] == [("GET", "/door/1.tar.gz", 200, len(DATA))]


def test_an_answer_has_no_header_that_nobody_needs(server: Server) -> None:
    """A small update is three of them: what they do not say need not be received."""
    part, whole = Answer(server, "/door/1.tar.gz", Range="bytes=0-99"), Answer(server, "/door/1.tar.gz")
    needed = {"Date", "ETag", "Content-Type", "Content-Length"}
    assert (set(part.headers), set(whole.headers)) == (needed | {"Content-Range"}, needed | {"Accept-Ranges"})


RANGES = [
    ("bytes=0-99", 0, 100), ("bytes=100-", 100, len(DATA)), ("bytes=-5", len(DATA) - 5, len(DATA)), ("bytes=5-5", 5, 6),
    ("bytes=10000-99999999", 10000, len(DATA)), ("bytes=-99999999", 0, len(DATA)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "start", "end"), RANGES)
def test_a_range(server: Server, text: str, start: int, end: int) -> None:
    answer = Answer(server, "/door/1.tar.gz", Range=text)
    assert (answer.status, answer.body) == (206, DATA[start:end])
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(DATA)}"


@pytest.mark.parametrize("text", [f"bytes={len(DATA)}-", "bytes=99999999-", "bytes=-0"])
def test_a_range_outside_the_file(server: Server, text: str) -> None:
    answer = Answer(server, "/door/1.tar.gz", Range=text)
    assert (answer.status, answer.headers["Content-Range"], answer.body) == (416, f"bytes */{len(DATA)}", b"")


@pytest.mark.parametrize("text", ["bytes=5-4", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6"])
def test_a_range_that_is_none_is_ignored(server: Server, text: str) -> None:
    assert Answer(server, "/door/1.tar.gz", Range=text).status == 200


def test_if_range_gives_the_whole_file_once_it_has_changed(server: Server) -> None:
    etag = Answer(server, "/door/1.tar.gz").headers["ETag"]
    assert Answer(server, "/door/1.tar.gz", Range="bytes=9-", If_Range=etag).status == 206
    (server.directory / "door" / "1.tar.gz").write_bytes(DATA[::-1])
    changed = Answer(server, "/door/1.tar.gz", Range="bytes=9-", If_Range=etag)
    assert (changed.status, changed.body) == (200, DATA[::-1]) and changed.headers["ETag"] != etag


def test_if_none_match(server: Server) -> None:
    etag = Answer(server, "/door/1.tar.gz").headers["ETag"]
    for wished in (etag, f'"x", {etag}', f"W/{etag}", "*"):
        answer = Answer(server, "/door/1.tar.gz", If_None_Match=wished)
        assert (answer.status, answer.body, answer.headers["ETag"]) == (304, b"", etag)
    assert Answer(server, "/door/1.tar.gz", If_None_Match='"x"').status == 200


def test_head_has_no_body(server: Server) -> None:
    answer = Answer(server, "/door/1.tar.gz", "HEAD")
    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", str(len(DATA)))


PLACES = ["/none", "/door", "/", "/../secret", "/%2e%2e/secret", "/door/../../secret", "//secret", "/a%00b", "/" + "x" * 300]


@pytest.mark.parametrize("path", PLACES)
def test_what_is_not_there_or_outside_is_404(server: Server, path: str) -> None:
    answer = Answer(server, path)
    assert answer.status == 404 and b"secret" not in answer.body


def test_a_link_out_of_the_folder_is_404(server: Server) -> None:
    os.symlink(server.directory.parent / "secret", server.directory / "link")
    assert Answer(server, "/link").status == 404


def test_an_empty_file_and_a_query(server: Server) -> None:
    assert (Answer(server, "/empty").status, Answer(server, "/door/1.tar.gz?x=1").body) == (200, DATA)


def test_a_connection_serves_several_requests(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    for headers in ({}, {"If-None-Match": "*"}, {"Range": "bytes=99999999-"}, {}):
        connection.request("GET", "/door/1.tar.gz", headers=headers)
        body = connection.getresponse().read()
    assert body == DATA


def test_another_handler_can_misbehave(tmp_path: Path) -> None:
    class Broken(Handler):
        def do_GET(self) -> None:
            self.send_error(500)

    with Server(tmp_path, handler_class=Broken) as server:
        assert Answer(server, "/").status == 500


def test_the_command_serves_and_logs_a_line_a_request(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"text")
    command = [sys.executable, "-u", "-m", "iotctl", "serve", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        port = re.search(r":(\d+) ", process.stdout.readline())
        assert port
        connection = http.client.HTTPConnection("127.0.0.1", int(port[1]), timeout=5)
        connection.request("GET", "/a", headers={"Range": "bytes=1-2"})
        assert connection.getresponse().read() == b"ex"
        assert "GET /a (bytes=1-2) 206 2 bytes" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0 and process.stderr and process.stderr.read() == ""


def test_a_port_in_use_is_one_line(server: Server) -> None:
    command = [sys.executable, "-m", "iotctl", "serve", str(server.directory), "--port", str(server.port)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert done.returncode == 3 and len(done.stderr.splitlines()) == 1


def test_dotfiles_and_private_keys_are_404(server: Server) -> None:
    """Whatever lies in the folder by mistake: a key beside the bundles, .git, what an editor or a rename has left."""
    secret = key(0).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    der = key(0).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    for path, data in {".env": b"x", ".git/config": b"x", "door/.1.tar.gz.x": b"x", "key.pem": secret, "key.der": der}.items():
        target = server.directory / path
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(data)
        for asked in (path, path.replace(".", "%2e"), f"door/../{path}", f"//{path}"):
            answer = Answer(server, f"/{asked}")
            assert (answer.status, answer.body) == (404, b"not found\n"), asked
    os.symlink(server.directory / ".env", server.directory / "env")
    assert Answer(server, "/env").status == 404
    public = key(0).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (server.directory / "public.pem").write_bytes(public)
    assert Answer(server, "/public.pem").status == 200


def test_only_so_many_requests_are_remembered(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("iotctl.serve.MOST_REQUESTS", 5, raising=False)
    for n in range(8):
        Answer(server, f"/{n}")
    assert [request.path for request in server.requests] == [f"/{n}" for n in range(3, 8)]


def test_what_is_remembered_of_a_request_is_small(server: Server) -> None:
    """Or a thousand of them are gigabytes: Python reads 6 MB of headers."""
    long = "x" * 60_000
    assert Answer(server, f"/{long}").status == 431
    assert Answer(server, "/a", **{f"X_{n}": long for n in range(9)}).status == 431
    assert server.requests == []


def test_a_connection_that_says_nothing_gives_its_thread_back(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    timeout = Handler.timeout
    monkeypatch.setattr(Handler, "timeout", 0.05)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        assert sock.recv(1) == b""
    assert timeout, "as it is outside of this test"
