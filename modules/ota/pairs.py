"""Sorted lists of files walked together: the kept one, what deltas have changed in it, and what a new delta changes."""

from .errors import OtaError
from .kept import CHANGES, LIST, RUNNING, entries, lines_of
from .lines import key


def pairs(old, new):
    """``(entry of old or None, entry of new or None)`` for each path in one of the two, in order.

    :param old: an iterator of entries; `new` likewise.
    """
    left, right = next(old, None), next(new, None)
    while left or right:
        before = left and (not right or key(left["path"]) < key(right["path"]))
        same = left and right and key(left["path"]) == key(right["path"])
        yield left if before or same else None, None if before else right
        if before or same:
            left = next(old, None)
        if not before:
            right = next(new, None)


def running():
    """``(n, entry)`` of each file of what runs: the kept list, with the changes of the deltas since then."""
    n = 0
    for old, new in pairs(lines_of(RUNNING), lines_of(CHANGES)):
        entry = new or old
        if entry["size"] is not None:
            yield n, entry
            n += 1


def complete():
    """``(entry, True if it is the delta's)`` of each file of the complete list, in order."""
    for old, new in pairs((entry for _n, entry in entries(RUNNING)), lines_of(LIST)):
        if new and ((old and old["path"] != new["path"]) or (new["size"] is None and not old)):
            raise OtaError("wrong_base", "%s is not what the bundle takes it for" % new["path"])
        if not new:
            yield old, False
        elif new["size"] is not None:
            yield new, True
