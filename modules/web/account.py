"""Who may do what: session, login, logout, and another password.

A wrong password counts for its address and for all together. From the fourth on the address waits: 5 s, then twice as long each time,
up to 15 minutes; from the twentieth of all on, everybody waits, up to a minute. A quarter of an hour without another one, and it is
forgotten. Who is logged in is not touched by that.
"""

import asyncio

from .app import body
from .config import MAX_PASSWORD, password_ok
from .refused import Refused

_FREE = 3
_FREE_FOR_ALL = 20
_ALL = "all"
_MOST = 12  # addresses that are remembered
_WAIT_S = 8
_FORGIVE_S = 900  # after the end of the last wait


async def session(web, request):
    wifi = web.platform.module("wifi")
    return {
        "authenticated": bool(request.g.csrf),
        "csrf": request.g.csrf,
        "name": web.platform.profile.get("shortName", ""),
        "id": web.platform.board.unique_id(),
        "setup": wifi is not None and not wifi.status()["ssid"],
    }


async def login(web, request):
    password = body(request).get("password")
    if not isinstance(password, str) or len(password.encode()) > MAX_PASSWORD:
        raise Refused(400, "bad_json", "the password is missing or too long")
    address = request.client_addr
    await _turn(web)
    web.stretching = True
    try:
        _check_lock(web, address)
        good = await web.part("password").verify(web, password)
    finally:
        web.stretching = False
    if not good:
        _count(web, address)
        _count(web, _ALL)
        raise Refused(401, "bad_password", "that is not the password")
    web.guesses.pop(address, None)
    cookie = web.sessions.new()
    web.platform.log("web: login from", address)
    headers = {"Set-Cookie": "sid=%s; Path=/; HttpOnly; SameSite=Strict" % cookie}
    return {"csrf": web.sessions.csrf(cookie)}, 200, headers


async def logout(web, request):
    web.sessions.end(request.cookies.get("sid", ""))
    return b"", 204, {"Set-Cookie": "sid=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"}


async def change(web, request):
    value = body(request)
    old, new = value.get("old"), value.get("new")
    if not isinstance(old, str) or not password_ok(new):
        raise Refused(400, "bad_password", "a password has at least 8 characters and at most 64 bytes")
    await _turn(web)
    web.stretching = True
    try:
        _check_lock(web, request.client_addr)
        if not await web.part("password").verify(web, old):
            _count(web, request.client_addr)
            raise Refused(403, "bad_password", "the old password is wrong")
        await web.part("password").store(web, new)
    finally:
        web.stretching = False
    web.sessions.end_all()
    web.platform.log("web: the password was changed from", request.client_addr)
    cookie = web.sessions.new()
    return {"csrf": web.sessions.csrf(cookie)}, 200, {"Set-Cookie": "sid=%s; Path=/; HttpOnly; SameSite=Strict" % cookie}


async def _turn(web):
    """One password at a time: stretching takes all the time that the board has to spare."""
    for _ in range(_WAIT_S * 20):
        if not web.stretching:
            return
        await asyncio.sleep_ms(50)
    raise Refused(503, "busy", "another login is being checked", 5)


def _check_lock(web, address):
    for who in address, _ALL:
        count, until = web.guesses.get(who, (0, 0))
        left = until - web.sessions.now
        if left > 0:
            raise Refused(429, "locked", "too many wrong passwords: try again in %d s" % left, left)


def _count(web, who):
    if who not in web.guesses and len(web.guesses) >= _MOST:
        del web.guesses[min(web.guesses, key=lambda known: web.guesses[known][1] if known != _ALL else web.sessions.now + 10**6)]
    count, until = web.guesses.get(who, (0, 0))
    count = count + 1 if until + _FORGIVE_S > web.sessions.now else 1
    over = count - (_FREE_FOR_ALL if who == _ALL else _FREE)
    wait = min(5 << min(over, 10), 60 if who == _ALL else 900) if over >= 0 else 0
    web.guesses[who] = (count, web.sessions.now + wait)


HANDLERS = {
    "GET /api/session": session,
    "POST /api/login": login,
    "POST /api/logout": logout,
    "POST /api/password": change,
}
