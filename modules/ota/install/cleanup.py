"""After an update: what a confirmed, undone or interrupted one has left to do. Every step can be repeated after a power cut."""

import os

import ota_boot

from .. import phases, state
from ..bundle.lists import LIST, PREVIOUS, RUNNING, read_header
from ..errors import OtaError
from ..release import paths
from . import files, loader

_CRITICAL = ("boot.py", "ota_boot.py", "ota_boot_old.py", paths.GUARD, "main.py", "profile.json", "version", "iot_platform")


def after_start(ota):
    """Clear up, and say how the last update ended. Generator; True when a new loader is to be tried with the next boot."""
    module, fresh = ota.module, False
    if ota_boot.state == "confirmed":
        fresh = yield from _after_confirm(ota)
        phases.call("state", "recall", module)
        module.enter("confirmed")
        module.tell(None)
        ota.log("confirmed: version %s stays" % ota.local_version())
    elif ota_boot.state == "undone":
        yield from _after_undo(ota)
        phases.call("state", "recall", module)
        module.enter("rolled_back")
        last = ota.store.get("last")
        module.tell(OtaError(last["reason"], last["message"]))
        text = "rolled back from %s to %s:" % (last["version"], ota.local_version())
        ota.warn(text, last["message"], "(%s)" % last["reason"])
    else:
        yield from clean_up(ota)
        phases.call("state", "told", module)
    module.previous = _kept(ota.local_version())
    return fresh


def clean_up(ota):
    """Remove what an interrupted job has left behind, when no journal exists; a stage stays, to be used again. Generator."""
    if not ota_boot.exists(ota_boot.ota(PREVIOUS + "/journal")):
        yield from _clear((PREVIOUS,))
    yield from _clear(("backup", "reserve", "journal.new", "job.new", "reason", "members"))
    if not ota_boot.exists(ota_boot.ota("stage/id")) or not ota_boot.exists(ota_boot.ota(LIST)):
        yield from _clear(("stage", "loader", LIST))
        ota.store.set("ready", None)


def recursive_delete(path, platform):
    """Delete a file or folder of the tree, journal-free; True when something was there.

    OtaError ``protected_path`` for the root, for what belongs to the board (see paths), for the loader, for the running
    profile and ``main.py``, for the runtime, and for everything that contains one of them; ``bad_path`` for what escapes.
    """
    path = path.strip("/") if isinstance(path, str) else path
    paths.check(path)
    if paths.protected(path) or any(paths.inside(path, c) for c in _CRITICAL):
        raise OtaError("protected_path", "%s is critical and stays" % path)
    found = ota_boot.exists(ota_boot.live(path))
    for _step in files.remove_tree(ota_boot.live(path)):
        platform.board.feed()
    platform.log("ota:", "deleted" if found else "nothing to delete at", path)
    return found


def _after_confirm(ota):
    """Make a confirmed version the old one: floor, loader, kept version, and the disk space back. Generator.

    Returns True when a new loader is to be tried. Every step can be repeated: the state's name stays `confirmed` until the last
    one. Space comes back first: what is then remembered needs some, and a full disk must not keep the board from its next update.
    """
    yield from _clear(("reserve", "stage", LIST))
    ota.discard()  # of an upload: the power can fail between the commit and its removal
    header, store = ota_boot.header, ota.store
    running = read_header(RUNNING)
    if running and running["sequence"]:  # an archive of the `latest` protocol has none
        state.raise_floor(store, running["sequence"])
        store.set("bundled", True)
    _remember(store, {"result": "confirmed"})
    fresh = loader.begin(ota)
    yield from _clear(("loader",))
    if ota.cfg.get("keep_previous") and header.get("old") and not header.get("hold"):
        yield from _keep_backup()
        ota_boot.finish(PREVIOUS + "/journal")
    else:
        yield from _clear((PREVIOUS, "backup"))
        ota_boot.finish()
    return fresh


def _after_undo(ota):
    """Clear up, and remember what failed and why. Generator."""
    header, store = ota_boot.header, ota.store
    if header.get("stage", "stage") == "stage":  # a way back that failed leaves the kept version where it is
        yield from _clear(("stage",))
    yield from _clear(("backup", "loader", "reserve", LIST))
    reason, text = ota_boot.reason()
    if "sequence" in header:
        state.add_failure(store, header["sequence"], header["new"], reason, text)
    _remember(store, {"result": "rolled_back", "reason": reason, "message": text})
    ota_boot.finish()


def _remember(store, last):
    """The update is over: nothing of it stays in the state but `last`, how it ended."""
    state.clear_note()
    last.update({"version": ota_boot.header.get("new", "?"), "from": ota_boot.header.get("old")})
    if last["result"] == "confirmed":
        store.set("offered", None)
        store.set("problem", None)
    elif last["reason"] != "by_hand":
        store.set("problem", [last["version"], last["reason"], last["message"][:160]])
    for key in ("wakes", "refused", "ready", "part", "result", "ran"):
        store.set(key, None)
    store.set("last", last)
    store.save()


def _clear(names):
    for name in names:
        yield from files.remove_tree(ota_boot.ota(name))


def _keep_backup():
    """The files that were replaced become the kept version; the journal itself follows in ota_boot.finish()."""
    backup, previous = ota_boot.ota("backup"), ota_boot.ota(PREVIOUS)
    if ota_boot.exists(backup):
        yield from files.remove_tree(previous)
        os.rename(backup, previous)


def _kept(running):
    """The version that a rollback would bring back, or None."""
    header = ota_boot.read_header(PREVIOUS + "/journal")
    return header["old"] if header and header.get("new") == running else None
