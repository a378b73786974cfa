"""What platform/iot_platform/names.py asks, and which datagrams it takes for an answer."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from iot_platform.names import answer, question

from tests.support.name_server import CNAME, A, address, record, reply, wire

HOST = "update.example.com"
TEXT = question(HOST, b"\x12\x34")
GOOD = reply(TEXT, address("192.0.2.1", ttl=60))

_labels = st.from_regex(r"[a-z0-9_-]{1,20}", fullmatch=True)
_hosts = st.lists(_labels, min_size=1, max_size=6).map(".".join)


def test_a_question_is_what_rfc_1035_says() -> None:
    assert b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + wire(HOST) + b"\x00\x01\x00\x01" == TEXT


@pytest.mark.parametrize("host", ["", ".", "a..b", "a.", "x" * 64, ".".join(["x" * 60] * 5)])
def test_what_is_no_name_is_not_asked(host: str) -> None:
    with pytest.raises(ValueError, match="no proper name"):
        question(host, b"\0\0")


@given(_hosts, st.lists(st.ip_addresses(v=4).map(str), min_size=1, max_size=20), st.integers(0, 2**32 - 1))
def test_addresses_come_back(host: str, addresses: list[str], ttl: int) -> None:
    text = question(host, b"ab")
    found = answer(reply(text, *(address(a, ttl=ttl) for a in addresses)), text)
    assert found == (0, addresses[:3], min(ttl, 600))


def test_an_alias_is_followed_and_the_shortest_time_counts() -> None:
    alias = record(b"\xc0\x0c", CNAME, wire("a.cdn.example"), 30)
    far = record(wire("A.cdn.Example"), CNAME, wire("b.cdn.example"), 20)
    packet = reply(TEXT, alias, far, address("192.0.2.7", wire("b.CDN.example"), 500))
    assert answer(packet, TEXT) == (0, ["192.0.2.7"], 20)
    at = len(TEXT) + 12  # where the alias's own name lies
    packet = reply(TEXT, alias, address("192.0.2.8", bytes((0xC0, at)), 900))
    assert answer(packet, TEXT) == (0, ["192.0.2.8"], 30)


def test_other_records_are_passed_over() -> None:
    others = record(b"\xc0\x0c", 28, bytes(16)), record(b"\xc0\x0c", 16, b"\4text"), record(b"\0", 41, b"")
    assert answer(reply(TEXT, *others, address("192.0.2.1")), TEXT) == (0, ["192.0.2.1"], 300)


WRONG = {
    "nothing": b"",
    "another number": b"\0\0" + GOOD[2:],
    "a question": TEXT,
    "another kind of message": GOOD[:2] + bytes((GOOD[2] | 0x28,)) + GOOD[3:],
    "another name": reply(question("other.example.com", TEXT[:2]), address("192.0.2.66")),
    "a longer name": reply(question(HOST + ".evil", TEXT[:2]), address("192.0.2.66")),
    "no question": GOOD[:2] + struct.pack(">HHHHH", 0x8180, 0, 1, 0, 0) + address("192.0.2.66", wire(HOST)),
    "two questions": GOOD[:4] + b"\0\2" + GOOD[6:],
    "cut in the question": GOOD[: len(TEXT) - 3],
    "cut in the record": GOOD[:-14],
    "a name that goes in circles": reply(TEXT, record(bytes((0xC0, len(TEXT))), A, bytes(4))),
    "a name that leads on": reply(TEXT, record(b"\xc0\xf0", A, bytes(4)) + bytes(300)),
    "a name without an end": reply(TEXT, (b"\x3f" + b"x" * 63) * 20),
    "a kind of name that nobody knows": reply(TEXT, b"\x80" + address("192.0.2.66")),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_answer_is_passed_over(what: str) -> None:
    assert answer(WRONG[what], TEXT) is None


NO_ADDRESS = {
    "it does not exist": (reply(TEXT, code=3), 3),
    "the server fails": (reply(TEXT, code=2), 2),
    "no record": (reply(TEXT), 0),
    "an address of another name": (reply(TEXT, address("192.0.2.66", wire("evil.example"))), 0),
    "an alias without an address": (reply(TEXT, record(b"\xc0\x0c", CNAME, wire("x.example"))), 0),
    "an address of three bytes": (reply(TEXT, record(b"\xc0\x0c", A, b"abc")), 0),
    "an address behind the counted ones": (reply(TEXT, address("192.0.2.66"), count=0), 0),
}


@pytest.mark.parametrize("what", NO_ADDRESS)
def test_an_answer_without_an_address_says_why(what: str) -> None:
    packet, code = NO_ADDRESS[what]
    found = answer(packet, TEXT)
    assert found is not None
    assert found[:2] == (code, [])


def test_a_thousand_records_cost_no_more_than_a_few() -> None:
    for n in 1000, 65_535:
        packet = reply(TEXT, *[address(f"10.0.{i >> 8}.{i & 255}") for i in range(1000)], count=n)[:512]
        assert answer(packet, TEXT) == (0, ["10.0.0.0", "10.0.0.1", "10.0.0.2"], 300)
    others = [record(b"\xc0\x0c", 16, b"")] * 1000
    assert answer(reply(TEXT, *others, address("192.0.2.66")), TEXT) == (0, [], 300)  # the 25th and later are not read


@given(st.binary(max_size=600))
@example(GOOD[12:])
def test_garbage_is_no_answer(data: bytes) -> None:
    assert answer(data, TEXT) is None


@given(st.integers(len(TEXT) - 4, len(GOOD) + 40), st.binary(min_size=1, max_size=60))
def test_a_damaged_answer_never_raises(at: int, data: bytes) -> None:
    packet = reply(TEXT, record(b"\xc0\x0c", CNAME, wire("x.example")), address("192.0.2.1", wire("x.example")))
    found = answer(packet[:at] + data + packet[at + len(data) :], TEXT)
    assert found is None or (len(found[1]) <= 3 and 0 <= found[2] <= 600)
