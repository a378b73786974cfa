"""The `.release` member: one JSON header line, then one JSON line a file, in the order in which the files follow.

The list of a delta has only what is not the same in its base: ``patch`` in an entry says that a patch follows instead of the
file, and an entry whose size is null, without a digest, that the file goes.

This file decides what is valid; it opens nothing and writes nothing. Host and board use the same code.

>>> parse_entry('{"path":"main.py","size":3,"sha256":"' + "0" * 64 + '"}', None)["size"]
3
"""

import json

from iot_platform.profile import name_ok

from . import paths, versions
from .checks import FORMAT, MAX_COUNTER, is_digest, is_whole, load_object
from .errors import OtaError

MAX_HEADER = 4096  # bytes of the header line
MAX_LINE = 512  # bytes of an entry's line
MAX_FILES = 5000
MAX_FILE = 8 * 1024 * 1024
MAX_NOTES = 2048

_HEADER = "format name version sequence base tree micropython mpy created expires notes files size delete".split()
_ENTRY = ("path", "size", "sha256")
_GONE = ("path", "size")
_NO_PATCH = ("0" * 64, 0)


def parse_header(line):
    """The header as a dict, complete and checked; OtaError ``bad_bundle`` or ``bad_path`` otherwise."""
    header = _object(line, MAX_HEADER, "bad_bundle", "the release header")
    _keys(header, _HEADER, (), "the release header")
    if header["format"] is True or header["format"] != FORMAT:
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


def parse_entry(line, previous, delta=False):
    """One file's entry as a dict; `previous` is the path before it, or None. OtaError otherwise."""
    entry = _object(line, MAX_LINE, "bad_bundle", "an entry of the release")
    gone = delta and "size" in entry and entry["size"] is None
    _keys(entry, _GONE if gone else _ENTRY, () if gone else ("patch",) if delta else ("excluded",), "an entry of the release")
    path = entry["path"]
    paths.check_member(path)
    paths.check_order(previous, path, not delta)
    if not gone:
        if not is_whole(entry["size"], MAX_FILE):
            raise OtaError("bad_bundle", "the size of %s is not a size" % path)
        if not is_digest(entry["sha256"]):
            raise OtaError("bad_bundle", "the sha256 of %s is not a digest" % path)
        _check_patch(path, entry.get("patch", _NO_PATCH))
    return entry


def line(entry, excluded=False):
    """An entry as `iotctl` writes it, and as a board keeps it: bytes with their line feed."""
    if entry["size"] is None:
        return ('{"path":"%s","size":null}\n' % entry["path"]).encode()
    mark = ',"excluded":true' if excluded else ""
    return ('{"path":"%s","size":%d,"sha256":"%s"%s}\n' % (entry["path"], entry["size"], entry["sha256"], mark)).encode()


def header_line(header):
    """The header of a complete list likewise."""
    pairs = ['"%s":%s' % (key, json.dumps(header[key], separators=(",", ":"))) for key in _HEADER]
    return ("{%s}\n" % ",".join(pairs)).encode()


def tree_line(entry):
    """What the ``tree`` digest is made of: SHA-256 over these lines of the complete, sorted list."""
    return ("%s %d %s\n" % (entry["path"], entry["size"], entry["sha256"])).encode()


def _object(line, most, reason, what):
    if len(line) > most:
        raise OtaError(reason, "%s is longer than %d bytes" % (what, most))
    return load_object(line, what, reason)


def _keys(value, required, optional, what):
    for key in required:
        if key not in value:
            raise OtaError("bad_bundle", "%s has no %s" % (what, key))
    for key in value:
        if key not in required and key not in optional:
            raise OtaError("bad_bundle", "%s has an unknown key" % what)


def _check_patch(path, value):
    """``[digest of the base, bytes on the wire]``."""
    if not isinstance(value, (list, tuple)) or len(value) != 2 or not is_digest(value[0]) or not is_whole(value[1], MAX_FILE):
        raise OtaError("bad_bundle", "the patch of %s is not a digest and a size" % path)


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
