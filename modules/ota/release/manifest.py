"""The `.release` member (docs/formats.md): a header line, then one JSON line a file, then their digests.

Pure: what is valid, and how a line is written; it opens no file. Host and board use the same code. An entry is a list, [path,
size, at]. The digests are raw: text between them, or they as text, would cost a tenth of the list.

>>> parse_entry(b'["main.py",3,0]', None)[1]
3
"""

import json

from iot_platform.module import name_ok
from micropython import const

from ..errors import OtaError
from . import paths
from .fields import FORMAT, MAX_COUNTER, is_version, is_whole, load_object

HEADER = "format name version sequence micropython mpy created expires notes files size delete"
MAX_HEADER = 4096  # bytes of the line
MAX_FILES = 5000
MAX_NOTES = 2048
MAX_LINE = 512  # bytes of an entry's line
_PIECE = const(256)  # bytes of a line that are read at once
MAX_FILE = 8 * 1024 * 1024
DIGEST = 32  # bytes
PIECE = 32768  # bytes of a file in one gzip member; only larger files have several


def check(f, accept=None, alone=False):
    """Header, entries, their order, count and sizes, from an open file. Generator; returns the header.

    `accept` is called with the header before that, and raises an OtaError if it is not wanted here; `alone`, nothing follows it.
    """
    header = parse_header(_line(f, MAX_HEADER))
    if accept:
        accept(header)
    if alone:
        return header
    count = total = 0
    entry = None
    while count < header["files"]:
        entry = parse_entry(_line(f, MAX_LINE), entry)
        count += 1
        total += entry[1]
        yield
    at = f.tell()
    if f.seek(0, 2) - at != count * DIGEST or total != header["size"]:
        raise OtaError("bad_bundle", "the release announces another number or size of files than it lists")
    return header


def _line(f, most):
    """The next line without its end, at most `most` bytes."""
    line = piece = f.readline(_PIECE)  # readline() takes as much memory as it may return: so in pieces
    while len(piece) == _PIECE and piece[-1] != 10 and len(line) <= most:
        piece = f.readline(_PIECE)
        line += piece
    if line[-1:] != b"\n" or len(line) > most + 1:
        raise OtaError("bad_bundle", "a line of the release is too long or not ended")
    return line[:-1]


def parse_header(line):
    """The header as a dict, complete and checked; OtaError ``bad_bundle``, ``bad_path`` or ``protected_path`` otherwise."""
    if len(line) > MAX_HEADER:
        raise OtaError("bad_bundle", "the release header is longer than %d bytes" % MAX_HEADER)
    header = load_object(line, "the release header")
    if sorted(header) != sorted(HEADER.split()):
        raise OtaError("bad_bundle", "the release header has other keys than " + HEADER)
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
        ("delete", isinstance(header["delete"], list) and len(header["delete"]) <= 64),
    ):
        if not good:
            raise OtaError("bad_bundle", "the release header's %s is missing or wrong" % key)
    for name in header["delete"]:
        paths.check(name)
        if paths.protected(name) or paths.shadows(name) or name in paths.LOADER:
            raise OtaError("protected_path", "delete must not name %s" % name)
    return header


def parse_entry(line, previous):
    """One file's entry; `previous` is the entry before it, or None. OtaError otherwise.

    The line, bytes, must be just as entry_line() writes it: so nothing in it can mean two things.
    """
    if len(line) > MAX_LINE or line.find(b"[", 1) >= 0 or line.find(b"{") >= 0:  # what is nested takes memory
        raise OtaError("bad_bundle", "an entry of the release is longer than %d bytes, or nested" % MAX_LINE)
    try:
        entry = json.loads(line)
        path, size, at = entry
        plain = entry_line(path, size, at) == line + b"\n"
    except (ValueError, TypeError):
        plain = False
    if not plain:
        raise OtaError("bad_bundle", "an entry of the release is not written as it must be")
    paths.check_member(path)
    paths.check_order(previous[0] if previous else None, path)
    if not is_whole(size, MAX_FILE):
        raise OtaError("bad_bundle", "the size of %s is not a size" % path)
    follows = at > previous[2] or (at == previous[2] and max(size, previous[1]) <= PIECE) if previous else at == 0
    if not is_whole(at, MAX_COUNTER) or not follows:
        raise OtaError("bad_bundle", "%s is not where its place in the list says" % path)
    return entry


def header_line(header):
    """A list's first line: bytes with their line feed, as those of entry_line()."""
    pairs = ['"%s":%s' % (key, json.dumps(header[key], separators=(",", ":"))) for key in HEADER.split()]
    return ("{%s}\n" % ",".join(pairs)).encode()


def entry_line(path, size, at):
    return ('["%s",%d,%d]\n' % (path, size, at)).encode()
