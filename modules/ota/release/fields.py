"""What a field from outside must be: the checks that the channel file and the release list share."""

import json

from ..errors import OtaError

FORMAT = 2  # of the channel file and of the release list
MAX_COUNTER = (1 << 53) - 1


def is_digest(text):
    """True for 64 lower-case hexadecimal digits."""
    return isinstance(text, str) and len(text) == 64 and all(c in "0123456789abcdef" for c in text)


def is_whole(value, most):
    """True for an int (not a bool) from 0 to `most`."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def load_object(text, what, reason="bad_bundle"):
    """A JSON object from `text`, in which no key stands twice; OtaError `reason` otherwise."""
    try:
        value = json.loads(text)
        once = _keys_once(text, value)
    except (ValueError, RuntimeError):  # RuntimeError: nested too deeply for the stack
        raise OtaError(reason, "%s is not JSON" % what)
    if not isinstance(value, dict):
        raise OtaError(reason, "%s is not a JSON object" % what)
    if not once:
        raise OtaError(reason, "%s names a key twice" % what)
    return value


def check_keys(value, required, optional, what):
    """OtaError ``bad_bundle`` unless an object has all of its keys, and no other."""
    for key in required:
        if key not in value:
            raise OtaError("bad_bundle", "%s has no %s" % (what, key))
    for key in value:
        if key not in required and key not in optional:
            raise OtaError("bad_bundle", "%s has an unknown key" % what)


def _keys_once(text, value):
    """JSON readers keep the last of two equal keys: count the strings instead, so that none can hide another.

    Not the colons: MicroPython's reader takes a comma or a space for one, and what follows a NUL for nothing at all.
    """
    return _strings(text) == _count(value)


def _strings(text):
    """How many strings a JSON text has, names among them."""
    quote, escape = (34, 92) if isinstance(text, (bytes, bytearray)) else ('"', "\\")
    inside = skip = False
    found = 0
    for c in text:
        if skip:
            skip = False
        elif inside and c == escape:
            skip = True
        elif c == quote:
            inside = not inside
            found += inside
    return found


def _count(value):
    if isinstance(value, dict):
        return len(value) + sum(_count(v) for v in value.values())
    if isinstance(value, list):
        return sum(_count(v) for v in value)
    return 1 if isinstance(value, str) else 0
