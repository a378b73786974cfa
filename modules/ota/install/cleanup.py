"""After every start: what a confirmed, undone or interrupted update has left to do. Every step can be repeated after a power cut.

So can those of a new loader's trial (docs/architecture.md): no unproven one ever takes a proven one's place or name. One that has
failed, the proven one removes (ota_boot._drop_new).
"""

import os
import time

import ota_boot
from micropython import const

from .. import phases, state
from ..bundle.lists import LIST, PREVIOUS, RUNNING, cell, read_header
from ..errors import OtaError
from ..release import paths
from . import files

_DAY = const(86_400)
_CRITICAL = ("boot.py", "ota_boot.py", "ota_boot_old.py", paths.GUARD, "main.py", "profile.json", "version", "iot_platform")
_GOOD_MS = 30_000  # as the runtime's: a boot that has run for so long was a good one
# The rest was used
_ASKED = const("asked commit confirm entries feed finish hold let_go note_failure note_success reason cell undo")


def after_start(ota):
    """The job of every start, after a trial if there is one. Generator.

    Not a phase, which has a loop after it: whoever reads that the version stays finds OTA free, and the next check planned.
    """
    fresh = yield from _settle(ota)
    if fresh or getattr(ota_boot, "TRIAL", False):  # an older loader does not say
        yield from _watch_loader(ota, fresh)
    elif ota.platform.safe_mode and ota.module.previous and ota.module.state not in ("confirmed", "rolled_back"):
        ota.warn("boots keep failing: going back to", ota.module.previous)
        yield from phases.part("updates").roll_back(ota)


def _settle(ota):
    """Clear up, and say how the last update ended. Generator; True when a new loader is to be tried with the next boot."""
    module, fresh = ota.module, False
    if ota_boot.state == "confirmed":
        fresh = yield from _confirm(ota)
        phases.call("state", "recall", module)
        module.enter("confirmed")
        module.tell(None)
        ota.log("confirmed: version %s stays" % ota.local_version())
    elif ota_boot.state == "undone":
        yield from _undo(ota)
        phases.call("state", "recall", module)
        module.enter("rolled_back")
        last = ota.store.get("last")
        module.tell(OtaError(last["reason"], last["message"]))
        told = (last["version"], ota.local_version(), last["message"], last["reason"])
        ota.warn("rolled back from %s to %s: %s (%s)" % told)
    else:
        yield from clean_up(ota)
        phases.call("state", "told", module)
        if ota_boot.exists(ota.archive) and not module.noted:
            ota.log("%s waits for `ota install`" % ota.archive)  # the power may have failed meanwhile
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
    """See Module.recursive_delete. OtaError ``bad_path`` for what escapes, else ``protected_path``."""
    path = path.strip("/") if isinstance(path, str) else path
    paths.check(path)
    if paths.protected(path) or any(paths.inside(path, c) for c in _CRITICAL):
        raise OtaError("protected_path", "%s is critical and stays" % path)
    found = ota_boot.exists(ota_boot.live(path))
    for _step in files.remove_tree(ota_boot.live(path)):
        platform.board.feed()
    platform.log("ota:", "deleted" if found else "nothing to delete at", path)
    return found


def _confirm(ota):
    """Make a confirmed version the old one: floor, loader, kept version, and the disk space back. Generator.

    Returns True when a new loader is to be tried. Every step can be repeated: the state's name stays `confirmed` until the last
    one. Space comes back first: what is then remembered needs some.
    """
    yield from _clear(("reserve", "stage", LIST))
    ota.discard()  # of an upload: the power can fail between the commit and its removal
    header, store = ota_boot.header, ota.store
    running = read_header(RUNNING)
    if running and running["sequence"] and "hold" not in header:  # an archive of the `latest` protocol has none
        state.raise_floor(store, running["sequence"])
    if ota.asked:  # the trial's check counts as one: when to ask next is saved with the rest, not once more at the job's end
        phases.call("schedule", "after_check", ota.module, None)
        ota.asked = False
    now, counter = ota.platform.board.now(), store.get("published", {}).get(ota.channel, 0)
    if now and ota.keys and now + _DAY >= counter > store.get("since", 0):
        store.set("since", counter)
    if header.get("hold") == 0:  # no floor keeps away what came by the `latest` protocol
        state.add_failure(store, 0, header["old"], "by_hand", "the board went back from it")
    _note(store, {"result": "confirmed"})
    fresh = "sequence" in header and _try_out(ota)  # a way back has none, and brings none: what lies there is another release's
    yield from _clear(("loader",))
    if header:  # the journal is whole
        yield from _move_aside(ota)
    if header.get("repair"):  # the version before it is still the one that is kept
        yield from _clear(("backup",))
        ota_boot.finish()
    elif ota.cfg.get("keep_previous") and header.get("old") and "hold" not in header:
        if ota_boot.exists(ota_boot.ota("backup")):
            yield from _clear((PREVIOUS,))
            os.rename(ota_boot.ota("backup"), ota_boot.ota(PREVIOUS))
        ota_boot.finish(PREVIOUS + "/journal")  # the journal itself follows
    else:
        yield from _clear((PREVIOUS, "backup"))
        ota_boot.finish()
    return fresh


def _move_aside(ota):
    """What the user had where the new version has something lies in ``/moved`` from now on. Each is one rename. Generator."""
    with open(ota_boot.ota("confirmed")) as f:
        for line in f:
            parts = line.rstrip("\n").split(" ", 2)
            if parts[1][1:] == "1m" and ota_boot.exists(cell("backup", int(parts[0]))):
                files.move_aside(ota, cell("backup", int(parts[0])), parts[2])
            yield


def _undo(ota):
    """Clear up, and remember what failed and why. Generator."""
    header, store = ota_boot.header, ota.store
    if header.get("stage", "stage") == "stage":  # a way back that failed leaves the kept version where it is
        yield from _clear(("stage",))
    yield from _clear(("backup", "loader", "reserve", LIST))
    reason, text = ota_boot.reason()
    if "sequence" in header:
        state.add_failure(store, header["sequence"], header["new"], reason, text)
    _note(store, {"result": "rolled_back", "reason": reason, "message": text})
    ota_boot.finish()


def _note(store, last):
    """The update is over: nothing of it stays in the state but `last`, how it ended."""
    state.clear_note()
    last.update({"version": ota_boot.header.get("new", "?"), "from": ota_boot.header.get("old")})
    if last["result"] == "confirmed":
        store.set("offered", None)
        store.set("problem", None)
    elif last["reason"] != "by_hand":
        store.set("problem", [last["version"], last["reason"], last["message"][:160]])
    for key in ("wakes", "refused", "ready", "part", "result", "ran", "order"):
        store.set(key, None)
    store.set("last", last)
    store.save()


def _clear(names):
    for name in names:
        yield from files.remove_tree(ota_boot.ota(name))


def _kept(running):
    """The version that a rollback would bring back, or None."""
    header = ota_boot.read_header(PREVIOUS + "/journal")
    return header["old"] if header and header.get("new") == running else None


# -- a new loader


def _try_out(ota):
    """The release is confirmed: from the next boot on its loader is on trial. False where there is no new one."""
    new = ota_boot.ota("loader")
    if not ota_boot.exists(new):
        return False
    if "ota_boot.py" in ota.excluded:
        ota.warn("a new loader cannot be tried: the proven one stays")
        return False
    os.rename(new, ota_boot.ota("loader_0.py"))
    return True


def _watch_loader(ota, fresh):
    """Restart for a trial that is to begin, or see the one of this boot to its end: nothing is installed meanwhile. Generator.

    Boots that keep failing may be the new loader's fault: nothing is taken back because of them.
    """
    if not fresh:
        ota.log("the new recovery loader is on trial")
        began = time.ticks_ms()
        while time.ticks_diff(time.ticks_ms(), began) < _GOOD_MS:
            yield True
        # It must have all that an update asks of it, and one name: FAT can show both of a cut rename, on the same blocks
        names = [name for name in os.listdir(ota_boot.ROOT + "/.ota") if name.startswith("loader_")]
        works = len(names) == 1 and all(callable(getattr(ota_boot, name, None)) for name in _ASKED.split())
        if works and not ota.platform.safe_mode:
            _become(ota)
            return
    ota.module.enter("rebooting")
    ota.platform.request_reset("trying the new recovery loader")


def _become(ota):
    """Each step leaves a proven loader where boot.py looks for one; FAT deletes what a rename replaces, so it goes first."""
    running, old = ota_boot.live("ota_boot.py"), ota_boot.live("ota_boot_old.py")
    if ota_boot.exists(running):
        if ota_boot.exists(old):
            os.remove(old)
        os.rename(running, old)
    os.rename(ota_boot.ota(ota_boot.__name__ + ".py"), running)
    ota.log("the recovery loader was replaced")
