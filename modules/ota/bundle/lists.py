"""Lists of files on flash that have been checked before: the release that runs, and the one that is being installed."""

import json

import ota_boot

LIST = "list"  # the checked list of the release being read, below /.ota
RUNNING = "release"  # the list of what runs
PREVIOUS = "previous"  # the folder of the kept version


def entries(name=LIST):
    """``(n, entry)`` of each file in the list ``/.ota/<name>``. Nothing without a list."""
    if not ota_boot.exists(ota_boot.ota(name)):
        return
    with open(ota_boot.ota(name), "rb") as f:
        f.readline()
        n = 0
        for line in f:
            yield n, json.loads(line)
            n += 1


def following(items, end=None):
    """The next of an iterator, `end` when there is none. Before 1.25 MicroPython's next() takes no second argument."""
    for item in items:
        return item
    return end


def beside_running():
    """``(n, entry, the entry of the running version's list for that path, or None)``: both lists are sorted. Generator."""
    from ..release.paths import key  # who only reads a bundle needs no rules for it

    running = entries(RUNNING)
    _m, old = following(running, (0, None))
    for n, entry in entries():
        while old and key(old["path"]) < key(entry["path"]):
            _m, old = following(running, (0, None))
        yield n, entry, old if old and old["path"] == entry["path"] else None


def read_header(name):
    """The header of the list ``/.ota/<name>``, or None."""
    try:
        with open(ota_boot.ota(name), "rb") as f:
            header = json.loads(f.readline())
    except (OSError, ValueError):
        return None
    return header if isinstance(header, dict) and isinstance(header.get("sequence"), int) else None


def target(n, entry):
    """Where entry `n` of the list is staged."""
    return ota_boot.ota("loader") if entry["path"] == "ota_boot.py" else ota_boot.slot("stage", n)


def running_sequence():
    """The sequence of the release that runs; 0 where it has none."""
    header = read_header(RUNNING)
    return header["sequence"] if header else 0
