"""Looking after what runs: finding damaged files, and counting what an update would do."""

import ota_boot
from micropython import const

from .bundle.lists import RUNNING, entries, read_header
from .errors import OtaError
from .install import files
from .release.paths import excluded, skips

_MOST = const(32)  # damaged files that are named


def damaged(ota):
    """Compare the running version with its list. Generator; returns the paths that differ, at most 32."""
    if read_header(RUNNING) is None:
        raise OtaError("no_update", "there is no list of the running version to compare with")
    found = []
    for _n, entry in entries(RUNNING):
        path = entry["path"]
        if not entry.get("excluded") and not excluded(path, ota.excluded):
            if not (yield from files.same(ota_boot.live(path), entry["size"], entry["sha256"], ota.view)):
                ota.warn("damaged:", path)
                if len(found) < _MOST:
                    found.append(path)
        yield
    ota.log("verified: %d damaged files" % len(found))
    ota.platform.bus.publish("ota/damaged", len(found))
    return found


def count(ota, header):
    """What the release in ``/.ota/list`` would change. Generator; returns ``files write delete free``: see Module.plan."""
    found = {"files": 0, "write": 0, "delete": 0, "free": files.free_bytes()}
    for _n, entry in entries():
        path = entry["path"]
        if not skips(path, ota.excluded):
            if not (yield from files.same(ota_boot.live(path), entry["size"], entry["sha256"], ota.view)):
                found["files"] += 1
                found["write"] += entry["size"]
        yield
    for _n, entry in entries(RUNNING):
        if not entry.get("excluded") and _goes(ota, entry["path"]):
            found["delete"] += 1
        yield
    for name in header["delete"]:
        if ota_boot.exists(ota_boot.live(name)):
            for path in files.walk(name) if files.is_folder(ota_boot.live(name)) else (name,):
                listed = any(path == entry["path"] for _n, entry in entries(RUNNING))
                found["delete"] += not listed and _goes(ota, path)
                yield
    return found


def _goes(ota, path):
    """True for a file that is there, and that neither the new list nor the profile keeps."""
    if not files.exact(ota_boot.live(path)) or excluded(path, ota.excluded):
        return False
    return not any(path == entry["path"] for _n, entry in entries())
