"""The `.release` member: a header line (see header), then one JSON line a file, in the order in which the files follow.

The list of a delta has only what is not the same in its base: ``patch`` in an entry says that a patch follows instead of the
file, and an entry whose size is null, without a digest, that the file goes.

This file decides what is valid; it opens nothing and writes nothing. Host and board use the same code.

>>> parse_entry('{"path":"main.py","size":3,"sha256":"' + "0" * 64 + '"}', None)["size"]
3
"""

from . import paths
from .checks import check_keys, is_digest, is_whole, load_object
from .errors import OtaError

MAX_LINE = 512  # bytes of an entry's line
MAX_FILE = 8 * 1024 * 1024

_ENTRY = ("path", "size", "sha256")
_GONE = ("path", "size")
_NO_PATCH = ("0" * 64, 0)


def parse_entry(line, previous, delta=False):
    """One file's entry as a dict; `previous` is the path before it, or None. OtaError otherwise."""
    if len(line) > MAX_LINE:
        raise OtaError("bad_bundle", "an entry of the release is longer than %d bytes" % MAX_LINE)
    entry = load_object(line, "an entry of the release")
    gone = delta and "size" in entry and entry["size"] is None
    optional = () if gone else ("patch",) if delta else ("excluded",)
    check_keys(entry, _GONE if gone else _ENTRY, optional, "an entry of the release")
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


def _check_patch(path, value):
    """``[digest of the base, bytes on the wire]``."""
    if not isinstance(value, (list, tuple)) or len(value) != 2 or not is_digest(value[0]) or not is_whole(value[1], MAX_FILE):
        raise OtaError("bad_bundle", "the patch of %s is not a digest and a size" % path)
