"""Which paths an update may name, and in which order they come.

Rules (the same for entries of a release, for ``delete`` and for ``recursive_delete``):

1. A path is made of parts of ``[A-Za-z0-9_.-]`` joined by single ``/``: it is relative to the board's root.
2. No part is empty, ``.``, ``..`` or ends in ``.``; a path has at most 100 bytes.
3. ``.ota/`` and what begins with ``prefs.json`` or ``crash.log`` is never touched, in any spelling of its case.
4. ``ota_boot``, whatever begins with ``boot``, and the names of built-in modules are refused as a file or folder at the root
   or in ``lib/``: MicroPython would run or import them in place of the firmware's. The loader's own files are the exception.

>>> check("modules/ota/paths.py")
>>> protected("Prefs.JSON")
True
"""

from iot_platform.module import plain
from micropython import const

from ..errors import OtaError

_MAX_PATH = const(100)
LOADER = ("boot.py", "ota_boot.py")  # the loader's files that a release may bring
GUARD = "boot.keep"  # see install.journal

# Built-in modules of the firmware: a file of such a name would be imported instead (measured: `os`, `json`, `time`,
# `machine`, ... are looked up on sys.path first). Names that any port builds in, so that host and board agree.
BUILTINS = (  # one string: a list of a hundred would cost a board 3 KB
    " _asyncio _boot _onewire _rp2 _thread aioble array asyncio binascii bluetooth btree builtins cmath collections cryptolib "
    "deflate dht ds18x20 errno esp esp32 espnow ffi flashbdev framebuf gc hashlib heapq inisetup io jni json lwip machine "
    "math micropython mip neopixel network ntptime onewire openamp os platform random re rp2 requests select socket "
    "ssl struct sys termios time tls uarray uasyncio ubinascii ucollections ucryptolib uctypes uerrno uhashlib uheapq uio ujson "
    "umachine uos upysh urandom ure urequests uselect usocket ussl ustruct usys utime utimeq uwebsocket uzlib vfs "
    "webrepl webrepl_setup websocket zlib "
)
# Not part of every firmware, so a bundle may bring them in lib/.
_LIBRARIES = const(("requests", "urequests", "aioble", "mip", "neopixel", "ntptime", "dht", "ds18x20", "onewire", "upysh"))


def check(path):
    """Raise OtaError ``bad_path`` unless `path` follows rules 1 and 2."""
    if not isinstance(path, str) or not 0 < len(path) <= _MAX_PATH:
        raise OtaError("bad_path", "a path must have 1 to %d characters" % _MAX_PATH)
    for part in path.split("/"):
        if not part or part.endswith(".") or not plain(part, b"_.-"):
            raise OtaError("bad_path", "not an allowed path: %r" % path)


def protected(path):
    """True for what belongs to the board or its user, whatever the case of its letters (rule 3)."""
    first = path.lower().split("/")[0]
    return first == ".ota" or first.startswith("prefs.json") or first.startswith("crash.log")


def shadows(path):
    """True when `path` would be imported in place of a built-in module or the loader (rule 4)."""
    parts = path.lower().split("/")
    in_lib = parts[0] == "lib" and len(parts) > 1
    if in_lib:
        parts = parts[1:]
    stem = parts[0] if len(parts) > 1 else _stem(parts[0])
    if stem.startswith("boot") or stem in ("ota_boot", "ota_boot_old"):
        return in_lib or path not in LOADER
    return " %s " % stem in BUILTINS and not (in_lib and stem in _LIBRARIES)


def check_member(path):
    """Raise OtaError unless a release may contain `path` (all four rules)."""
    check(path)
    if protected(path):
        raise OtaError("protected_path", "%s belongs to the board, no release may bring it" % path)
    if shadows(path):
        raise OtaError("protected_path", "%s would replace a built-in module or the loader" % path)


def key(path):
    """Sort key: lower case with ``/`` lowest, so that ``a/b`` comes right after ``a`` and before ``a.py``."""
    return path.lower().replace("/", "\x00")


def check_order(previous, path):
    """Raise OtaError ``bad_member`` unless `path` may follow `previous` (None at the start).

    Strictly ascending keys leave no room for a duplicate or a twin in another case, and put everything below a name
    right behind it: one look at the neighbour finds a name that is both file and folder.
    """
    if previous is None:
        return
    before, now = key(previous), key(path)
    if now <= before:
        raise OtaError("bad_member", "%s is out of order or listed twice" % path)
    if now.startswith(before + "\x00"):
        raise OtaError("bad_member", "%s is listed as a file and as a folder" % previous)


def inside(path, folder):
    """True when `path` is `folder` or lies below it, compared without case."""
    path, folder = path.lower(), folder.lower().rstrip("/")
    return path == folder or path.startswith(folder + "/")


def excluded(path, names):
    """True when the profile's ``excluded_files`` keep an update away from `path`: a file or a whole folder."""
    return any(inside(path, name.lstrip("/")) for name in names)


def skips(path, names):
    """True for what no update writes: see excluded(), and ``boot.py``."""
    return path == "boot.py" or excluded(path, names)


def _stem(name):
    for suffix in (".py", ".mpy"):
        if name.endswith(suffix):
            return name[: -len(suffix)]
    return name
