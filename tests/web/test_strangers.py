"""Strangers in the network, who hold connections and guess passwords: the owner gets in all the same."""

from __future__ import annotations

import contextlib

from tests.web.conftest import PATIENCE_S, WebWorld

_HEAD = b"POST /api/login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
_SLOTS = 8  # connections that the board serves at once


def test_requests_that_never_come_whole_keep_nobody_out(shared: WebWorld) -> None:
    """All slots are taken by halves: the oldest makes room. One address may not have many of them even where there is room."""
    owner, stranger = shared.client(), shared.client(login=False, address="127.0.0.2")
    with contextlib.ExitStack() as stack:
        since = shared.now()
        for n in range(_SLOTS):
            stack.enter_context(stranger.raw(_HEAD[:60] if n % 2 else _HEAD))
        assert owner.get("/api/status").status == 200
        shared.board.expect(r"web: refused 127\.0\.0\.2: others wait \(408 timeout\)", PATIENCE_S, since)
        stack.enter_context(stranger.raw(_HEAD))
        shared.board.expect(r"web: refused 127\.0\.0\.2: too many connections \(408 timeout\)", PATIENCE_S, since)


def test_wrong_guesses_of_strangers_lock_no_owner_out(shared: WebWorld) -> None:
    """An address that has logged in is heard at once, also after a restart; a new one only waits for its turn."""
    owner = shared.client()
    since = shared.now()
    assert owner.post("/api/restart").status == 202
    shared.board.expect("web: listening", PATIENCE_S, since)
    strangers = [shared.client(login=False, address=f"127.0.0.{2 + n}") for n in range(7)]
    guesses = [(n, stranger) for n in range(3) for stranger in strangers][:20]
    assert {stranger.login(f"guess-{n}").status for n, stranger in guesses} == {401}
    assert owner.post("/api/logout").status == 204
    assert owner.login().status == 200
    newcomer = shared.client(login=False, address="127.0.0.99")
    assert newcomer.login().status == 200
