"""The time, by one SNTP question (RFC 4330). Imported for it, and forgotten afterwards: see module.borrow.

An answer counts only if it repeats the random number of the question: whoever cannot see the question cannot set the clock. It
must come from a server that is in step with others, and say a time that can be.
"""

import os
import socket
import time

import machine
from micropython import const

from . import sockets

_ANSWER_MS = const(5_000)
_DAY_MS = const(86_400_000)
_RETRY_MS = const(15_000)  # twice as long after each further failure
_LONGEST_MS = const(3_840_000)
_1970 = const(2_208_988_800)  # seconds since 1900, from which NTP counts
_2000 = const(3_155_673_600)
_ERA = const(1 << 32)  # after which NTP's seconds begin again, in 2036
_PLAUSIBLE = const(1_700_000_000)  # since 1970: this was written after it, and no board lives for 2**30 s more


def keep(platform, pause):
    """Set the board's clock, and say so, unless nobody is to be asked. Generator; returns the milliseconds until the next time.

    :param pause: what the last time returned; 0 at first.
    """
    server = platform.prefs.text("ntp") or platform.profile.get("ntp", "pool.ntp.org")
    if not server:
        return _DAY_MS
    try:
        failed = yield from _set(server, platform.board.earliest)
    except ValueError as error:  # a port that is no number
        failed = "the time cannot be asked for: %s" % error
    if not failed:
        platform.log("wifi: the clock is set: %d-%02d-%02d %02d:%02d UTC" % time.gmtime()[:5])
        return _DAY_MS
    pause = _RETRY_MS if pause >= _DAY_MS or not pause else min(2 * pause, _LONGEST_MS)
    platform.log("wifi: %s; asking again in %d s" % (failed, pause // 1000))
    return pause


def _set(server, earliest):
    """Set the board's clock. Generator; returns None, or in one sentence why it could not be set.

    :param server: a host, or ``host:port``.
    :param earliest: a time before that, in seconds since 1970, is refused.
    """
    host, _colon, port = server.partition(":")
    sock = None
    try:
        address = (yield from sockets.lookup(host, int(port or 123), _unknown))[0]
        sock = socket.socket(address[0], socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.connect(address[-1])
        question = b"\x23" + bytes(39) + os.urandom(8)  # version 4, from a client; the last 8 bytes come back
        sock.send(question)
        answer = yield from _answer(sock)
    except OSError as error:
        return "the time server %s cannot be asked: %s" % (server, error)
    finally:
        if sock:
            sock.close()
    if answer is None:
        sockets.names.pop(host, None)  # a pool has others
        return "the time server %s does not answer" % server
    good = len(answer) >= 48 and answer[0] & 7 == 4 and answer[0] >> 6 != 3
    good = good and 0 < answer[1] < 16 and answer[24:32] == question[40:]
    seconds = int.from_bytes(answer[40:44], "big") if good else 0
    if not seconds >> 31:
        seconds += _ERA
    if not good or not 0 < seconds - _1970 - _PLAUSIBLE < 1 << 30 or seconds - _1970 < earliest:
        return "the answer of the time server %s makes no sense" % server
    now = time.gmtime(seconds - (_2000 if time.gmtime(0)[0] == 2000 else _1970))
    machine.RTC().datetime((now[0], now[1], now[2], now[6], now[3], now[4], now[5], 0))
    return None


def _answer(sock):
    """What comes in time, or None. Generator."""
    began = time.ticks_ms()
    while time.ticks_diff(time.ticks_ms(), began) < _ANSWER_MS:
        answer = sockets.arrived(sock.recv, 64)
        if answer is not None:
            return answer
        yield
    return None


def _unknown(_reason, message):
    """The error of a look-up."""
    return OSError(message)
