"""Counts the bytes that a life of the board inflates and hashes: with SIMULATOR_METER=1 these take the place of what is built in.

Nothing on the board knows of it. It costs heap and time, so neither is measured in a life that is metered.
"""

import hashlib as _hashlib
import sys

import deflate as _deflate

inflated = hashed = 0


class DeflateIO:
    def __init__(self, *arguments):
        self._stream = _deflate.DeflateIO(*arguments)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.close()

    def read(self, *size):
        global inflated
        data = self._stream.read(*size)
        inflated += len(data or b"")
        return data

    def readinto(self, *arguments):
        global inflated
        n = self._stream.readinto(*arguments)
        inflated += n or 0
        return n

    def close(self):
        self._stream.close()


class sha256:
    def __init__(self, data=b""):
        self._running = _hashlib.sha256()
        self.update(data)

    def update(self, data):
        global hashed
        hashed += len(data)
        self._running.update(data)

    def digest(self):
        return self._running.digest()


class _Module:
    """What is not counted comes from the real one."""

    def __init__(self, real, **counted):
        self._real = real
        for name in counted:
            setattr(self, name, counted[name])

    def __getattr__(self, name):
        return getattr(self._real, name)


def install():
    sys.modules["deflate"] = _Module(_deflate, DeflateIO=DeflateIO)
    sys.modules["hashlib"] = _Module(_hashlib, sha256=sha256)
