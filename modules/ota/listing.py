"""The list of a release: is it for this board, and is it whole?"""

import gc
import hashlib

import ota_boot

from . import files
from .errors import OtaError
from .kept import LIST
from .lines import tree_line

_PIECE = 256


def check(rules=None, forget=gc.collect):
    """Check ``/.ota/list``: header, entries, their order, count, sizes and tree digest. Generator; returns the header.

    The tree digest of a delta is that of the complete list, which only the board with the base can make: see merge.

    :param rules: rules.Rules; None where nobody knows for which board it is.
    :param forget: called between header and entries, to give back memory.
    """
    with open(ota_boot.ota(LIST), "rb") as f:
        header = _header(f, rules)
        forget()
        yield from _entries(f, header)
    return header


def _header(f, rules):
    from .header import MAX_HEADER, parse_header

    header = parse_header(_line(f, MAX_HEADER))
    if rules:
        from . import policy

        policy.check_header(header, rules)
    return header


def _entries(f, header):
    from . import release

    tree = hashlib.sha256()
    total = count = 0
    previous = None
    delta = header["base"] is not None
    line = _line(f, release.MAX_LINE)
    while line:
        entry = release.parse_entry(line, previous, delta)
        if "excluded" in entry:
            raise OtaError("bad_bundle", "an entry of the release has an unknown key")
        previous = entry["path"]
        count += 1
        total += entry["size"] or 0
        if not delta:
            tree.update(tree_line(entry))
        yield
        line = _line(f, release.MAX_LINE)
    if count != header["files"] or total != header["size"]:
        raise OtaError("bad_bundle", "the release announces another number or size of files than it lists")
    if not delta and files.hexdigest(tree) != header["tree"]:
        raise OtaError("bad_digest", "the list of files does not match its own digest")


def _line(f, most):
    """The next line without its end, 1 to `most` bytes; empty at the end of the file."""
    line = piece = f.readline(_PIECE)  # readline() takes as much memory as it may return: so in pieces
    while len(piece) == _PIECE and piece[-1] != 10 and len(line) <= most:
        piece = f.readline(_PIECE)
        line += piece
    if line and (line[-1] != 10 or not 1 < len(line) <= most + 1):  # an empty one would look like the end, and hide the rest
        raise OtaError("bad_bundle", "a line of the release is empty, too long or not ended")
    return line[:-1]
