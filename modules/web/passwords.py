"""The password: login, another one, the first one, and what wrong ones lead to. In memory only meanwhile.

A wrong password counts for its address and for all together. After the third one the address is refused: for 5 s, then
twice as long each time, up to 15 minutes. After the twentieth of all, strangers are heard one after the other, some seconds
apart: they wait for their turn, nobody is refused for what others did. An address that has logged in before (``web.known``,
eight of them) is no stranger: it only waits, 5 s at most, for wrong passwords of its own. A quarter of an hour without
another one, and all is forgotten. Who is logged in is not touched by that. An address tries one password at a time, and few
wait at once: each holds a connection.

The password is salted and stretched (PBKDF2-HMAC-SHA256) to about half a second on this board, a few milliseconds at a time. In
prefs.json ``web.password`` is ``[rounds, salt, hash]``. Without it the profile's counts, or the one that was made at the start.
That one is shown on the serial console: not in the log, which the page shows and MQTT may carry.
"""

import asyncio
import binascii
import hashlib
import os
import time

from iot_platform.log import SerialLog
from micropython import const

import modules.web.sessions as sessions

from . import password_ok
from .http import Refused

_PASSWORD = const("web.password")
_LETTERS = const("abcdefghjkmnpqrstuvwxyz23456789")  # of one that is made here

_FREE = const(3)  # wrong passwords
_FREE_FOR_ALL = const(20)
_ALL = const("all")
_ADDRESSES = const(12)  # that are remembered
_SLOWEST_S = const(5)  # from one stranger's wrong password to the next, and for a known address
_WAIT_MS = const(6_000)  # for its turn: less than the 8 s after which a silent connection ends
_LINE = const(4)  # logins that wait at once
_KNOWN = const(4)  # bytes of an address in web.known
_LOCKED_S = const(900)
_FORGIVE_S = const(900)  # after the end of the last wait

_TARGET_MS = const(500)
_FEWEST = const(1000)  # rounds
_MOST_ROUNDS = const(100_000)
_PROBE = const(64)
_SLICE_MS = const(8)
_BLOCK = const(64)  # bytes of SHA-256's


# -- requests


async def login(web, request):
    if not await _verify(web, request, request.json().get("password")):
        count(web, _ALL)
        raise Refused(401, "bad_password")
    SerialLog.log("web: login from", request.address)
    if not _known(web, request.address):
        web.known[_KNOWN:] = web.known[:-_KNOWN]
        web.known[:_KNOWN] = sessions.digest("from", request.address)[:_KNOWN]
    return _answer(web)


async def password(web, request):
    value = request.json()
    if not password_ok(value.get("new")):
        raise Refused(400, "bad_value", "8 characters to 64 bytes")
    if not await _verify(web, request, value.get("old"), value["new"]):
        raise Refused(403, "bad_password")
    SerialLog.log("web: password changed from", request.address)
    return _answer(web)


def _answer(web):
    cookie = sessions.new(web)
    return {"csrf": sessions.session(web, cookie)}, 200, sessions.COOKIE % (cookie, "")


# -- wrong passwords


async def _verify(web, request, given, new=None):
    """True when it is the password; then `new` becomes it. Refused when nothing may be tried now.

    One at a time: stretching takes all the time that the board has to spare.
    """
    if not isinstance(given, str):
        raise Refused(400, "bad_value", "password")
    known = _known(web, request.address)
    left = _left(web, request.address)
    if left > 0 and not known:
        raise Refused(429, "locked", "try again in %d s" % left, left)
    line = [other.address for other in web.server.requests if other.path == request.path and not other.started]
    if line.count(request.address) > 1 or len(line) > _LINE and not known:
        raise Refused(503, "busy", "another login", 5)
    request.timeout = None  # from here on it is the board that takes its time
    began = time.ticks_ms()  # by the clock: a pause is longer than it says while others stretch
    while web.stretching or _left(web, request.address if known else _ALL) > 0:
        if time.ticks_diff(time.ticks_ms(), began) > _WAIT_MS:
            raise Refused(503, "busy", "another login", 5)
        await asyncio.sleep_ms(50)
    web.stretching = True
    try:
        good = await _good(web, given.encode())
        if good and new:
            await store(web, new)
    finally:
        web.stretching = False
    request.progress()
    if good:
        web.failures.pop(request.address, None)
    else:
        count(web, request.address)
    return good


def count(web, address):
    """Note a wrong password."""
    failures, now = web.failures, web.seconds()
    if address not in failures and len(failures) >= _ADDRESSES:
        del failures[min([known for known in failures if known != _ALL], key=lambda known: failures[known][1])]
    number, end = failures.get(address, (0, 0))
    number = number + 1 if end + _FORGIVE_S > now else 1
    over = number - (_FREE_FOR_ALL if address == _ALL else _FREE)
    most = _SLOWEST_S if address == _ALL or _known(web, address) else _LOCKED_S
    wait = min(5 << min(over, 10), most) if over >= 0 else 0
    failures[address] = (number, now + wait)


def _left(web, address):
    """Seconds that it must wait for what it, or _ALL together, did before."""
    return web.failures.get(address, (0, 0))[1] - web.seconds()


def _known(web, address):
    row = sessions.digest("from", address)[:_KNOWN]
    return any(web.known[at : at + _KNOWN] == row for at in range(0, len(web.known), _KNOWN))


# -- the password


async def _good(web, given):
    known = web.platform.prefs.get(_PASSWORD)
    if known:
        found = await _stretch(given, binascii.unhexlify(known[1]), known[0])
        wanted = binascii.unhexlify(known[2])
    else:
        found = hashlib.sha256(given).digest()
        wanted = hashlib.sha256(web.cfg["password"].encode()).digest() if "password" in web.cfg else b""
    different = len(found) ^ len(wanted)
    for x, y in zip(found, wanted):  # in a time that does not tell where they differ
        different |= x ^ y
    return different == 0


async def store(web, password):
    """Make it the password: all sessions end. First is measured how many rounds take about half a second here."""
    began = time.ticks_us()
    await _stretch(b"password", b"salt", _PROBE)
    took = max(time.ticks_diff(time.ticks_us(), began), 1)
    rounds = max(_FEWEST, min(_MOST_ROUNDS, _PROBE * _TARGET_MS * 1000 // took))
    salt = os.urandom(16)
    found = await _stretch(password.encode(), salt, rounds)
    prefs = web.platform.prefs
    prefs.set(_PASSWORD, [rounds, binascii.hexlify(salt).decode(), binascii.hexlify(found).decode()])
    prefs.save()
    web.sessions[:] = bytes(len(web.sessions))


async def _stretch(password, salt, rounds):
    """PBKDF2-HMAC-SHA256, 32 bytes. Other tasks run between slices of a few milliseconds."""
    sha256 = hashlib.sha256
    if len(password) > _BLOCK:
        password = sha256(password).digest()
    password += bytes(_BLOCK - len(password))
    inner, outer = bytes(byte ^ 0x36 for byte in password), bytes(byte ^ 0x5C for byte in password)
    block = sha256(outer + sha256(inner + salt + b"\0\0\0\1").digest()).digest()
    total = int.from_bytes(block, "big")
    began = time.ticks_ms()
    for _ in range(rounds - 1):
        h = sha256(inner)
        h.update(block)
        block = h.digest()
        h = sha256(outer)
        h.update(block)
        block = h.digest()
        total ^= int.from_bytes(block, "big")
        if time.ticks_diff(time.ticks_ms(), began) >= _SLICE_MS:
            await asyncio.sleep_ms(0)
            began = time.ticks_ms()
    return total.to_bytes(32, "big")


def renew(web):
    """Make a password, as a task of its own, and show it to whoever holds the board's cable."""
    if not web.stretching:
        web.stretching = True
        asyncio.create_task(_make(web))


async def _make(web):
    letters = "".join([_LETTERS[byte % len(_LETTERS)] for byte in os.urandom(12)])
    made = letters[:4] + "-" + letters[4:8] + "-" + letters[8:]
    try:
        await store(web, made)
        print("web: the password of this board's page is", made, "(change it there)")
    finally:
        web.stretching = False
        web.forget()
