"""Who is logged in: at most a few browsers, each until it was idle for too long, or for half a day in any case.

A session is known by the digest of its cookie, so neither a copy of the memory nor prefs.json gives one away. Its CSRF token is
another digest of the cookie. Sessions are handed over in a restart that the board asked for itself: an update does not log
anybody out. They are rows of one table, ``web.logins``, made at the start: as objects of their own they lay all over the heap.
"""

import binascii
import hashlib
import os
import struct

from micropython import const

_MOST = const(24)
_SIZE = const(24)  # bytes of a row: 16 of the digest, and when it ends, idle or in any case, in seconds of the module's clock
_ROW = "<16sII"
_IDLE = const(3_600)
_LONGEST = const(43_200)
_KEY = "web.sessions"


def table():
    """No sessions at all."""
    return bytearray(_MOST * _SIZE)


def new(web):
    """A new cookie. When there are too many sessions, the one that was not used for the longest time ends."""
    cookie, now = binascii.hexlify(os.urandom(16)).decode(), web.seconds()
    oldest = min(_places(), key=lambda at: _until(web.logins, at))
    struct.pack_into(_ROW, web.logins, oldest, _digest("sid", cookie), now + _idle(web), now + _LONGEST)
    return cookie


def csrf(web, cookie):
    """The token of a session that has not ended, which counts as a use of it; None for any other cookie."""
    at, now = _find(web, cookie), web.seconds()
    if at is None or _until(web.logins, at) <= now:
        return None
    struct.pack_into("<I", web.logins, at + 16, now + _idle(web))
    return binascii.hexlify(_digest("csrf", cookie)).decode()


def end(web, cookie):
    at = _find(web, cookie)
    if at is not None:
        web.logins[at : at + _SIZE] = bytes(_SIZE)


def hand_over(web):
    """Before a restart: keep the sessions for the next boot, with the seconds that each has left."""
    now, prefs = web.seconds(), web.platform.prefs
    rows = b""
    for at in _places():
        if _until(web.logins, at) > now:
            digest, idle, last = struct.unpack_from(_ROW, web.logins, at)
            rows += struct.pack(_ROW, digest, idle - now, last - now)
    if rows:
        prefs.set(_KEY, binascii.b2a_base64(rows).decode().strip())
        prefs.save()


def take_over(web):
    """After a restart; what was handed over counts once."""
    prefs = web.platform.prefs
    text = prefs.get(_KEY)
    if text is None:
        return
    prefs.remove(_KEY)
    prefs.save()
    try:
        rows = binascii.a2b_base64(text)[: _MOST * _SIZE]
    except (TypeError, ValueError):  # edited by hand
        return
    for at in range(0, len(rows) - len(rows) % _SIZE, _SIZE):
        digest, idle, last = struct.unpack_from(_ROW, rows, at)
        struct.pack_into(_ROW, web.logins, at, digest, min(idle, _idle(web)), min(last, _LONGEST))


def _places():
    return range(0, _MOST * _SIZE, _SIZE)


def _find(web, cookie):
    """Where the row of a cookie begins, or None."""
    digest = _digest("sid", cookie) if cookie else None
    for at in _places() if digest else ():
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
