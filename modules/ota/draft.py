"""A stage that is only counted: what an update would write and delete."""

import ota_boot

from . import files
from .excluded import excluded, skips
from .kept import LIST, RUNNING, entries, lines_of
from .pairs import pairs


class Draft:
    """A visitor (see bundle) that writes nothing. `found` has ``files write delete``: numbers, `write` in bytes."""

    def __init__(self, names, view):
        self.found = {"files": 0, "write": 0, "delete": 0}
        self._excluded = names
        self._view = view

    def begin(self, header, _digest, _signature):
        """Count. Generator."""
        full = header["base"] is None
        for old, new in pairs((entry for _n, entry in entries(RUNNING)), lines_of(LIST)):
            if new and new["size"] is not None:
                yield from self._count_written(new)
            elif old and (full or new) and not old.get("excluded"):
                self._count_deleted(old["path"])
            yield
        for name in header["delete"]:
            yield from self._count_below(name)

    def _count_written(self, entry):
        path = entry["path"]
        if not skips(path, self._excluded):
            if not (yield from files.same(ota_boot.live(path), entry["size"], entry["sha256"], self._view)):
                self.found["files"] += 1
                self.found["write"] += entry["size"]

    def _count_deleted(self, path):
        if files.exact(ota_boot.live(path)) and not excluded(path, self._excluded):
            self.found["delete"] += 1

    def _count_below(self, name):
        """What no list has, below a name that the release deletes. Generator."""
        if not ota_boot.exists(ota_boot.live(name)):
            return
        for path in files.walk(name) if files.is_folder(ota_boot.live(name)) else (name,):
            if not any(path == entry["path"] for list_name in (LIST, RUNNING) for _n, entry in entries(list_name)):
                self._count_deleted(path)
            yield
