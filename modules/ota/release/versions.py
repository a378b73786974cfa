"""Versions compared as numbers: 1.9 is older than 1.10, and 1.10.0-rc1 is older than 1.10.0.

>>> compare("1.9", "1.10")
-1
"""

from iot_platform.module import octets, plain
from micropython import const

_MAX_LENGTH = const(32)


def valid(text):
    """True for ``1``, ``1.2``, ``1.2.3``, ``1.2.3-rc1``: dotted numbers and at most one suffix."""
    if not isinstance(text, str) or not 0 < len(text) <= _MAX_LENGTH:
        return False
    numbers, dash, suffix = text.partition("-")
    if dash and not (suffix and plain(suffix, b".")):
        return False
    return all(_number(part) for part in numbers.split("."))


def parse(text):
    """A comparable tuple ``(known, numbers, final, suffix)``; what is no version is older than any version."""
    text = text.strip() if isinstance(text, str) else ""
    if not valid(text):
        return (0, (), 0, ())
    numbers, dash, suffix = text.partition("-")
    values = [int(part) for part in numbers.split(".")]
    while len(values) > 1 and values[-1] == 0:  # 1.2 and 1.2.0 are the same version
        values.pop()
    return (1, tuple(values), 0 if dash else 1, _suffix(suffix))


def compare(a, b):
    """-1, 0 or 1 as version ``a`` is older than, the same as, or newer than ``b``."""
    left, right = parse(a), parse(b)
    return -1 if left < right else 1 if left > right else 0


def newer(version, running):
    """True when `version` is newer than `running`; ValueError when it is no version."""
    if not valid(version):
        raise ValueError("no version")
    return compare(version, running) > 0


def _number(part):
    return 0 < len(part) <= 9 and all(48 <= c <= 57 for c in octets(part))


def _suffix(text):
    """``rc10`` -> (("rc", 10),): numbers inside a suffix count as numbers too."""
    out = []
    for part in text.split("."):
        i = len(part)
        while i and part[i - 1].isdigit():
            i -= 1
        out.append((part[:i], int(part[i:] or "0")))
    return tuple(out)
