"""Sessions and the password beyond the requests: what is done at a start, before a restart, and at the console.

A restart that the board asked for itself hands over the sessions, and which addresses have logged in before: an update does
not log anybody out. The first password is made here and shown on the serial console: not in the log, which the page shows
and MQTT may carry.
"""

import asyncio
import binascii
import os
import struct

from micropython import const

from .sessions import idle, store, until

_SIZE = const(24)  # bytes of a row, as in sessions
_ROW = const("<16sII")
_LONGEST = const(43_200)
_SESSIONS = const("web.sessions")
_LETTERS = const("abcdefghjkmnpqrstuvwxyz23456789")


def start(web):
    """The sessions of before the restart, and a password if there is none."""
    prefs = web.platform.prefs
    text = prefs.get(_SESSIONS)
    if text is not None:
        prefs.set(_SESSIONS, None)  # what was handed over counts once
        prefs.save()
        _take_over(web, text)
    if "password" not in web.cfg and not prefs.get("web.password"):
        password(web)


def _take_over(web, text):
    try:
        rows = binascii.a2b_base64(text)[: len(web.sessions) + len(web.known)]
    except (TypeError, ValueError):  # edited by hand
        return
    at = len(rows) - len(web.known)
    if at >= 0 and at % _SIZE == 0:  # an older version hands over sessions only
        web.known[:] = rows[at:]
        rows = rows[:at]
    for at in range(0, len(rows) // _SIZE * _SIZE, _SIZE):
        digest, unused, last = struct.unpack_from(_ROW, rows, at)
        struct.pack_into(_ROW, web.sessions, at, digest, min(unused, idle(web)), min(last, _LONGEST))


def stop(web):
    """Before a restart: keep the sessions for the next boot, with the seconds that each has left."""
    now, prefs = web.seconds(), web.platform.prefs
    rows = b""
    for at in range(0, len(web.sessions), _SIZE):
        if until(web, at) > now:
            digest, unused, last = struct.unpack_from(_ROW, web.sessions, at)
            rows += struct.pack(_ROW, digest, unused - now, last - now)
    if rows:
        prefs.set(_SESSIONS, binascii.b2a_base64(rows + web.known).decode().strip())
        prefs.save()


def password(web):
    """Make a password, as a task of its own, and show it to whoever holds the board's cable."""
    if not web.stretching:
        web.stretching = True
        asyncio.create_task(_make(web))


async def _make(web):
    letters = "".join([_LETTERS[byte % len(_LETTERS)] for byte in os.urandom(12)])
    made = letters[:4] + "-" + letters[4:8] + "-" + letters[8:]
    try:
        await store(web, made)
        print("web: the password of this board's page is", made, "(change it there)")
    finally:
        web.stretching = False
        web.forget()
