"""The list of a release, as its bundle has brought it: is it genuine, for this board, and whole?"""

import ota_boot
from micropython import const

from ..errors import OtaError
from ..release import manifest, policy, signature
from .lists import LIST

_LINE = const(256)


def check(ota, head, force, expect):
    """Check ``/.ota/list``: its signature, then what it says. Generator; returns the header.

    :param head: what head.fetch() has returned.
    :param expect: ``(version, sequence)`` that was announced, or None.
    """
    rules = policy.Rules(ota.name_on_server, ota.keys, ota.floor, bool(force), ota.platform.board.now(), expect)
    return (yield from check_release(rules, head[0], head[1]))


def check_release(rules, digest, sig):
    """The same with policy.Rules, the list's SHA-256 and its signature."""
    if rules.keys:
        signature.check(digest, sig, rules.keys)
        yield
    return (yield from check_lines(rules))


def check_lines(rules):
    """Header, entries, their order, count and sizes. Generator; returns the header.

    :param rules: policy.Rules; None where nobody knows for which board it is.
    """
    with open(ota_boot.ota(LIST), "rb") as f:
        header = manifest.parse_header(_line(f, manifest.MAX_HEADER))
        if rules:
            policy.check_header(header, rules)
        count = total = 0
        entry = None
        while line := _line(f, manifest.MAX_LINE):
            entry = manifest.parse_entry(line, entry)
            count += 1
            total += entry["size"]
            yield
    if count != header["files"] or total != header["size"]:
        raise OtaError("bad_bundle", "the release announces another number or size of files than it lists")
    return header


def _line(f, most):
    """The next line without its end, 1 to `most` bytes; empty at the end of the file."""
    line = piece = f.readline(_LINE)  # readline() takes as much memory as it may return: so in pieces
    while len(piece) == _LINE and piece[-1] != 10 and len(line) <= most:
        piece = f.readline(_LINE)
        line += piece
    if line and (line[-1] != 10 or not 1 < len(line) <= most + 1):  # an empty one would look like the end, and hide the rest
        raise OtaError("bad_bundle", "a line of the release is empty, too long or not ended")
    return line[:-1]
