"""Who may do what: the guard, and who is logged in.

A request passes the guard before any handler sees it. It must

1. name this board in its Host header: a page elsewhere that has its own name resolved to this board cannot (DNS rebinding),
2. be a GET, HEAD or POST; a GET changes nothing,
3. not come from another site's page (Origin, Sec-Fetch-Site),
4. belong to a session, but for the page itself, ``/api/session`` and ``/api/login``,
5. for a POST carry the session's CSRF token (but for the login), the right Content-Type, and, but for an upload, a JSON object.

A session is known by the digest of its cookie, so neither a copy of the memory nor prefs.json gives one away. Its CSRF token is
another digest of the cookie. There are at most a few, each until it was idle for too long, or for half a day in any case: rows of
one table, ``web.sessions``, made at the start (as objects of their own they lay all over the heap).

A restart that the board asked for itself hands over the sessions, and which addresses have logged in before: an update does
not log anybody out.
"""

import binascii
import hashlib
import os
import struct

from micropython import const

from .http import Refused

_SIZE = const(24)  # bytes of a row: 16 of the digest, and when it ends, idle or in any case, in seconds of the module's clock
_ROW = const("<16sII")
_PLACES = range(0, 576, _SIZE)  # where they begin: 24 of them
_IDLE = const(3_600)
_LONGEST = const(43_200)
_SESSIONS = const("web.sessions")
COOKIE = const("Set-Cookie: sid=%s; Path=/; HttpOnly; SameSite=Strict%s\r\n")
_DOMAINS = const(" .local .lan .home .fritz.box .home.arpa .internal .localdomain ")  # nobody can register them


# -- the guard


def guard(web, request):
    """Refused unless the request keeps the rules above. A session that it belongs to is used by it."""
    fields, path, post = request.fields, request.path, request.method == "POST"
    host = fields.get("host", "")
    if not _is_host(web, host.lower()):
        raise Refused(403, "bad_host", "see web.hosts")
    if not post and request.method not in ("GET", "HEAD"):
        raise Refused(405, "bad_method")
    if not post and path[:5] != "/api/":
        return
    origin = fields.get("origin")
    if fields.get("sec-fetch-site", "none") not in ("same-origin", "none") or (
        post and origin is not None and origin.partition("://")[2] != host
    ):
        raise Refused(403, "cross_origin")
    if post and "content-length" not in fields:
        raise Refused(411, "length_required")
    request.csrf = session(web, sid(request))
    if path not in ("/api/session", "/api/login"):
        if not request.csrf:
            raise Refused(401, "login_required")
        if post and fields.get("x-csrf") != request.csrf:
            raise Refused(403, "csrf")
    if post:
        upload = path == "/api/ota/upload"
        wanted = "application/octet-stream" if upload else "application/json"
        if fields.get("content-type", "").partition(";")[0].strip() != wanted:
            raise Refused(415, "bad_type", wanted)
        if not upload:
            request.json()


def _is_host(web, host):
    """True when a Host header, in lower case, names this board."""
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdigit():
        name = host
    if name in ("localhost", "127.0.0.1") or name in web.cfg.get("hosts", ()):
        return True
    wifi = web.platform.module("wifi")
    own = wifi.addresses() if wifi else ()
    domain = name[len(own[0]) :] if own and name.startswith(own[0]) else ""
    return name in own or (domain[:1] == "." and " %s " % domain in _DOMAINS)


# -- requests


def status(web, request):
    wifi = web.platform.module("wifi")
    return {
        "authenticated": bool(request.csrf),
        "csrf": request.csrf,
        "name": web.platform.prefs.text("name") or web.platform.profile.get("shortName", ""),
        "id": web.platform.board.unique_id(),
        "setup": wifi is not None and not wifi.status()["ssid"],
    }


def logout(web, request):
    at = _find(web, sid(request))
    if at is not None:
        web.sessions[at : at + _SIZE] = bytes(_SIZE)
    return None, 204, COOKIE % ("", "; Max-Age=0")


# -- sessions


def new(web):
    """A new cookie. When there are too many sessions, the one that was not used for the longest time ends."""
    cookie, now = binascii.hexlify(os.urandom(16)).decode(), web.seconds()
    oldest = min(_PLACES, key=lambda at: until(web, at))
    struct.pack_into(_ROW, web.sessions, oldest, digest("sid", cookie), now + idle(web), now + _LONGEST)
    return cookie


def session(web, cookie):
    """The CSRF token of a session that has not ended, which counts as a use of it; None for any other cookie."""
    at, now = _find(web, cookie), web.seconds()
    if at is None or until(web, at) <= now:
        return None
    struct.pack_into("<I", web.sessions, at + 16, now + idle(web))
    return binascii.hexlify(digest("csrf", cookie)).decode()


def sid(request):
    """The cookie; "" for none."""
    for part in request.fields.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == "sid":
            return value
    return ""


def _find(web, cookie):
    """Where the row of a cookie begins, or None."""
    found = digest("sid", cookie)
    for at in _PLACES:
        if web.sessions[at : at + 16] == found:
            return at
    return None


def until(web, at):
    """When a session ends; 0 for an empty row."""
    return min(struct.unpack_from("<II", web.sessions, at + 16))


def idle(web):
    return web.cfg.get("session_s", _IDLE)


def digest(what, cookie):
    return hashlib.sha256((what + cookie).encode()).digest()[:16]


# -- over a restart


def take_over(web):
    """At the start: the sessions of before the restart."""
    prefs = web.platform.prefs
    text = prefs.get(_SESSIONS)
    prefs.set(_SESSIONS, None)  # what was handed over counts once
    prefs.save()
    try:
        rows = binascii.a2b_base64(text)[: len(web.sessions) + len(web.known)]
    except (TypeError, ValueError):  # edited by hand
        return
    at = len(rows) - len(web.known)
    if at >= 0 and at % _SIZE == 0:  # an older version hands over sessions only
        web.known[:] = rows[at:]
        rows = rows[:at]
    for at in range(0, len(rows) // _SIZE * _SIZE, _SIZE):
        row, unused, last = struct.unpack_from(_ROW, rows, at)
        struct.pack_into(_ROW, web.sessions, at, row, min(unused, idle(web)), min(last, _LONGEST))


def hand_over(web):
    """Before a restart: keep the sessions for the next boot, with the seconds that each has left."""
    now, prefs = web.seconds(), web.platform.prefs
    rows = b""
    for at in range(0, len(web.sessions), _SIZE):
        if until(web, at) > now:
            row, unused, last = struct.unpack_from(_ROW, web.sessions, at)
            rows += struct.pack(_ROW, row, unused - now, last - now)
    if rows:
        prefs.set(_SESSIONS, binascii.b2a_base64(rows + web.known).decode().strip())
        prefs.save()
