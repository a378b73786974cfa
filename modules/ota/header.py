"""The first line of the `.release` member: what the release is, for which board. Its other lines: see release.

This file decides what is valid; it opens nothing and writes nothing. Host and board use the same code.
"""

from iot_platform.words import name_ok

from . import versions
from .checks import FORMAT, MAX_COUNTER, check_keys, is_digest, is_whole, load_object
from .errors import OtaError
from .lines import HEADER

MAX_HEADER = 4096  # bytes of the line
MAX_FILES = 5000
MAX_NOTES = 2048


def parse_header(line):
    """The header as a dict, complete and checked; OtaError ``bad_bundle`` or ``bad_path`` otherwise."""
    if len(line) > MAX_HEADER:
        raise OtaError("bad_bundle", "the release header is longer than %d bytes" % MAX_HEADER)
    header = load_object(line, "the release header")
    check_keys(header, HEADER.split(), (), "the release header")
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
    if header["micropython"] != "" and not versions.valid(header["micropython"]):
        raise _bad("micropython")
    _check_delete(header["delete"])
    return header


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
    if names:
        from . import paths
    for name in names:
        paths.check(name)
        if paths.protected(name) or paths.shadows(name) or name in paths.LOADER:
            raise OtaError("protected_path", "delete must not name %s" % name)


def _bad(key):
    return OtaError("bad_bundle", "the release header's %s is missing or wrong" % key)
