"""Looking after what runs: finding damaged files and repairing them, and saying what an update would do."""

import ota_boot
from micropython import const

from . import obtain, updates
from .bundle import reader
from .bundle.lists import LIST, RUNNING, entries, read_header
from .errors import OtaError
from .install import files
from .release.paths import excluded, skips
from .transport.ranges import FromServer

_MOST = const(32)  # damaged files that are named
_ORDER = ("from", "to", "size", "files", "write", "delete", "free")


def verify(ota, repair):
    """Compare the running version with its list, and repair what is damaged. Generator; returns the paths, at most 32.

    The repair is the bundle of the running version by the way of any update: stage, journal, trial. If the server has a
    newer one that this board would take, it is that. OtaError ``no_update`` when there is no list, or nothing to repair with.
    """
    before = ota.module.state
    ota.enter("checking")
    if read_header(RUNNING) is None:
        raise OtaError("no_update", "there is no list of the running version to compare with")
    damaged = []
    for _n, entry in entries(RUNNING):
        path = entry["path"]
        if not entry.get("excluded") and not excluded(path, ota.excluded):
            if not (yield from files.same(ota_boot.live(path), entry["size"], entry["sha256"], ota.view)):
                ota.warn("damaged:", path)
                if len(damaged) < _MOST:
                    damaged.append(path)
        yield
    ota.log("verified: %d damaged files" % len(damaged))
    ota.platform.bus.publish("ota/damaged", len(damaged))
    if damaged and repair:
        offer = yield from updates.look(ota, True)
        if offer and offer["version"] != ota.local_version():
            offer = yield from updates.look(ota, False)
        if not offer or "head" not in offer:
            raise OtaError("no_update", "the server does not offer version %s, which runs here, any more" % ota.local_version())
        ota.available(offer)
        yield from updates.bring(ota, offer, True, lambda: "")
    else:
        ota.enter(before)
    return damaged


def plan(ota, _flag):
    """What a check would lead to now, without doing it. Generator; returns a dict, see Module.plan."""
    before = ota.module.state
    ota.enter("checking")
    found = {"from": ota.local_version(), "to": None}
    offer = yield from updates.look(ota, False)
    if offer:
        found.update({"to": offer["version"], "size": offer["size"], "free": files.free_bytes()})
        if "head" in offer:  # an archive of the `latest` protocol has no list
            yield from _read_head(ota, offer, found)
    ota.enter(before)
    ota.log("plan:", ", ".join("%s %s" % (key, found[key]) for key in _ORDER if key in found))
    return found


def _read_head(ota, offer, found):
    """Read the list at the beginning of the bundle, and compare; only a stage that was begun before is lost by it. Generator."""
    source = FromServer(ota.http(), ota.url(offer["file"]), offer["head"], offer["size"], ota.log)
    rules = obtain.rules(ota, False, (offer["version"], offer["sequence"]))
    yield from ota.discard()
    try:
        yield from reader.read_head(source, rules, ota.view, _Draft(ota, found))
    finally:
        source.close()
        yield from files.remove_tree(ota_boot.ota(LIST))


class _Draft:
    """A visitor (see bundle.reader) that writes nothing, and counts what an update would write and delete."""

    def __init__(self, ota, found):
        self._ota = ota
        self._found = found
        found.update({"files": 0, "write": 0, "delete": 0})

    def begin(self, header, _digest, _sig):
        """Count: the new list's files that differ, and the old one's that are in no list any more. Generator."""
        for _n, entry in entries():
            path = entry["path"]
            if not skips(path, self._ota.excluded):
                if not (yield from files.same(ota_boot.live(path), entry["size"], entry["sha256"], self._ota.view)):
                    self._found["files"] += 1
                    self._found["write"] += entry["size"]
            yield
        for _n, entry in entries(RUNNING):
            if not entry.get("excluded"):
                yield from self._count_deleted(entry["path"])
        for name in header["delete"]:
            if ota_boot.exists(ota_boot.live(name)):
                for path in files.walk(name) if files.is_folder(ota_boot.live(name)) else (name,):
                    if not any(path == entry["path"] for _n, entry in entries(RUNNING)):
                        yield from self._count_deleted(path)

    def _count_deleted(self, path):
        if files.exact(ota_boot.live(path)) and not excluded(path, self._ota.excluded):
            for _n, entry in entries():
                if entry["path"] == path:
                    return
                yield
            self._found["delete"] += 1
