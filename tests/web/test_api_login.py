"""Passwords and sessions: the first one, a wrong one, another one, and what survives a restart."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.world import patched
from tests.web.conftest import PASSWORD, PATIENCE_S, WebWorld


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebWorld]:
    """A board whose profile has neither a password nor a network: as it comes out of the box."""
    with WebWorld(tmp_path_factory.mktemp("bare"), web={}) as made:
        made.wifi = None
        made.flash(made.release("1.0.0"))
        made.board.start()
        yield made


def test_the_first_password_is_made_and_shown_on_the_serial_console_only(bare: WebWorld) -> None:
    shown = bare.board.expect(r"web: the password of this board's page is ([a-z2-9]{4}(-[a-z2-9]{4}){2}) ", PATIENCE_S)
    bare.board.expect(r"wifi: access point sim-board-\S+, with a password", PATIENCE_S)
    client = bare.client(login=False)
    assert client.get("/api/session").json["setup"] is True  # the page asks for a network
    assert client.login("wrong-password").status == 401
    assert client.login(shown[1]).status == 200
    assert shown[1] not in client.get("/api/log").body.decode()
    assert b"true" in client.get("/api/wifi").body  # there is an access point: all of it works without a network
    since = bare.now()
    assert client.post("/api/wifi/join", {"ssid": "sim-network", "password": "simulated"}).status == 202
    bare.board.expect("wifi: connected to sim-network", PATIENCE_S, since)
    assert client.get("/api/session").json["setup"] is False
    assert client.post("/api/wifi/forget").status == 202
    assert client.get("/api/wifi").json["ssid"] is None


def test_a_new_password_at_the_console_ends_all_sessions(bare: WebWorld) -> None:
    first = bare.board.expect(r"password of this board's page is ([a-z2-9-]+) ", PATIENCE_S)[1]
    client = bare.client(login=False)
    assert client.login(first).status == 200
    since = bare.type("web password")
    second = bare.board.expect(r"password of this board's page is ([a-z2-9-]+) ", PATIENCE_S, since)[1]
    assert client.get("/api/status").status == 401
    assert client.login(first).status == 401
    assert client.login(second).status == 200


def test_what_is_kept_is_salted_and_stretched_as_the_standard_says(bare: WebWorld) -> None:
    bare.board.expect("password of this board's page is ", PATIENCE_S)  # this may be the first test that this board sees
    password = re.findall(r"password of this board's page is ([a-z2-9-]+) ", bare.board.console())[-1]
    prefs = _prefs(bare)
    rounds, salt, found = prefs["web.password"]
    assert rounds >= 1000 and len(salt) == 32
    assert hashlib.pbkdf2_hmac("sha256", password.encode(), bytes.fromhex(salt), rounds).hex() == found
    assert password not in json.dumps(prefs)


def test_the_password_changes_and_the_other_sessions_end(web_world: WebWorld) -> None:
    web_world.start()
    here, there = web_world.client(), web_world.client()
    assert here.post("/api/password", {"old": "wrong-one", "new": "another-one"}).status == 403
    for new in ("short", "x" * 65, "ä" * 33, 12345678, None):
        assert here.post("/api/password", {"old": PASSWORD, "new": new}).status == 400
    answer = here.post("/api/password", {"old": PASSWORD, "new": "another-ä-one"})
    assert answer.status == 200
    here.csrf = answer.json["csrf"]
    assert here.get("/api/status").status == 200 and there.get("/api/status").status == 401
    assert there.login(PASSWORD).status == 401
    assert there.login("another-ä-one").status == 200
    # a restart that the board asked for keeps the sessions, and the cookie is not what is written
    since = web_world.now()
    assert here.post("/api/restart").status == 202
    web_world.board.expect("web: listening", PATIENCE_S, since)
    assert here.get("/api/session").json == {**here.get("/api/session").json, "authenticated": True, "csrf": here.csrf}
    assert here.cookie and here.cookie not in json.dumps(_prefs(web_world))
    # logging out ends one session only
    assert here.post("/api/logout").status == 204
    assert here.get("/api/status").status == 401 and there.get("/api/status").status == 200
    # a power cut ends all of them
    since = web_world.now()
    web_world.board.power_cycle()
    web_world.board.expect("web: listening", PATIENCE_S, since)
    assert there.get("/api/status").status == 401


def test_wrong_passwords_lock_the_address_out_and_who_is_logged_in_works_on(web_world: WebWorld) -> None:
    web_world.start()
    friend, stranger = web_world.client(), web_world.client(login=False, address="127.0.0.2")
    assert [stranger.login(f"guess-{n}").status for n in range(3)] == [401, 401, 401]
    answer = stranger.login()
    assert (answer.status, answer.json["error"]) == (429, "locked")  # even the right one
    assert 0 < int(answer.headers["retry-after"]) <= 5
    assert friend.get("/api/status").status == 200
    web_world.board.expect(r"W web: refused 127.0.0.2: .*\(401 bad_password\)", PATIENCE_S)
    deadline = time.monotonic() + PATIENCE_S
    while stranger.login().status == 429:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert stranger.get("/api/status").status == 200
    again = web_world.client(login=False)  # where somebody has logged in before
    assert [again.login(f"guess-{n}").status for n in range(3)] == [401, 401, 401]
    assert again.login().status == 200  # after a wait


_RULES = """
import json, sys
import modules.web.passwords as passwords
import modules.web.sessions as sessions
class Web:
    cfg = {"session_s": 100}
    sessions = bytearray(24 * 24)
    known = bytearray(32)
    failures = {}
    now = 0
    def seconds(self): return self.now
web = Web()
found = {}
cookies = [sessions.new(web) for _ in range(30)]
found["sessions"] = [sessions.session(web, cookie) is not None for cookie in cookies]
cookie = cookies[-1]
web.now = 99
found["used"] = sessions.session(web, cookie) is not None
web.now = 198
found["used again"] = sessions.session(web, cookie) is not None
found["others"] = [sessions.session(web, other) is not None for other in cookies[:-1]]
web.now = 299
found["unused"] = sessions.session(web, cookie) is not None
cookie = sessions.new(web)
start = web.now
while sessions.session(web, cookie): web.now += 90
found["longest"] = web.now - start
web.now = 0
waits = []
for _ in range(14):
    passwords.count(web, "a")
    waits.append(web.failures["a"][1] - web.now)
found["waits"] = waits
for n in range(40): passwords.count(web, "b%d" % n)
found["addresses"] = len(web.failures)
for _ in range(25): passwords.count(web, "all")
found["all"] = web.failures["all"][1]
web.now = 5000
passwords.count(web, "a")
found["forgiven"] = web.failures["a"][0]
print("FOUND", json.dumps(found))
"""


def test_sessions_and_guesses_are_bounded_in_number_and_in_time(tmp_path: Path) -> None:
    """The rules themselves, with a clock that the test sets; under the board's MicroPython."""
    with WebWorld(tmp_path) as world:
        world.board.heap = "1024k"
        world.flash(world.release("1.0.0"), {"main.py": _RULES.encode()})
        output = world.board.boot_once().output
    line = re.search("FOUND (.*)", output)
    assert line, output
    found = json.loads(line[1])
    assert sum(found["sessions"]) == 24 and found["sessions"][-1]
    assert found["used"] and found["used again"] and not any(found["others"]) and not found["unused"]
    assert 43_200 <= found["longest"] < 43_300
    assert found["waits"][:6] == [0, 0, 5, 10, 20, 40] and found["waits"][-1] == 900
    assert found["addresses"] <= 12 and found["all"] == 5 and found["forgiven"] == 1


def _prefs(world: WebWorld) -> dict[str, Any]:
    files = world.peek().files
    slots = [files[name].split(b"\n") for name in ("prefs.json", "prefs.json.1") if name in files]
    prefs: dict[str, Any] = json.loads(max(slots, key=lambda slot: int(slot[1].split()[0]))[0])
    return prefs


def test_a_client_is_not_silent_while_it_is_the_board_that_takes_its_time(tmp_path: Path) -> None:
    with WebWorld(tmp_path) as world:
        salt, rounds = bytes(16), 300_000
        kept = [rounds, salt.hex(), hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), salt, rounds).hex()]
        release = world.release("1.0.0", patched("modules/web/http.py", ("_IDLE_MS = const(8_000)", "_IDLE_MS = const(300)")))
        world.flash(release, {"prefs.json": json.dumps({"web.password": kept}).encode()})
        world.board.start()
        world.board.expect("web: listening on port", PATIENCE_S)
        assert world.client(login=False).login().status == 200
