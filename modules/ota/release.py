"""The `.release` member: one JSON header line, then one JSON line a file, in the order in which the files follow.

This file decides what is valid; it opens nothing and writes nothing. Host and board use the same code.

>>> parse_entry('{"path":"main.py","size":3,"sha256":"' + "0" * 64 + '"}', None)["size"]
3
"""

import json

from iot_platform.profile import name_ok

from . import paths, versions
from .errors import OtaError

FORMAT = 1
MAX_HEADER = 4096  # bytes of the header line
MAX_LINE = 512  # bytes of an entry's line
MAX_FILES = 5000
MAX_FILE = 8 * 1024 * 1024
MAX_NOTES = 2048
MAX_COUNTER = (1 << 53) - 1

_HEADER = "format name version sequence base tree micropython mpy created expires notes files size delete".split()
_ENTRY = ("path", "size", "sha256")


def parse_header(line):
    """The header as a dict, complete and checked; OtaError ``bad_bundle`` or ``bad_path`` otherwise."""
    header = _object(line, MAX_HEADER, "bad_bundle", "the release header")
    _keys(header, _HEADER, (), "the release header")
    if header["format"] != FORMAT:
        raise OtaError("bad_bundle", "release format %r is unknown to this version" % (header["format"],))
    if not name_ok(header["name"]):
        raise _bad("name")
    if not versions.valid(header["version"]):
        raise _bad("version")
    if header["base"] is not None and not versions.valid(header["base"]):
        raise _bad("base")
    if not is_digest(header["tree"]):
        raise _bad("tree")
    _check_numbers(header)
    if not isinstance(header["notes"], str) or len(header["notes"]) > MAX_NOTES:
        raise _bad("notes")
    if not _versions_tuple(header["micropython"]):
        raise _bad("micropython")
    _check_delete(header["delete"])
    return header


def parse_entry(line, previous):
    """One file's entry as a dict; `previous` is the path before it, or None. OtaError otherwise."""
    entry = _object(line, MAX_LINE, "bad_bundle", "an entry of the release")
    _keys(entry, _ENTRY, ("excluded",), "an entry of the release")
    path = entry["path"]
    paths.check_member(path)
    paths.check_order(previous, path)
    if not is_whole(entry["size"], MAX_FILE):
        raise OtaError("bad_bundle", "the size of %s is not a size" % path)
    if not is_digest(entry["sha256"]):
        raise OtaError("bad_bundle", "the sha256 of %s is not a digest" % path)
    return entry


def tree_line(entry):
    """What the ``tree`` digest is made of: SHA-256 over these lines of the complete, sorted list."""
    return ("%s %d %s\n" % (entry["path"], entry["size"], entry["sha256"])).encode()


def in_rollout(sequence, device_id, percent):
    """True when a board is in a staged rollout: a fixed, even choice of boards that no server has to know."""
    import hashlib

    digest = hashlib.sha256(("%d%s" % (sequence, device_id)).encode()).digest()
    return int.from_bytes(digest, "big") % 100 < percent


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
    except (ValueError, RuntimeError):  # RuntimeError: nested too deeply for the stack
        raise OtaError(reason, "%s is not JSON" % what)
    if not isinstance(value, dict):
        raise OtaError(reason, "%s is not a JSON object" % what)
    if not _keys_once(text, value):
        raise OtaError(reason, "%s names a key twice" % what)
    return value


def _object(line, most, reason, what):
    if len(line) > most:
        raise OtaError(reason, "%s is longer than %d bytes" % (what, most))
    return load_object(line, what, reason)


def _keys_once(text, value):
    """JSON readers keep the last of two equal keys: count the members instead, so that none can hide another."""
    return _members(text) == _count(value)


def _members(text):
    """How many ``name: value`` pairs a JSON text has: the colons outside strings."""
    colon, quote, escape = (58, 34, 92) if isinstance(text, (bytes, bytearray)) else (":", '"', "\\")
    inside = skip = False
    found = 0
    for c in text:
        if skip:
            skip = False
        elif inside and c == escape:
            skip = True
        elif c == quote:
            inside = not inside
        elif c == colon and not inside:
            found += 1
    return found


def _count(value):
    if isinstance(value, dict):
        return len(value) + sum(_count(v) for v in value.values())
    if isinstance(value, list):
        return sum(_count(v) for v in value)
    return 0


def _keys(value, required, optional, what):
    for key in required:
        if key not in value:
            raise OtaError("bad_bundle", "%s has no %s" % (what, key))
    for key in value:
        if key not in required and key not in optional:
            raise OtaError("bad_bundle", "%s has an unknown key" % what)


def _check_numbers(header):
    most = {"sequence": MAX_COUNTER, "files": MAX_FILES, "size": MAX_COUNTER, "mpy": 99, "created": MAX_COUNTER}
    for key in most:
        if not is_whole(header[key], most[key]):
            raise _bad(key)
    if header["expires"] is not None and not is_whole(header["expires"], MAX_COUNTER):
        raise _bad("expires")


def _check_delete(names):
    if not isinstance(names, list) or len(names) > 64:
        raise _bad("delete")
    for name in names:
        paths.check(name)
        if paths.protected(name) or paths.shadows(name) or name in paths.LOADER:
            raise OtaError("protected_path", "delete must not name %s" % name)


def _versions_tuple(text):
    return text == "" or versions.valid(text)


def _bad(key):
    return OtaError("bad_bundle", "the release header's %s is missing or wrong" % key)
