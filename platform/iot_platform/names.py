"""What a name means, without waiting: one UDP question of our own. Imported for it, and forgotten afterwards: see module.borrow.

The firmware's getaddrinfo waits within itself, for 7 s on rp2 while a name server is silent, and a watchdog bites after 8. The
question goes to the network's name server (RFC 1035), or to everybody for a name that ends in ``.local`` (multicast DNS asked
as RFC 6762, section 5.1, allows it). It is repeated, for UDP loses things. An answer counts if

1. the server that was asked has sent it, with the number of the question and the question itself;
2. it is whole as far as it is read: at most 512 bytes, 24 records, names of 255 bytes whose pointers lead backwards;
3. its addresses (IPv4) belong to the name, or to what the name is an alias of.

What does not count is passed over: the right answer may still come until the time is up. An answer is remembered for as long as
it says, but from ten seconds to ten minutes.
"""

import os
import socket

from micropython import const

from . import sockets
from .sockets import SOON, ticks_diff, ticks_ms

_TIME_MS = const(5_000)
_AGAIN_MS = const(1_200)  # from one question to the next
_DATAGRAM = const(512)
_MAX_RECORDS = const(24)
_MAX_ADDRESSES = const(3)
_MAX_NAME = const(255)
_NO_NAME = const(3)  # the server's code for a name that does not exist
_LEAST_S = const(10)
_MOST_S = const(600)
_REMEMBERED = const(4)  # names
_EVERYBODY = "224.0.0.251"


def find(host, server, error):
    """The name's addresses, as text: what is remembered, or else what the name server says. Generator.

    :param error: raised as ``error("dns", message)``.
    """
    known = sockets.names.get(host)
    if known and 0 <= ticks_diff(ticks_ms(), known[1]) < known[2]:
        return known[0]
    addresses, seconds = yield from _ask(host, server, error)
    if len(sockets.names) >= _REMEMBERED:
        sockets.names.clear()
    sockets.names[host] = addresses, ticks_ms(), max(_LEAST_S, seconds) * 1000
    return addresses


def _ask(host, server, error):
    """``(addresses, seconds)``: what the name means, and for how long. Generator."""
    where, port = (_EVERYBODY, 5353) if host.endswith(".local") else (server, 53)
    sock = None
    try:
        text = question(host, os.urandom(2))
        family, *_, where = socket.getaddrinfo(where, port)[0]
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        code, addresses, seconds = yield from _answer(sock, text, where, port == 53)
    except (OSError, ValueError) as failure:
        raise error("dns", "the name %s cannot be looked up: %s" % (host, failure))
    finally:
        if sock:
            sock.close()
    if not addresses:
        why = "the name server answers with error %d" % code if code else "it has no address"
        raise error("dns", "the name %s cannot be looked up: %s" % (host, "it does not exist" if code == _NO_NAME else why))
    return addresses, seconds


def _answer(sock, text, where, only_there):
    """Ask until there is an answer; see answer(). Generator; OSError when the time is up."""
    began = ticks_ms()
    asked = 0
    while True:
        elapsed = ticks_diff(ticks_ms(), began)
        if elapsed > _TIME_MS:
            raise OSError("nobody answers")
        if elapsed >= asked * _AGAIN_MS:
            asked += 1
            sock.sendto(text, where)
        data, who = sockets.arrived(sock.recvfrom, _DATAGRAM) or (b"", None)
        found = answer(data, text) if who == where or not only_there else None
        if found:
            return found
        yield SOON


def question(host, number):
    """The question for a host's addresses: bytes. ValueError when that can be no name.

    :param number: two bytes, which an answer must repeat.
    """
    text = number + b"\1\0\0\1\0\0\0\0\0\0"  # a plain question that the server may pass on
    for part in host.lower().split("."):
        part = part.encode()
        if not 0 < len(part) < 64:
            raise ValueError("it is no proper name")
        text += bytes((len(part),)) + part
    if len(text) > 12 + _MAX_NAME - 1:
        raise ValueError("it is no proper name")
    return text + b"\0\0\1\0\1"


def answer(data, text):
    """What a datagram says to the question `text`: ``(code, addresses, seconds)``. None when it is no answer to it.

    :return: the server's code, 0 for success; IPv4 addresses as text; for how many seconds they may be remembered.
    """
    size = len(text)
    if data[:2] != text[:2] or len(data) < size or data[2] & 0xF8 != 0x80:
        return None
    if data[4:6] != b"\0\1" or data[12:size].lower() != text[12:]:  # no byte of a length looks like a capital letter
        return None
    names, addresses, seconds, at = [text[12:-5]], [], _MOST_S, size
    try:
        for _ in range(min(_number(data, 6, 2), _MAX_RECORDS)):
            name, at = _name(data, at)
            kind, end = _number(data, at, 2), at + 10 + _number(data, at + 8, 2)
            if end > len(data):
                break
            if name in names and _number(data, at + 2, 2) & 0x7FFF == 1:  # the highest bit is multicast DNS's
                if kind == 1 and end - at == 14:
                    addresses.append("%d.%d.%d.%d" % tuple(data[at + 10 : end]))
                elif kind == 5:
                    names.append(_name(data, at + 10)[0])
                seconds = min(seconds, _number(data, at + 4, 4))
            at = end
    except IndexError:  # cut short, or damaged: what came before it is good
        if not addresses:
            return None
    return data[3] & 15, addresses[:_MAX_ADDRESSES], seconds


def _number(data, at, size):
    if at + size > len(data):
        raise IndexError
    return int.from_bytes(data[at : at + size], "big")


def _name(data, at):
    """The name at `at`, in lower case and without its end, and where what follows it begins. IndexError if it is none."""
    name, end, least = b"", 0, at
    while data[at]:
        size = data[at]
        if size >= 0xC0:
            end = end or at + 2
            at = (size & 0x3F) << 8 | data[at + 1]
            if at >= least:  # so it comes to an end
                raise IndexError
            least = at
        else:
            name += data[at : at + 1 + size]
            at += 1 + size
            if size > 63 or len(name) > _MAX_NAME:
                raise IndexError
    return name.lower(), end or at + 1
