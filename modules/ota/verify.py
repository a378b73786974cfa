"""Looking after what runs: finding damaged files, counting what an update would do, and making room for one."""

import io
import os

import ota_boot
from micropython import const

from . import updates
from .bundle.lists import LIST, RUNNING, entries, read_header
from .errors import OtaError
from .install import files
from .release.paths import excluded, inside, skips

_MOST = const(32)  # damaged files that are named


def verify(ota, repair):
    """See Module.verify. Generator. OtaError ``no_update`` when there is no list, or nothing to repair with.

    The repair is the bundle of the running version, or a newer one that this board would take, by the way of any update.
    """
    before = ota.state
    ota.enter("checking")
    damaged = yield from _damaged(ota)
    if damaged and repair:
        offer = yield from ota.look(True)
        if offer and offer["version"] != ota.local_version():
            offer = yield from ota.look(False)
        if not offer or "head" not in offer:
            raise OtaError("no_update", "the server does not offer version %s, which runs here, any more" % ota.local_version())
        updates.available(ota, offer)
        yield from updates.bring(ota, offer, True)
    else:
        ota.enter(before)
    return damaged


def plan(ota, _flag):
    """What a check would lead to now, without doing it. Generator; returns a dict, see Module.plan."""
    before = ota.state
    ota.enter("checking")
    found = {"from": ota.local_version(), "to": None}
    offer = yield from ota.look(False)
    if offer:
        found.update({"to": offer["version"], "size": offer["size"]})
        if ota.store.get("ready") == [offer["version"], offer["source"]]:  # the list is there, and stays
            found.update((yield from _count(ota, read_header(LIST))))
        elif "head" in offer:  # an archive of the `latest` protocol has no list
            yield from ota.clear_stage()
            _head, header = yield from updates.checked_head(ota, offer, False)
            found.update((yield from _count(ota, header)))
            yield from ota.clear_stage()
    ota.enter(before if before != "ready" or ota.store.get("ready") else "available")
    ota.log("plan:", ", ".join("%s %s" % item for item in sorted(found.items())))
    return found


def make_room(ota):
    """The disk is full: what goes in any case goes now. Generator; True when something went.

    That is an upload that nobody installed, the kept version, else what the release is to delete, by its signed header alone: for
    the list there may be no room. No undo brings it back: a journal would have to keep it. Files of the running version are left
    to the journal.
    """
    if ota_boot.exists(ota.archive):  # what is left of an upload
        ota.discard()
        return True
    if ota_boot.exists(ota_boot.ota("previous")):
        yield from files.give_up_previous(ota)
        return True
    _head, header = yield from updates.checked_head(ota, ota.offer, True, io.BytesIO())
    gone = 0
    for name in header["delete"] if read_header(RUNNING) else ():
        gone += yield from _delete(ota, name, files.is_folder(ota_boot.live(name)))
    return bool(gone)


def _delete(ota, path, folder):
    """Delete what no list names; an empty folder too. Generator; returns how many files went."""
    gone, live = 0, ota_boot.live(path)
    if folder:
        found = files.listed(live)
        for name in found:
            gone += yield from _delete(ota, path + "/" + name, found[name])
        if gone and not files.listed(live):
            os.rmdir(live)
    elif _goes(ota, path) and not any(inside(path, entry[0]) for _n, entry in entries(RUNNING)):
        os.remove(live)
        ota.log("short of space: deleted", path)
        gone = 1
    yield
    return gone


def _damaged(ota):
    """The paths of the running version that are not as its list says, at most 32. Generator."""
    if read_header(RUNNING) is None:
        raise OtaError("no_update", "there is no list of the running version to compare with")
    found = []
    for _n, (path, size, digest, _at) in entries(RUNNING):
        if digest and not skips(path, ota.excluded):
            if not (yield from files.same(ota_boot.live(path), size, digest, ota.view)):
                ota.warn("damaged:", path)
                if len(found) < _MOST:
                    found.append(path)
        yield
    ota.log("verified: %d damaged files" % len(found))
    ota.platform.bus.publish("ota/damaged", len(found))
    return found


def _count(ota, header):
    """What the release in ``/.ota/list`` would change. Generator; returns ``files write delete free``: see Module.plan."""
    found = {"files": 0, "write": 0, "delete": 0, "free": files.space()[0]}
    for _n, (path, size, digest, _at) in entries():
        if not skips(path, ota.excluded):
            if not (yield from files.same(ota_boot.live(path), size, digest, ota.view)):
                found["files"] += 1
                found["write"] += size
        yield
    for _n, (path, _size, digest, _at) in entries(RUNNING):
        if digest and _goes(ota, path):
            found["delete"] += 1
        yield
    for name in header["delete"]:
        if ota_boot.exists(ota_boot.live(name)):
            for path in files.walk(name) if files.is_folder(ota_boot.live(name)) else (name,):
                listed = any(path == entry[0] for _n, entry in entries(RUNNING))
                found["delete"] += not listed and _goes(ota, path)
                yield
    return found


def _goes(ota, path):
    """True for a file that is there, and that neither the new list nor the profile keeps."""
    if not files.exact(ota_boot.live(path)) or excluded(path, ota.excluded):
        return False
    return not any(path == entry[0] for _n, entry in entries())
