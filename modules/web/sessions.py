"""Who may do what: sessions, login and logout, and the password.

A session is known by the digest of its cookie, so neither a copy of the memory nor prefs.json gives one away. Its CSRF token is
another digest of the cookie. There are at most a few, each until it was idle for too long, or for half a day in any case: rows of
one table, ``web.logins``, made at the start (as objects of their own they lay all over the heap). A restart that the board asked
for itself hands them over: an update does not log anybody out.

A wrong password counts for its address and for all together. After the third one the address waits: 5 s, then twice as long each
time, up to 15 minutes; after the twentieth of all everybody waits, up to a minute. A quarter of an hour without another one, and
it is forgotten. Who is logged in is not touched by that.

The password is salted and stretched (PBKDF2-HMAC-SHA256) to about half a second on this board, a few milliseconds at a time. In
prefs.json ``web.password`` is ``[rounds, salt, hash]``. Without it the profile's counts, or the first one is made here and shown
on the serial console: not in the log, which the page shows and MQTT may carry.
"""

import asyncio
import binascii
import hashlib
import os
import struct
import time

from iot_platform.log import SerialLog
from micropython import const

from . import MAX_PASSWORD, password_ok
from .http import Refused

_MOST = const(24)  # as many rows as web.logins has
_SIZE = const(24)  # bytes of a row: 16 of the digest, and when it ends, idle or in any case, in seconds of the module's clock
_ROW = const("<16sII")
_PLACES = range(0, _MOST * _SIZE, _SIZE)  # where they begin
_IDLE = const(3_600)
_LONGEST = const(43_200)
_SESSIONS = const("web.sessions")
_PASSWORD = const("web.password")
_COOKIE = const("Set-Cookie: sid=%s; Path=/; HttpOnly; SameSite=Strict%s\r\n")

_FREE = const(3)  # wrong passwords
_FREE_FOR_ALL = const(20)
_ALL = const("all")
_ADDRESSES = const(12)  # that are remembered
_WAIT_MS = const(3_000)  # less than the 8 s after which a silent connection ends
_FORGIVE_S = const(900)  # after the end of the last wait

_TARGET_MS = const(500)
_FEWEST = const(1000)  # rounds
_MOST_ROUNDS = const(100_000)
_PROBE = const(64)
_SLICE_MS = const(8)
_LETTERS = const("abcdefghjkmnpqrstuvwxyz23456789")


def set_up(web):
    """At the start: the sessions of before the restart, and a password if there is none."""
    _take_over(web)
    if "password" not in web.cfg and not web.platform.prefs.get(_PASSWORD):
        make_password(web)


# -- requests


async def who(web, request):
    wifi = web.platform.module("wifi")
    return {
        "authenticated": bool(request.token),
        "csrf": request.token,
        "name": web.platform.profile.get("shortName", ""),
        "id": web.platform.board.unique_id(),
        "setup": wifi is not None and not wifi.status()["ssid"],
    }


async def login(web, request):
    password = request.json().get("password")
    if not isinstance(password, str) or len(password.encode()) > MAX_PASSWORD:
        raise Refused(400, "bad_value", "the password is missing or too long")
    await _turn(web)
    try:
        _check_lock(web, request.address)
        good = await _verify(web, password)
    finally:
        web.stretching = False
    if not good:
        count(web, request.address)
        count(web, _ALL)
        raise Refused(401, "bad_password", "that is not the password")
    web.guesses.pop(request.address, None)
    SerialLog.log("web: login from", request.address)
    return _logged_in(web)


async def logout(web, request):
    at = _find(web, cookie_of(request))
    if at is not None:
        web.logins[at : at + _SIZE] = bytes(_SIZE)
    return None, 204, _COOKIE % ("", "; Max-Age=0")


async def change(web, request):
    value = request.json()
    old, wanted = value.get("old"), value.get("new")
    if not isinstance(old, str) or not password_ok(wanted):
        raise Refused(400, "bad_value", "a password has at least 8 characters and at most 64 bytes")
    await _turn(web)
    try:
        _check_lock(web, request.address)
        if not await _verify(web, old):
            count(web, request.address)
            raise Refused(403, "bad_password", "the old password is wrong")
        await _store(web, wanted)
    finally:
        web.stretching = False
    SerialLog.log("web: the password was changed from", request.address)
    return _logged_in(web)


def _logged_in(web):
    cookie = new(web)
    return {"csrf": session(web, cookie)}, 200, _COOKIE % (cookie, "")


# -- sessions


def new(web):
    """A new cookie. When there are too many sessions, the one that was not used for the longest time ends."""
    cookie, now = binascii.hexlify(os.urandom(16)).decode(), web.seconds()
    oldest = min(_PLACES, key=lambda at: _until(web.logins, at))
    struct.pack_into(_ROW, web.logins, oldest, _digest("sid", cookie), now + _idle(web), now + _LONGEST)
    return cookie


def session(web, cookie):
    """The CSRF token of a session that has not ended, which counts as a use of it; None for any other cookie."""
    at, now = _find(web, cookie), web.seconds()
    if at is None or _until(web.logins, at) <= now:
        return None
    struct.pack_into("<I", web.logins, at + 16, now + _idle(web))
    return binascii.hexlify(_digest("csrf", cookie)).decode()


def hand_over(web):
    """Before a restart: keep the sessions for the next boot, with the seconds that each has left."""
    now, prefs = web.seconds(), web.platform.prefs
    rows = b""
    for at in _PLACES:
        if _until(web.logins, at) > now:
            digest, idle, last = struct.unpack_from(_ROW, web.logins, at)
            rows += struct.pack(_ROW, digest, idle - now, last - now)
    if rows:
        prefs.set(_SESSIONS, binascii.b2a_base64(rows).decode().strip())
        prefs.save()


def _take_over(web):
    """After a restart; what was handed over counts once."""
    prefs = web.platform.prefs
    text = prefs.get(_SESSIONS)
    if text is None:
        return
    prefs.remove(_SESSIONS)
    prefs.save()
    try:
        rows = binascii.a2b_base64(text)[: _MOST * _SIZE]
    except (TypeError, ValueError):  # edited by hand
        return
    for at in range(0, len(rows) - len(rows) % _SIZE, _SIZE):
        digest, idle, last = struct.unpack_from(_ROW, rows, at)
        struct.pack_into(_ROW, web.logins, at, digest, min(idle, _idle(web)), min(last, _LONGEST))


def cookie_of(request):
    for part in request.fields.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == "sid":
            return value
    return ""


def _find(web, cookie):
    """Where the row of a cookie begins, or None."""
    digest = _digest("sid", cookie) if cookie else None
    for at in _PLACES if digest else ():
        if web.logins[at : at + 16] == digest:
            return at
    return None


def _until(logins, at):
    """When a session ends; 0 for an empty row."""
    return min(struct.unpack_from("<II", logins, at + 16))


def _idle(web):
    return web.cfg.get("session_s", _IDLE)


def _digest(use, cookie):
    return hashlib.sha256((use + cookie).encode()).digest()[:16]


# -- wrong passwords


async def _turn(web):
    """One password at a time: stretching takes all the time that the board has to spare."""
    began = time.ticks_ms()  # by the clock: a pause is longer than it says while others stretch
    while web.stretching:
        if time.ticks_diff(time.ticks_ms(), began) > _WAIT_MS:
            raise Refused(503, "busy", "another login is being checked", 5)
        await asyncio.sleep_ms(50)
    web.stretching = True


def _check_lock(web, address):
    for each in address, _ALL:
        left = web.guesses.get(each, (0, 0))[1] - web.seconds()
        if left > 0:
            raise Refused(429, "locked", "too many wrong passwords: try again in %d s" % left, left)


def count(web, address):
    """Note a wrong password."""
    guesses, now = web.guesses, web.seconds()
    if address not in guesses and len(guesses) >= _ADDRESSES:
        del guesses[min([known for known in guesses if known != _ALL], key=lambda known: guesses[known][1])]
    number, until = guesses.get(address, (0, 0))
    number = number + 1 if until + _FORGIVE_S > now else 1
    over = number - (_FREE_FOR_ALL if address == _ALL else _FREE)
    wait = min(5 << min(over, 10), 60 if address == _ALL else 900) if over >= 0 else 0
    guesses[address] = (number, now + wait)


# -- the password


def make_password(web):
    """Make a password, as a task of its own, and show it to whoever holds the board's cable."""
    if not web.stretching:
        web.stretching = True
        asyncio.create_task(_make(web))


async def _make(web):
    letters = "".join([_LETTERS[byte % len(_LETTERS)] for byte in os.urandom(12)])
    password = letters[:4] + "-" + letters[4:8] + "-" + letters[8:]
    try:
        await _store(web, password)
        print("web: the password of this board's page is", password, "(change it there)")
    finally:
        web.stretching = False
        web.forget()


async def _verify(web, candidate):
    """True when it is the password."""
    stored = web.platform.prefs.get(_PASSWORD)
    if stored:
        rounds, salt, wanted = stored
        found = await _stretch(candidate.encode(), binascii.unhexlify(salt), rounds)
        return _same(found, binascii.unhexlify(wanted))
    wanted = web.cfg.get("password")
    return bool(wanted) and _same(hashlib.sha256(candidate.encode()).digest(), hashlib.sha256(wanted.encode()).digest())


async def _store(web, password):
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
    web.logins[:] = bytes(len(web.logins))


async def _stretch(password, salt, rounds):
    """PBKDF2-HMAC-SHA256 of at most 64 bytes, 32 bytes. Other tasks run between slices of a few milliseconds."""
    sha256 = hashlib.sha256
    password += bytes(64 - len(password))
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


def _same(a, b):
    """Compare in a time that does not tell where they differ."""
    different = len(a) ^ len(b)
    for x, y in zip(a, b):
        different |= x ^ y
    return different == 0
