"""The `.release` member: a header line, then one JSON line a file, in the order in which the files follow.

Pure: what is valid, and how a line is written; it opens nothing. Host and board use the same code. An entry's `at` is where its
group of files begins in the archive, counted from the end of the head; groups follow each other, so it never falls, and a file
that is cut into pieces (above PIECE) has a group of its own.

>>> parse_entry('{"path":"main.py","size":3,"sha256":"' + "0" * 64 + '","at":0}', None)["size"]
3
"""

import json

from iot_platform.module import name_ok
from micropython import const

from ..errors import OtaError
from . import paths
from .fields import FORMAT, MAX_COUNTER, check_keys, is_digest, is_version, is_whole, load_object

HEADER = "format name version sequence micropython mpy created expires notes files size delete"
MAX_HEADER = 4096  # bytes of the line
MAX_FILES = 5000
MAX_NOTES = 2048
MAX_LINE = 512  # bytes of an entry's line
MAX_FILE = 8 * 1024 * 1024
PIECE = 32768  # bytes of a file in one gzip member; only larger files have several
_ENTRY = const("path size sha256 at")


def parse_header(line):
    """The header as a dict, complete and checked; OtaError ``bad_bundle``, ``bad_path`` or ``protected_path`` otherwise."""
    if len(line) > MAX_HEADER:
        raise OtaError("bad_bundle", "the release header is longer than %d bytes" % MAX_HEADER)
    header = load_object(line, "the release header")
    check_keys(header, HEADER.split(), "the release header")
    if header["format"] is True or header["format"] != FORMAT:
        raise OtaError("bad_bundle", "release format %r is unknown to this version" % (header["format"],))
    for key, good in (
        ("name", name_ok(header["name"])),
        ("version", is_version(header["version"])),
        ("sequence", is_whole(header["sequence"], MAX_COUNTER)),
        ("micropython", header["micropython"] == "" or is_version(header["micropython"])),
        ("mpy", is_whole(header["mpy"], 99)),
        ("created", is_whole(header["created"], MAX_COUNTER)),
        ("expires", header["expires"] is None or is_whole(header["expires"], MAX_COUNTER)),
        ("notes", isinstance(header["notes"], str) and len(header["notes"]) <= MAX_NOTES),
        ("files", is_whole(header["files"], MAX_FILES)),
        ("size", is_whole(header["size"], MAX_COUNTER)),
    ):
        if not good:
            raise _bad(key)
    check_delete(header["delete"])
    return header


def parse_entry(line, previous):
    """One file's entry as a dict; `previous` is the entry before it, or None. OtaError otherwise."""
    if len(line) > MAX_LINE:
        raise OtaError("bad_bundle", "an entry of the release is longer than %d bytes" % MAX_LINE)
    entry = load_object(line, "an entry of the release")
    check_keys(entry, _ENTRY.split(), "an entry of the release")
    path = entry["path"]
    paths.check_member(path)
    paths.check_order(previous["path"] if previous else None, path)
    if not is_whole(entry["size"], MAX_FILE):
        raise OtaError("bad_bundle", "the size of %s is not a size" % path)
    if not is_digest(entry["sha256"]):
        raise OtaError("bad_bundle", "the sha256 of %s is not a digest" % path)
    if not is_whole(entry["at"], MAX_COUNTER) or not _follows(entry, previous):
        raise OtaError("bad_bundle", "%s is not where its place in the list says" % path)
    return entry


def header_line(header):
    """A list's first line: bytes with their line feed."""
    pairs = ['"%s":%s' % (key, json.dumps(header[key], separators=(",", ":"))) for key in HEADER.split()]
    return ("{%s}\n" % ",".join(pairs)).encode()


def entry_line(entry, excluded=False):
    """An entry's likewise. The list that a board keeps marks what its profile excludes."""
    mark = ',"excluded":true' if excluded else ""
    line = '{"path":"%s","size":%d,"sha256":"%s","at":%d%s}\n'
    return (line % (entry["path"], entry["size"], entry["sha256"], entry["at"], mark)).encode()


def _follows(entry, previous):
    if previous is None:
        return entry["at"] == 0
    if entry["at"] == previous["at"]:
        return entry["size"] <= PIECE and previous["size"] <= PIECE
    return entry["at"] > previous["at"]


def check_delete(names):
    if not isinstance(names, list) or len(names) > 64:
        raise _bad("delete")
    for name in names:
        paths.check(name)
        if paths.protected(name) or paths.shadows(name) or name in paths.LOADER:
            raise OtaError("protected_path", "delete must not name %s" % name)


def _bad(key):
    return OtaError("bad_bundle", "the release header's %s is missing or wrong" % key)
