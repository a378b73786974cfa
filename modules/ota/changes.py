"""What is kept of a delta's list: what has changed since the last full bundle, not the complete list again.

That takes a few hundred bytes of flash instead of thousands. When it grows to half of the list, the complete list is written
after all.
"""

import os

import ota_boot

from .excluded import excluded as is_excluded
from .kept import CHANGES, LIST, RUNNING, lines_of
from .lines import header_line, line
from .pairs import complete, pairs


def stage_list(stage):
    """Write what is to be kept of the new version's list into the stage, if it does not lie there already. Generator."""
    short = yield from _is_short(stage.excluded)
    stage.list_path = ".ota/" + (CHANGES if short else RUNNING)
    slot = ota_boot.slot("stage", stage.header["files"])
    if ota_boot.exists(slot) and (yield from same_list(stage, slot)):
        return
    ota_boot.make_parents(slot)
    with open(slot, "wb") as out:
        for text in _lines(stage, short):
            out.write(text)
            yield


def same_list(stage, path):
    """True when the file at `path` is exactly what is to be kept. Generator."""
    with open(path, "rb") as f:
        for text in _lines(stage, stage.list_path == ".ota/" + CHANGES):
            if f.read(len(text)) != text:
                return False
            yield
        return not f.read(1)


def _is_short(excluded):
    """True when the changes are worth being kept as such, and no other entry of the list must be marked anew. Generator."""
    size = sum(os.stat(ota_boot.ota(name))[6] for name in (LIST, CHANGES) if ota_boot.exists(ota_boot.ota(name)))
    if size > os.stat(ota_boot.ota(RUNNING))[6] // 2:
        return False
    for entry, changed in complete():
        if not changed and bool(entry.get("excluded")) != is_excluded(entry["path"], excluded):
            return False
        yield
    return True


def _lines(stage, short):
    count = size = 0
    for entry, _changed in complete():
        count += 1
        size += entry["size"]
    yield header_line(dict(stage.header, base=None, files=count, size=size))
    if short:
        for old, new in pairs(lines_of(CHANGES), lines_of(LIST)):
            yield _line(new or old, stage.excluded)
    else:
        for entry, _changed in complete():
            yield _line(entry, stage.excluded)


def _line(entry, excluded):
    return line(entry, is_excluded(entry["path"], excluded))
