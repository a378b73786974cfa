"""Who may do what: session, login, logout, and another password.

A wrong password counts for its address and for all together. After the third one the address waits: 5 s, then twice as long each
time, up to 15 minutes; after the twentieth of all everybody waits, up to a minute. A quarter of an hour without another one, and
it is forgotten. Who is logged in is not touched by that.
"""

import asyncio
import time

from .app import body
from .config import MAX_PASSWORD, password_ok
from .refused import Refused
from .sessions import csrf, end, new

_FREE = 3
_FREE_FOR_ALL = 20
_ALL = "all"
_COOKIE = "sid=%s; Path=/; HttpOnly; SameSite=Strict"
_MOST = 12  # addresses that are remembered
_WAIT_MS = 3_000  # less than the 8 s after which a silent connection ends
_FORGIVE_S = 900  # after the end of the last wait


async def session(server, request):
    web = server.web
    wifi = web.platform.module("wifi")
    return {
        "authenticated": bool(request.g.csrf),
        "csrf": request.g.csrf,
        "name": web.platform.profile.get("shortName", ""),
        "id": web.platform.board.unique_id(),
        "setup": wifi is not None and not wifi.status()["ssid"],
    }


async def login(server, request):
    web, address = server.web, request.client_addr
    password = body(request).get("password")
    if not isinstance(password, str) or len(password.encode()) > MAX_PASSWORD:
        raise Refused(400, "bad_value", "the password is missing or too long")
    await _turn(web)
    try:
        _check_lock(web, address)
        good = await server.part("password").verify(web, password)
    finally:
        web.stretching = False
    if not good:
        _count(web, address)
        _count(web, _ALL)
        raise Refused(401, "bad_password", "that is not the password")
    web.guesses.pop(address, None)
    web.platform.log("web: login from", address)
    return _logged_in(web)


async def logout(server, request):
    end(server.web, request.cookies.get("sid", ""))
    return b"", 204, {"Set-Cookie": _COOKIE % "" + "; Max-Age=0"}


async def change(server, request):
    web, value = server.web, body(request)
    old, wanted = value.get("old"), value.get("new")
    if not isinstance(old, str) or not password_ok(wanted):
        raise Refused(400, "bad_value", "a password has at least 8 characters and at most 64 bytes")
    await _turn(web)
    try:
        _check_lock(web, request.client_addr)
        if not await server.part("password").verify(web, old):
            _count(web, request.client_addr)
            raise Refused(403, "bad_password", "the old password is wrong")
        await server.part("password").store(web, wanted)
    finally:
        web.stretching = False
    web.platform.log("web: the password was changed from", request.client_addr)
    return _logged_in(web)


def _logged_in(web):
    cookie = new(web)
    return {"csrf": csrf(web, cookie)}, 200, {"Set-Cookie": _COOKIE % cookie}


async def _turn(web):
    """One password at a time: stretching takes all the time that the board has to spare."""
    began = time.ticks_ms()  # by the clock: a pause is longer than it says while others stretch
    while web.stretching:
        if time.ticks_diff(time.ticks_ms(), began) > _WAIT_MS:
            raise Refused(503, "busy", "another login is being checked", 5)
        await asyncio.sleep_ms(50)
    web.stretching = True


def _check_lock(web, address):
    for who in address, _ALL:
        left = web.guesses.get(who, (0, 0))[1] - web.seconds()
        if left > 0:
            raise Refused(429, "locked", "too many wrong passwords: try again in %d s" % left, left)


def _count(web, who):
    guesses, now = web.guesses, web.seconds()
    if who not in guesses and len(guesses) >= _MOST:
        del guesses[min([known for known in guesses if known != _ALL], key=lambda known: guesses[known][1])]
    count, until = guesses.get(who, (0, 0))
    count = count + 1 if until + _FORGIVE_S > now else 1
    over = count - (_FREE_FOR_ALL if who == _ALL else _FREE)
    wait = min(5 << min(over, 10), 60 if who == _ALL else 900) if over >= 0 else 0
    guesses[who] = (count, now + wait)


HANDLERS = {
    "GET /api/session": session,
    "POST /api/login": login,
    "POST /api/logout": logout,
    "POST /api/password": change,
}
