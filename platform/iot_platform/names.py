"""All names at once, first of all.

MicroPython never frees a name. A part that is imported later brings its own, and when the part is forgotten they stay: small
pieces all over the heap, with 27 KB free between them and not 600 bytes in one piece (measured). Here they lie side by side.
"""

from micropython import const

_FILE = "/iot_platform/names.txt"  # one a line; iotctl writes it
_CHUNK = const(256)


def learn():
    """Intern the names of the release. A tree without that file runs as well, and so does one where it is damaged."""
    try:
        with open(_FILE) as f:
            _intern(f)
    except OSError:  # there is none
        return
    except (ValueError, RuntimeError, MemoryError) as error:
        print("names:", repr(error))


def _intern(f):
    rest = ""
    while chunk := f.read(_CHUNK):
        lines = (rest + chunk).split("\n")
        rest = lines.pop()
        for name in lines:
            hasattr(f, name)  # looks it up by its interned form
