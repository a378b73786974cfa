"""Servers that stall, trickle, flood, lie, redirect and replay, against a whole board over real HTTP."""

from __future__ import annotations

import base64
import gzip
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from iotctl import keys
from tests.support import forge
from tests.support.scripted_server import Request, ScriptedServer, Step, always, answer, endless, proper
from tests.support.site import CHANNEL, PATIENCE_S, TOKEN, Site, archive_path

ARCHIVE = archive_path("1.1.0")
SILENCE = 30.0


OK = b"HTTP/1.1 200 OK\r\n"
BAD: dict[str, tuple[Callable[[bytes], Iterable[Step]], list[str]]] = {
    # what the server does: (its steps, the reasons that a board may give)
    "silent": (lambda body: [SILENCE], ["timeout"]),
    "silent within the status line": (lambda body: [b"HTTP/1.", SILENCE], ["timeout"]),
    "silent within the headers": (lambda body: [OK + b"Content-", SILENCE], ["timeout"]),
    "silent before the body": (lambda body: [answer(b"", length=len(body)), SILENCE], ["timeout"]),
    "silent within the body": (lambda body: [answer(body[:100], length=len(body)), SILENCE], ["timeout"]),
    "trickles its headers": (lambda body: endless(OK + b"X: ", b"y", 0.3), ["timeout"]),
    "trickles its body": (lambda body: endless(answer(b"", length=len(body)), b"y", 0.3), ["timeout"]),
    "never ends": (lambda body: endless(OK + b"\r\n", body), ["too_large"]),
    "never ends its chunks": (
        lambda body: endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n%s\r\n" % (len(body), body)),
        ["too_large"],
    ),
    "announces a huge body": (lambda body: [answer(body, length=2_000_000_000), SILENCE], ["too_large"]),
    "announces a huge chunk": (lambda body: [OK + b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n", SILENCE], ["too_large"]),
    "floods headers": (lambda body: endless(OK, b"X-Flood: y\r\n"), ["too_large"]),
    "sends an endless header": (lambda body: endless(OK + b"X: ", b"y" * 1000), ["bad_response"]),
    "sends an endless status line": (lambda body: endless(b"HTTP/1.1 200 ", b"y" * 1000), ["bad_response"]),
    "sends 1xx for ever": (lambda body: endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), ["too_large", "timeout"]),
    "hangs up": (lambda body: [], ["connection_lost"]),
    "hangs up within the status line": (lambda body: [b"HTTP/1.1 2"], ["connection_lost"]),
    "hangs up within the headers": (lambda body: [OK + b"Content-Le"], ["connection_lost"]),
    "hangs up before the body": (lambda body: [answer(b"", length=len(body))], ["connection_lost"]),
    "hangs up within the body": (lambda body: [answer(body[:100], length=len(body))], ["connection_lost"]),
    "hangs up within a chunk": (lambda body: [OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\nabc"], ["connection_lost"]),
    "speaks no HTTP": (lambda body: [b"220 smtp.example.org\r\n\r\n"], ["bad_response"]),
    "sends two lengths": (lambda body: [answer(body, "Content-Length: 5")], ["bad_response"]),
    "sends a length and chunks": (lambda body: [answer(body, "Transfer-Encoding: chunked")], ["bad_response"]),
    "compresses": (lambda body: [answer(gzip.compress(body), "Content-Encoding: gzip")], ["bad_response"]),
    "redirects in a loop": (lambda body: [answer(b"", "Location: ?", status="302 Found")], ["redirect"]),
    "redirects nowhere": (lambda body: [answer(b"", status="302 Found")], ["redirect"]),
    "redirects to ftp": (lambda body: [answer(b"", "Location: ftp://127.0.0.1/x", status="302 Found")], ["redirect"]),
    "redirects to credentials": (
        lambda body: [answer(b"", "Location: http://u:p@127.0.0.1/x", status="302 Found")],
        ["redirect"],
    ),
    "refuses": (lambda body: [answer(b"", "Retry-After: 1", status="503 Service Unavailable")], ["http_status"]),
    "answers 304 unasked": (lambda body: [answer(b"", status="304 Not Modified", length=None)], ["http_status"]),
    "answers with a part unasked": (
        lambda body: [answer(body, f"Content-Range: bytes 0-{len(body) - 1}/{len(body)}", status="206 Partial Content")],
        ["bad_response"],
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_server_that_fails_at_the_channel_file_and_at_the_bundle(site: Site, server: ScriptedServer, what: str) -> None:
    """First the channel file, then, with a good one, the bundle."""
    steps, reasons = BAD[what]
    archive = site.offer("1.1.0")
    good = server.routes.pop(CHANNEL)
    server.routes[CHANNEL] = lambda _request: steps(site.channel(archive, "1.1.0"))
    server.routes[ARCHIVE] = lambda _request: steps(archive)
    site.board.start()
    began = time.monotonic()
    assert site.refused() in reasons
    assert time.monotonic() - began < 60
    assert not server.asked(ARCHIVE)
    server.routes[CHANNEL] = good
    since = site.check()
    assert site.refused(since) in reasons
    site.untouched(staged=True)


@pytest.mark.parametrize("what", ["chunks", "until the end", "relative redirect", "other path"])
def test_unusual_but_right_answers_are_understood(site: Site, server: ScriptedServer, what: str) -> None:
    archive = site.offer("1.1.0")
    chunks = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(part), part) for part in (archive[:1], archive[1:3000], archive[3000:]))
    server.routes[f"/{'x'}/b.gz"] = proper(archive)
    server.routes[ARCHIVE] = {
        "chunks": always(answer(b"", "Transfer-Encoding: chunked", length=None) + chunks + b"0\r\nX: trailer\r\n\r\n"),
        "until the end": always(b"HTTP/1.0 200 OK\r\n\r\n" + archive),
        "relative redirect": always(answer(b"", "Location: ../x/./b.gz", status="302 Found")),
        "other path": always(answer(b"", "Location: /x/b.gz", status="307 Temporary Redirect")),
    }[what]
    site.board.start()
    site.board.expect("confirmed: version 1.1.0 stays", 60)
    site.board.stop()
    found = site.tree(site.board.read(), ".ota", "boot.keep")
    assert found == site.files("1.1.0")


def test_no_credential_follows_a_redirect(site: Site, server: ScriptedServer) -> None:
    archive = site.offer("1.1.0")
    with ScriptedServer() as other:
        at = site.place("1.1.0", "lamp.bin") + 1000
        other.routes["/b.gz"] = proper(archive[:at] + bytes((archive[at] ^ 1,)) + archive[at + 1 :])
        server.routes[ARCHIVE] = always(answer(b"", f"Location: {other.url}/b.gz", status="302 Found"))
        site.board.start()
        assert site.refused() == "bad_digest"
        assert all(request.headers["authorization"] == TOKEN for request in server.asked(ARCHIVE))
        assert {request.path for request in other.requests} == {"/b.gz"}
        assert all("authorization" not in request.headers for request in other.requests)
        assert TOKEN.split()[1] not in site.board.console()
    site.untouched(staged=True)


def test_far_too_much_for_a_small_file_is_given_up_at_once(site: Site, server: ScriptedServer) -> None:
    sent = []

    def much(_request: Request) -> Iterable[Step]:
        yield OK + b"\r\n"
        for n in range(20_000):
            sent.append(n)
            yield bytes(1000)

    server.routes[CHANNEL] = much
    site.board.start()
    assert site.refused() == "too_large"
    site.untouched()
    assert len(sent) < 10_000  # what the kernel buffers, not 20 MB


def test_a_download_that_was_cut_goes_on_and_is_installed(site: Site, server: ScriptedServer) -> None:
    """Whatever was asked in between: a channel file that has not changed (304) is no reason to stop."""
    archive = site.offer("1.1.0")
    server.routes[ARCHIVE] = proper(archive, 45_000)
    site.board.start()
    assert site.refused() == "connection_lost"
    before = len(server.asked(ARCHIVE))
    good = server.routes[CHANNEL]
    server.routes[CHANNEL] = always(answer(b"", status="304 Not Modified", length=None))
    since = site.check()
    assert site.refused(since) == "http_status"  # it was not asked whether anything had changed
    server.routes[CHANNEL] = good
    server.routes[ARCHIVE] = proper(archive)
    site.check()
    site.board.expect("confirmed: version 1.1.0 stays", 60)
    assert all("if-none-match" not in request.headers for request in server.asked(CHANNEL)[:3])
    head, files = server.asked(ARCHIVE)[before : before + 2]
    assert head.headers["range"].startswith("bytes=0-")
    assert files.headers["range"].startswith(f"bytes={site.place('1.1.0', 'lamp.bin', 1)}-")
    site.board.stop()
    assert site.tree(site.board.read(), ".ota", "boot.keep") == site.files("1.1.0")


def test_a_rest_that_belongs_to_another_file_is_not_taken(site: Site, server: ScriptedServer) -> None:
    """The head is the right one, what is asked for then comes out of a file of another size."""
    archive = site.offer("1.1.0")
    server.routes[ARCHIVE] = proper(archive, 45_000)
    site.board.start()
    assert site.refused() == "connection_lost"
    server.routes[ARCHIVE] = lambda asked: proper(archive if "=0-" in asked.headers.get("range", "") else archive + b"x")(asked)
    assert site.refused(site.check()) == "too_large"
    server.routes[ARCHIVE] = proper(archive)
    before = len(server.asked(ARCHIVE))
    site.check()
    site.board.expect("confirmed: version 1.1.0 stays", 60)
    assert server.asked(ARCHIVE)[before + 1].headers["range"].startswith(f"bytes={site.place('1.1.0', 'lamp.bin', 1)}-")


def test_other_bytes_in_a_range_are_refused(site: Site, server: ScriptedServer) -> None:
    """Of the right number; it is asked again what they are."""
    archive = site.offer("1.1.0")
    server.routes[ARCHIVE] = lambda asked: proper(archive if "=0-" in asked.headers["range"] else bytes(len(archive)))(asked)
    site.board.start()
    assert site.refused() == "bad_bundle"
    before = len(server.asked(ARCHIVE))
    assert site.refused(site.check()) == "bad_bundle"
    assert len(server.asked(ARCHIVE)) == before + 2
    site.untouched(staged=True)


def test_an_old_channel_file_is_refused_when_it_is_replayed(site: Site, server: ScriptedServer) -> None:
    archive = site.release("1.1.0")
    server.routes[ARCHIVE] = proper(archive)
    server.routes[CHANNEL] = proper(site.channel(site.release("1.0.0"), "1.0.0", published=2000))
    site.board.start()
    site.board.expect("up to date: running 1.0.0")
    server.routes[CHANNEL] = proper(site.channel(archive, "1.1.0", published=1999))
    assert site.refused(site.check()) == "old_sequence"
    assert site.refused(site.check("ota update force")) == "old_sequence"
    assert not server.asked(ARCHIVE)
    site.untouched()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"{" * 2000,
        b'{"format":2,"notes":' + b"[" * 1700 + b"]" * 1700 + b"}",
        b'{"format":2,"notes":' + b'{"a":' * 500 + b"1" + b"}" * 501,
        b'{"format":2,"name":"\xff"}',
        b'{"format":' + b"1" * 3000 + b"}",
        b'{"format":1e999}',
        b"\xff" * 3000,
    ],
)
def test_a_signed_channel_file_that_is_none(site: Site, server: ScriptedServer, line: bytes) -> None:
    server.routes[CHANNEL] = proper(line + b"\n" + base64.b64encode(keys.sign(forge.key(0), line)) + b"\n")
    site.board.start()
    shape = line[:1] == b"{" and line[-1:] == b"}"
    assert site.refused() in ("bad_channel" if shape else "bad_response", "no_memory" if len(line) > 3000 else "")
    site.untouched()


@pytest.mark.parametrize("signer", [1, None])
def test_a_channel_file_not_signed_by_the_pinned_key_is_refused(site: Site, server: ScriptedServer, signer: int | None) -> None:
    archive = site.offer("1.1.0")
    server.routes[CHANNEL] = proper(site.channel(archive, "1.1.0", signer))
    site.board.start()
    assert site.refused() == ("no_signature" if signer is None else "bad_signature")
    assert not server.asked(ARCHIVE)
    site.untouched()


def test_a_channel_that_announces_another_version_than_its_bundle_has(site: Site, server: ScriptedServer) -> None:
    """It would be installed for ever. It is fetched once, and not again until the channel file changes."""
    archive = site.release("1.1.0")
    path = archive_path("1.2.0")
    server.routes[path] = proper(archive)
    server.routes[CHANNEL] = proper(site.channel(archive, "1.2.0"))
    site.board.start()
    assert site.refused() == "version_mismatch"
    for _again in range(2):
        assert site.refused(site.check()) == "version_mismatch"
    since = len(site.board.lines)
    site.board.power_cycle()
    site.board.expect("ota: next check in", PATIENCE_S, since)
    assert site.refused(site.check()) == "version_mismatch"
    assert len(server.asked(path)) == 1
    server.routes[CHANNEL] = proper(site.channel(archive, "1.2.0", published=1_700_000_001))
    assert site.refused(site.check()) == "version_mismatch"
    assert len(server.asked(path)) == 2
    site.untouched()


@pytest.mark.parametrize("what", ["another name", "another MicroPython", "another key", "cut short", "no archive", "other bytes"])
def test_a_bundle_that_is_wrong_in_itself_is_not_fetched_again(site: Site, server: ScriptedServer, what: str) -> None:
    """All others may have been damaged on the way."""
    whole, needed = site.release("1.1.0"), site.place("1.1.0", "lamp.bin") + 1000  # all but this file is there
    archive = {
        "another key": lambda: site.release("1.1.0", signer=1),
        "another name": lambda: site.release("1.1.0", name="another"),
        "another MicroPython": lambda: site.release("1.1.0", mpy=5),
        "cut short": lambda: whole[:needed],
        "no archive": lambda: b"<html>" * 1000,
        "other bytes": lambda: whole[:needed] + bytes(len(whole) - needed),
    }[what]()
    server.routes[CHANNEL] = proper(site.channel(archive, "1.1.0"))
    server.routes[ARCHIVE] = proper(archive)
    site.board.start()
    reason = site.refused()
    assert reason in ("bad_signature", "wrong_name", "wrong_mpy", "bad_bundle", "bad_digest")
    before = len(server.asked(ARCHIVE))
    assert site.refused(site.check()) == reason
    again = what not in ("another name", "another MicroPython")
    assert (len(server.asked(ARCHIVE)) > before) == again
    site.untouched(staged=again)


def test_a_channel_file_that_disappears_does_not_force_the_unsigned_protocol(site: Site, server: ScriptedServer) -> None:
    server.routes["/sim-board/latest"] = proper(b"9.0.0;firmware.tar.gz;\n")
    server.routes["/sim-board/firmware.tar.gz"] = proper(site.release("9.0.0"))
    site.board.start()
    assert site.refused() == "http_status"
    assert site.refused(site.check("ota update force")) == "http_status"
    assert {request.path for request in server.requests} == {CHANNEL}
    site.untouched()


def test_nor_does_it_on_a_board_without_a_key_that_has_had_a_bundle(tmp_path: Path, server: ScriptedServer) -> None:
    site = Site(tmp_path, server)
    site.offer("1.1.0", signer=None)
    server.routes["/sim-board/latest"] = proper(b"9.0.0;firmware.tar.gz;\n")
    server.routes["/sim-board/firmware.tar.gz"] = proper(site.release("9.0.0"))
    site.board.start()
    try:
        site.board.expect("confirmed: version 1.1.0 stays", 60)
        del server.routes[CHANNEL]
        assert site.refused(site.check()) == "http_status"
        assert not re.search("latest|firmware", " ".join(request.path for request in server.requests))
    finally:
        site.board.stop()
    assert site.board.read().files["version"] == b"1.1.0\n"
