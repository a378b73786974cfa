"""After an update: what a confirmed, undone or interrupted one has left to do. Every step can be repeated after a power cut."""

import os

import ota_boot

from . import files
from .kept import LIST, PREVIOUS, RUNNING, read_header


def after_confirm(ota):
    """Make a confirmed version the old one: floor, loader, kept version, and the disk space back. Generator.

    Every step can be repeated: the state's name stays `confirmed` until the last one. Space comes back first: what is then
    remembered needs some, and a full disk must not keep the board from its next update.
    """
    yield from _clear(("reserve", "stage", LIST))
    header = ota_boot.header
    running = read_header(RUNNING)
    if running and running["sequence"]:  # an archive of the `latest` protocol has none
        ota.store.raise_floor(running["sequence"])
        ota.store.set("bundled", True)
    ota.store.set("wakes", None)
    ota.store.set("refused", None)
    ota.store.set("no_delta", None)
    ota.store.set("last", {"version": header.get("new"), "from": header.get("old"), "result": "confirmed"})
    ota.store.save()
    yield from _replace_loader(ota)
    yield from _clear(("loader",))
    if ota.cfg.get("keep_previous") and header.get("old") and not header.get("hold"):
        yield from _keep_backup()
        ota_boot.finish(PREVIOUS + "/journal")
    else:
        yield from _clear((PREVIOUS, "backup"))
        ota_boot.finish()


def after_undo(ota):
    """Clear up, and remember what failed and why. Generator."""
    header = ota_boot.header
    if header.get("stage", "stage") == "stage":  # a way back that failed leaves the kept version where it is
        yield from _clear(("stage",))
    yield from _clear(("backup", "loader", "reserve", LIST))
    reason, text = ota_boot.reason()
    version = header.get("new", "?")
    if "sequence" in header:
        ota.store.add_failure(header["sequence"], version, reason, text)
    ota.store.set("wakes", None)
    last = {"version": version, "from": header.get("old"), "result": "rolled_back", "reason": reason, "message": text}
    ota.store.set("last", last)
    ota.store.save()
    ota_boot.finish()


def clean_up(ota):
    """Remove what an interrupted job has left behind, when no journal exists. Generator."""
    if not ota_boot.exists(ota_boot.ota(PREVIOUS + "/journal")):
        yield from _clear((PREVIOUS,))
    yield from _clear(("backup", "reserve", "journal.new", "reason"))
    staged = (ota.store.get("part") or {}).get("staged")  # straight from the network: there is no archive
    if not staged and not ota_boot.exists(ota.archive):  # power failed while a refused download was being cleared up
        yield from _clear(("stage", "loader", LIST))


def _clear(names):
    for name in names:
        yield from files.remove_tree(ota_boot.ota(name))


def _replace_loader(ota):
    """A new loader, now that its release is confirmed. There is always one that works: see boot.py."""
    new, running, old = ota_boot.ota("loader"), ota_boot.live("ota_boot.py"), ota_boot.live("ota_boot_old.py")
    if not ota_boot.exists(new):
        return
    if ota_boot.exists(running):
        if ota_boot.exists(old):
            os.remove(old)
        os.rename(running, old)
    os.rename(new, running)
    ota.log("the recovery loader was replaced")
    yield


def _keep_backup():
    """The files that were replaced become the kept version; the journal itself follows in ota_boot.finish()."""
    backup, previous = ota_boot.ota("backup"), ota_boot.ota(PREVIOUS)
    if ota_boot.exists(backup):
        yield from files.remove_tree(previous)
        os.rename(backup, previous)
