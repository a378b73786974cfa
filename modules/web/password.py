"""The password: salted and stretched (PBKDF2-HMAC-SHA256) to about half a second on this board, a few milliseconds at a time.

In prefs.json is ``web.password``: ``[rounds, salt, hash]``. Without it the profile's ``web.password`` counts, or the first one is
made here and shown on the serial console: not in the log, which the page shows and MQTT may carry.
"""

import asyncio
import binascii
import hashlib
import os
import time

from micropython import const

_KEY = "web.password"
_TARGET_MS = const(500)
_LEAST = const(1000)
_MOST = const(100_000)
_PROBE = const(64)
_SLICE_MS = const(8)
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


async def verify(web, candidate):
    """True when it is the password."""
    stored = web.platform.prefs.get(_KEY)
    if stored:
        rounds, salt, wanted = stored
        found = await stretch(candidate.encode(), binascii.unhexlify(salt), rounds)
        return same(found, binascii.unhexlify(wanted))
    wanted = web.cfg.get("password")
    return bool(wanted) and same(hashlib.sha256(candidate.encode()).digest(), hashlib.sha256(wanted.encode()).digest())


async def store(web, password):
    """Make it the password."""
    salt = os.urandom(16)
    rounds = await _calibrate()
    found = await stretch(password.encode(), salt, rounds)
    prefs = web.platform.prefs
    prefs.set(_KEY, [rounds, binascii.hexlify(salt).decode(), binascii.hexlify(found).decode()])
    prefs.save()
    web.logins[:] = bytes(len(web.logins))


async def make(web):
    """Make a password, and show it to whoever holds the board's cable."""
    letters = [_LETTERS[byte % len(_LETTERS)] for byte in os.urandom(12)]
    password = "".join(letters[:4]) + "-" + "".join(letters[4:8]) + "-" + "".join(letters[8:])
    await store(web, password)
    print("web: the password of this board's page is", password, "(change it there)")


async def stretch(password, salt, rounds):
    """PBKDF2-HMAC-SHA256, 32 bytes. Other tasks run between slices of a few milliseconds."""
    if len(password) > 64:
        password = hashlib.sha256(password).digest()
    inner, outer = _pad(password, 0x36), _pad(password, 0x5C)
    sha256 = hashlib.sha256
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


def same(a, b):
    """Compare in a time that does not tell where they differ."""
    different = len(a) ^ len(b)
    for x, y in zip(a, b):
        different |= x ^ y
    return different == 0


async def _calibrate():
    """How many rounds take about half a second here."""
    began = time.ticks_us()
    await stretch(b"password", b"salt", _PROBE)
    took = max(time.ticks_diff(time.ticks_us(), began), 1)
    return max(_LEAST, min(_MOST, _PROBE * _TARGET_MS * 1000 // took))


def _pad(key, with_byte):
    return bytes(byte ^ with_byte for byte in key + bytes(64 - len(key)))
