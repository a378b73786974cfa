"""Who is logged in: at most a few browsers, each until it was idle for too long, or for half a day in any case.

A session is known by the digest of its cookie, so neither a copy of the memory nor prefs.json gives one away. Its CSRF token is
another digest of the cookie. Sessions are handed over in a restart that the board asked for itself: an update does not log
anybody out. Times are seconds of the module's own clock.
"""

import binascii
import hashlib
import os

from micropython import const

_MOST = const(8)
_LONGEST = const(43_200)
_KEY = "web.sessions"


class Sessions:
    """:param idle: seconds after which an unused session ends."""

    def __init__(self, idle):
        self.idle = idle
        self.now = 0  # seconds, advanced by the module
        self._ends = {}  # digest of the cookie: [idle end, last end]

    def new(self):
        """A new cookie. When there are too many sessions, the one that was not used for the longest time ends."""
        self._expire()
        if len(self._ends) >= _MOST:
            del self._ends[min(self._ends, key=lambda known: self._ends[known][0])]
        cookie = binascii.hexlify(os.urandom(16)).decode()
        self._ends[_digest("sid", cookie)] = [self.now + self.idle, self.now + _LONGEST]
        return cookie

    def csrf(self, cookie):
        """The token of a session that has not ended, which counts as a use of it; None for any other cookie."""
        ends = self._ends.get(_digest("sid", cookie)) if cookie else None
        if ends is None or min(ends) <= self.now:
            return None
        ends[0] = self.now + self.idle
        return token(cookie)

    def end(self, cookie):
        self._ends.pop(_digest("sid", cookie), None)

    def end_all(self):
        """The password has changed."""
        self._ends = {}

    def hand_over(self, prefs):
        """Before a restart: keep the sessions for the next boot."""
        self._expire()
        if self._ends:
            prefs.set(_KEY, [[known, ends[0] - self.now, ends[1] - self.now] for known, ends in self._ends.items()])
            prefs.save()

    def take_over(self, prefs):
        """After a restart; a list counts once."""
        rows = prefs.get(_KEY)
        if rows is None:
            return
        prefs.remove(_KEY)
        prefs.save()
        try:
            for known, idle, last in rows[:_MOST]:
                self._ends[known] = [self.now + min(int(idle), self.idle), self.now + min(int(last), _LONGEST)]
        except (TypeError, ValueError):  # edited by hand
            self._ends = {}

    def _expire(self):
        for known in [known for known, ends in self._ends.items() if min(ends) <= self.now]:
            del self._ends[known]


def token(cookie):
    """The CSRF token that belongs to a cookie."""
    return _digest("csrf", cookie)


def _digest(use, cookie):
    return binascii.hexlify(hashlib.sha256((use + cookie).encode()).digest()[:16]).decode()
