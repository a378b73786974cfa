"""Lists of files on flash that have been checked before: the release that runs, and the one that is being installed."""

import json

import ota_boot
from micropython import const

LIST = "list"  # the checked list of the release being read, below /.ota
RUNNING = "release"  # the list of what runs
PREVIOUS = "previous"  # the folder of the kept version
DIGEST = 32  # bytes; release.manifest has it too: importing that would load all rules of a list (a test compares them)
_READ = const(8)  # digests at once
# The path of entry n in a folder. An older loader's has another form, which older modules know: so it has another name as well
cell = getattr(ota_boot, "cell", None) or ota_boot.slot


def entries(name=LIST):
    """``(n, [path, size, digest, at])`` of each file in the list ``/.ota/<name>``. Nothing without a list.

    A board's own list has zeros for a file that its profile excludes: then the digest is empty.
    """
    header = read_header(name)
    if not header:
        return
    with open(ota_boot.ota(name), "rb") as f:
        f.readline()
        count = header["files"]
        for n in range(count):
            place = n % _READ * DIGEST
            if not place:
                at = f.tell()
                f.seek((n - count) * DIGEST, 2)
                digests = f.read(_READ * DIGEST)
                f.seek(at)
            path, size, at = json.loads(f.readline())
            digest = digests[place : place + DIGEST]
            yield n, [path, size, digest if any(digest) else b"", at]


def following(items, end=None):
    """The next of an iterator, `end` when there is none. Before 1.25 MicroPython's next() takes no second argument."""
    for item in items:
        return item
    return end


def beside_running():
    """``(n, entry, the running version's entry)`` of each path in one of the two lists or both: they are sorted. Generator.

    What one of them has not is None.
    """
    from ..release.paths import key  # who only reads a bundle needs no rules for it

    end = 0, None
    listed, running = entries(), entries(RUNNING)
    (n, entry), (_m, old) = following(listed, end), following(running, end)
    while entry or old:
        if entry and old and entry[0] == old[0]:
            yield n, entry, old
            (n, entry), (_m, old) = following(listed, end), following(running, end)
        elif not old or (entry and key(entry[0]) < key(old[0])):
            yield n, entry, None
            n, entry = following(listed, end)
        else:
            yield n, None, old
            _m, old = following(running, end)


def read_header(name):
    """The header of the list ``/.ota/<name>``, or None."""
    try:
        with open(ota_boot.ota(name), "rb") as f:
            header = json.loads(f.readline())
    except (OSError, ValueError):
        return None
    return header if isinstance(header, dict) and isinstance(header.get("sequence"), int) else None


def target(n, path):
    """Where entry `n` of the list is staged."""
    return ota_boot.ota("loader") if path == "ota_boot.py" else cell("stage", n)
