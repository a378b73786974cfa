"""Who is logged in: at most a few browsers, each until it was idle for too long, or for half a day in any case.

A session is known by the digest of its cookie, so neither a copy of the memory nor prefs.json gives one away. Its CSRF token is
another digest of the cookie. Sessions are handed over in a restart that the board asked for itself: an update does not log
anybody out. ``web.logins`` is ``{digest: [idle end, last end]}``, in seconds of the module's clock.
"""

import binascii
import hashlib
import os

from micropython import const

_MOST = const(24)
_IDLE = const(3_600)
_LONGEST = const(43_200)
_KEY = "web.sessions"


def new(web):
    """A new cookie. When there are too many sessions, the one that was not used for the longest time ends."""
    logins, now = web.logins, web.seconds()
    _expire(logins, now)
    if len(logins) >= _MOST:
        del logins[min(logins, key=lambda known: logins[known][0])]
    cookie = binascii.hexlify(os.urandom(16)).decode()
    logins[_digest("sid", cookie)] = [now + _idle(web), now + _LONGEST]
    return cookie


def csrf(web, cookie):
    """The token of a session that has not ended, which counts as a use of it; None for any other cookie."""
    ends, now = web.logins.get(_digest("sid", cookie)) if cookie else None, web.seconds()
    if ends is None or min(ends) <= now:
        return None
    ends[0] = now + _idle(web)
    return _digest("csrf", cookie)


def end(web, cookie):
    web.logins.pop(_digest("sid", cookie), None)


def hand_over(web):
    """Before a restart: keep the sessions for the next boot."""
    now, prefs = web.seconds(), web.platform.prefs
    _expire(web.logins, now)
    if web.logins:
        prefs.set(_KEY, [[known, ends[0] - now, ends[1] - now] for known, ends in web.logins.items()])
        prefs.save()


def take_over(web):
    """After a restart; a list counts once."""
    prefs = web.platform.prefs
    rows = prefs.get(_KEY)
    if rows is None:
        return
    prefs.remove(_KEY)
    prefs.save()
    try:
        for known, idle, last in rows[:_MOST]:
            web.logins[known] = [min(int(idle), _idle(web)), min(int(last), _LONGEST)]
    except (TypeError, ValueError):  # edited by hand
        web.logins = {}


def _idle(web):
    return web.cfg.get("session_s", _IDLE)


def _expire(logins, now):
    for known in [known for known, ends in logins.items() if min(ends) <= now]:
        del logins[known]


def _digest(use, cookie):
    return binascii.hexlify(hashlib.sha256((use + cookie).encode()).digest()[:16]).decode()
