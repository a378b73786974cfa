"""What is left of the web server where there is no memory for it: one answer for whatever is asked, 503, come back soon.

A request is read into one small buffer and not looked at, but for whether it asks for the page or for the API. After a second the
module looks again whether there is memory.
"""

import time

from micropython import const

_MOST = const(8)
_WORK_MS = const(1_000)
_WAIT_MS = const(500)  # for a request
_HEAD = "HTTP/1.0 503 Service Unavailable\r\nRetry-After: 3\r\nCache-Control: no-store\r\nConnection: close\r\nContent-Type: "
_JSON = 'application/json\r\n\r\n{"error": "%s", "message": "%s"}'
_PAGE = 'text/html\r\n\r\n<!doctype html><meta http-equiv="refresh" content="3"><title>Board</title><p>%s.</p>'


class Spare:
    """:param web: the module."""

    def __init__(self, web):
        self._web = web
        self._waiting = []  # [socket, ticks_ms of its coming, the first bytes of its request]
        self._buffer = bytearray(256)
        self._began = time.ticks_ms()

    def tick(self):
        """False when its time is over."""
        now = time.ticks_ms()
        works = time.ticks_diff(now, self._began) < _WORK_MS
        for _ready in self._web.poll.ipoll(0):
            if works and len(self._waiting) < _MOST:
                sock = self._web.listener.accept()[0]
                sock.setblocking(False)
                self._waiting.append([sock, now, b""])
        for caller in list(self._waiting):
            if self._serve(caller, now):
                caller[0].close()
                self._waiting.remove(caller)
        return works or bool(self._waiting)

    def close(self):
        for caller in self._waiting:
            caller[0].close()

    def _serve(self, caller, now):
        """True when the caller has got an answer, or cannot get one. Unread bytes would cut the answer off: read, then answer."""
        sock, came, first = caller
        try:
            while n := sock.readinto(self._buffer):
                caller[2] = caller[2] or bytes(self._buffer[: min(n, 10)])
            if n == 0:
                return True
            if first:  # came in an earlier round: by now all of it is there
                sock.write(self._answer(first))
                return True
        except OSError:
            return True
        return time.ticks_diff(now, came) > _WAIT_MS

    def _answer(self, first):
        word, sentence = self._web.excuse()
        if first[:5] == b"POST " or first[:9] == b"GET /api/":
            return (_HEAD + _JSON % (word, sentence)).encode()
        return (_HEAD + _PAGE % sentence).encode()
