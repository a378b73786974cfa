"""Looking up a name on the board's interpreter, with a real name server: bounded, without waiting, remembered."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from typing import Any

import pytest
from iot_platform.names import question

from sim.board import Board
from tests.support.driver import new_board, run
from tests.support.name_server import NameServer, address, reply, silence

_LOOKUP = """
import gc
from iot_platform import sockets
sockets.name_server = lambda: "127.0.0.1"
found = []
for host in VALUES["hosts"]:
    began = time.ticks_ms()
    try:
        port = finish(sockets.lookup(host, 80, OtaError))
        said = [".".join(str(b) for b in bytes(a[-1])[4:8]) for a in port]
    except OtaError as error:
        said = [error.reason, error.message]
    found.append([said, longest, time.ticks_diff(time.ticks_ms(), began)])
import sys
gc.collect()
return [found, sorted(name for name in sys.modules if name == "iot_platform.names")]
"""


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return new_board(tmp_path_factory.mktemp("names") / "board.img")


def look_up(board: Board, server: NameServer, *hosts: str) -> list[Any]:
    """For each host what was found, or reason and message; the longest step (ms of CPU), and how long it took (ms)."""
    with server:
        board.env["SIMULATOR_DNS"] = str(server.port)
        found, left = run(board, _LOOKUP, hosts=list(hosts))
    assert left == [], "the code is in memory while it is used, and no longer"
    return [*found]


def test_a_name_is_asked_for_once_while_its_address_holds(board: Board) -> None:
    server = NameServer({"update.example": "192.0.2.1", "nas.local": "192.0.2.5", "nas": "192.0.2.6"})
    found = look_up(board, server, "update.example", "nas.local", "update.example", "10.1.2.3", "nas")
    assert [said for said, _step, _took in found] == [["192.0.2.1"], ["192.0.2.5"], ["192.0.2.1"], ["10.1.2.3"], ["192.0.2.6"]]
    assert server.questions == ["update.example", "nas.local", "nas"]
    assert max(step for _said, step, _took in found) < 50


def test_what_does_not_exist_is_said_at_once(board: Board) -> None:
    server = NameServer({})
    [(said, _step, _took)] = look_up(board, server, "nowhere.example")
    assert said == ["dns", "the name nowhere.example cannot be looked up: it does not exist"]
    assert server.questions == ["nowhere.example"]


def test_a_silent_server_is_asked_again_and_given_up_without_waiting(board: Board) -> None:
    server = NameServer({}, silence)
    [(said, step, took)] = look_up(board, server, "update.example")
    assert said == ["dns", "the name update.example cannot be looked up: nobody answers"]
    assert took >= 5000
    assert step < 50
    assert 3 <= len(server.questions) <= 5


def test_the_right_answer_counts_among_wrong_ones(board: Board) -> None:
    """The first question is lost; then come garbage, another number and another name before the right one: a thousand records."""
    asked: list[bytes] = []

    def trick(text: bytes) -> Iterable[bytes]:
        asked.append(text)
        if len(asked) == 1:
            return
        yield b"\xff" * 400
        yield reply(b"\0\0" + text[2:], address("192.0.2.66"))
        yield reply(question("evil.example", text[:2]), address("192.0.2.66"))
        yield reply(text, *[address("192.0.2.1")] * 1000, count=1000)[:512]

    found = look_up(board, NameServer({}, trick), "update.example")
    assert found[0][0] == ["192.0.2.1"] * 3
    assert found[0][1] < 50


def test_nobody_elses_answer_counts(board: Board) -> None:
    server = NameServer({})

    def trick(text: bytes) -> Iterable[bytes]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            assert server.last is not None
            stranger.sendto(reply(text, address("192.0.2.66")), server.last)
        time.sleep(0.1)
        return [reply(text, address("192.0.2.1"))]

    server.trick = trick
    assert look_up(board, server, "update.example")[0][0] == ["192.0.2.1"]
