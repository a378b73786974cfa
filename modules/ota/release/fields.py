"""What a field from outside must be: the checks that the channel file and the release list share.

Versions are compared as numbers: 1.9 is older than 1.10, and 1.10.0-rc1 is older than 1.10.0.

>>> compare_versions("1.9", "1.10")
-1
"""

import json

from iot_platform.module import octets, plain
from micropython import const

from ..errors import OtaError

FORMAT = 2  # of the channel file and of the release list
MAX_COUNTER = (1 << 53) - 1
_MAX_VERSION = const(32)  # characters
_MAX_INSIDE = const(256)  # objects and lists in a JSON text: an empty one takes 32 bytes of heap, so 4 KB of brackets took 128 KB


def is_digest(text):
    """True for 64 lower-case hexadecimal digits."""
    return isinstance(text, str) and len(text) == 64 and all(c in b"0123456789abcdef" for c in octets(text))


def is_whole(value, most):
    """True for an int (not a bool) from 0 to `most`."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def is_version(text):
    """True for ``1``, ``1.2``, ``1.2.3``, ``1.2.3-rc1``: dotted numbers and at most one suffix."""
    if not isinstance(text, str) or not 0 < len(text) <= _MAX_VERSION:
        return False
    numbers, dash, suffix = text.partition("-")
    if dash and not (suffix and plain(suffix, b".")):
        return False
    return all(0 < len(part) <= 9 and all(48 <= c <= 57 for c in octets(part)) for part in numbers.split("."))


def _parse(text):
    """A comparable tuple ``(known, numbers, final, suffix)``; what is no version is older than any version."""
    text = text.strip() if isinstance(text, str) else ""
    if not is_version(text):
        return (0, (), 0, ())
    numbers, dash, suffix = text.partition("-")
    values = [int(part) for part in numbers.split(".")]
    while len(values) > 1 and values[-1] == 0:  # 1.2 and 1.2.0 are the same version
        values.pop()
    return (1, tuple(values), 0 if dash else 1, _suffix(suffix))


def compare_versions(a, b):
    """-1, 0 or 1 as version ``a`` is older than, the same as, or newer than ``b``."""
    left, right = _parse(a), _parse(b)
    return -1 if left < right else 1 if left > right else 0


def _suffix(text):
    """``rc10`` -> (("rc", 10),): numbers inside a suffix count as numbers too."""
    out = []
    for part in text.split("."):
        i = len(part)
        while i and part[i - 1].isdigit():
            i -= 1
        out.append((part[:i], int(part[i:] or "0")))
    return tuple(out)


def load_object(text, what, reason="bad_bundle"):
    """A JSON object from `text`, in which no key stands twice; OtaError `reason` otherwise."""
    strings, opened = _scan(text)
    if (text.find("\0") if isinstance(text, str) else text.find(b"\0")) >= 0:  # MicroPython's reader takes it for the end
        raise OtaError(reason, "%s is not JSON" % what)
    if opened > _MAX_INSIDE:
        raise OtaError(reason, "%s has too many parts" % what)
    try:
        value = json.loads(text)
        once = strings == _count(value)
    except (ValueError, RuntimeError):  # RuntimeError: nested too deeply for the stack
        raise OtaError(reason, "%s is not JSON" % what)
    if not isinstance(value, dict):
        raise OtaError(reason, "%s is not a JSON object" % what)
    if not once:
        raise OtaError(reason, "%s names a key twice" % what)
    return value


def _scan(text):
    """``(strings, opened)``: how many strings a JSON text has, names among them, and how many objects and lists.

    JSON readers keep the last of two equal keys; their strings can be counted, so none can hide another. Not the colons:
    MicroPython's reader takes a comma or a space for one.
    """
    quote, escape, openers = (34, 92, (91, 123)) if isinstance(text, (bytes, bytearray)) else ('"', "\\", ("[", "{"))
    inside = skip = False
    strings = opened = 0
    for c in text:
        if skip:
            skip = False
        elif inside and c == escape:
            skip = True
        elif c == quote:
            inside = not inside
            strings += inside
        elif not inside and c in openers:
            opened += 1
    return strings, opened


def _count(value):
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("a name that is no text")
        return len(value) + sum(_count(v) for v in value.values())
    if isinstance(value, list):
        return sum(_count(v) for v in value)
    return 1 if isinstance(value, str) else 0
