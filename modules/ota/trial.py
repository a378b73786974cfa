"""After a restart: try the new version out and confirm it, or clear up after one that was confirmed or taken back.

The new version is confirmed when every module that ran under the old one runs, the loop has run for a while, and, if the
old version's last check reached the server, a check with the new profile does. It goes back as soon as a module fails for
good, or when the time is up. If this code itself is what is broken, nothing confirms, and the loader takes it back.
"""

import os
import time

import ota_boot

from . import bundle, check, files, stage
from .errors import OtaError

_SETTLE_MS = 5_000
_RETRY_MS = 3_000
_MARGIN_MS = 3_000  # give up by ourselves, with a reason, this long before the loader stops feeding the watchdog
PREVIOUS = "previous"


def watch(ota):
    """Run the trial to its end. Generator; returns True when the version was confirmed, False when the board must restart."""
    header = ota_boot.header
    started = time.ticks_ms()
    limit = header.get("timeout_s", 300) * 1000 - _MARGIN_MS
    asked = None  # the error of the last check, "" when it succeeded
    ask_at = started
    while time.ticks_diff(time.ticks_ms(), started) < limit:
        failed = _failed_module(ota, header)
        if failed:
            return _go_back("module_failed", failed)
        now = time.ticks_ms()
        if header.get("checked") and asked != "" and time.ticks_diff(now, ask_at) >= 0:
            asked = yield from _ask(ota)
            ask_at = time.ticks_add(time.ticks_ms(), _RETRY_MS)
        settled = time.ticks_diff(time.ticks_ms(), started) >= min(_SETTLE_MS, limit // 2)
        if settled and _all_run(ota, header) and (asked == "" or not header.get("checked")):
            return _confirm(ota)
        yield
    if header.get("checked") and asked != "":
        return _go_back("no_network", asked or "the server was not asked in time")
    return _go_back("timeout", "not everything that ran before was running in time")


def _failed_module(ota, header):
    for name in header.get("ran", ()):
        if name in ota.platform.failed:
            return "%s: %s" % (name, ota.platform.failed[name])
    return None


def _all_run(ota, header):
    """True when all that ran before runs; a module that the new profile leaves out on purpose is not missed."""
    wanted = ota.platform.profile.get("activeModules", ())
    return all(name in ota.platform.modules for name in header.get("ran", ()) if name in wanted)


def _ask(ota):
    """A check with the new profile: the error's text, or "" when the server gave a valid answer. Generator."""
    try:
        ota.require_network()
        yield from check.look(ota, True)
    except OtaError as error:
        if error.kind in ("transport", "verification") and error.reason not in ("old_sequence", "failed_before"):
            ota.warn("trial: the check did not succeed yet:", error)
            return str(error)
    return ""


def _confirm(ota):
    """Count a good wake on a board that sleeps deeply; confirm when there were enough."""
    wakes = ota.store.get("wakes", 0) + 1
    if wakes < ota.cfg.get("confirm_wakes", 1):
        ota.store.set("wakes", wakes)
        ota.store.save()
        ota.log("trial: good wake", wakes, "of", ota.cfg["confirm_wakes"])
        return None
    ota_boot.confirm()
    return True


def _go_back(reason, text):
    ota_boot.undo(reason, text)
    return False


def after_confirm(ota):
    """Make a confirmed version the old one: floor, loader, kept version, and the disk space back. Generator.

    Every step can be repeated: the state's name stays `confirmed` until the last one.
    """
    header = ota_boot.header
    running = bundle.read_header(stage.RUNNING)
    if running:
        ota.store.raise_floor(running["sequence"])
        ota.store.set("bundled", True)
    ota.store.set("wakes", None)
    ota.store.set("held", header.get("hold"))
    ota.store.set("refused", None)
    ota.store.set("last", {"version": header.get("new"), "from": header.get("old"), "result": "confirmed"})
    ota.store.save()
    yield from _replace_loader(ota)
    yield from _clear(("stage", "loader", "reserve", bundle.LIST))
    if ota.cfg.get("keep_previous") and header.get("old") and not header.get("hold"):
        yield from _keep_backup()
        ota_boot.finish(PREVIOUS + "/journal")
    else:
        yield from _clear((PREVIOUS, "backup"))
        ota_boot.finish()


def after_undo(ota):
    """Remember what failed and why, and clear up. Generator."""
    header = ota_boot.header
    reason, text = ota_boot.reason()
    version = header.get("new", "?")
    if "sequence" in header:
        ota.store.add_failure(header["sequence"], version, reason, text)
    ota.store.set("wakes", None)
    ota.store.set("last", {"version": version, "from": header.get("old"), "result": "rolled_back", "reason": reason, "message": text})
    ota.store.save()
    if header.get("stage", "stage") == "stage":  # a way back that failed leaves the kept version where it is
        yield from _clear(("stage",))
    yield from _clear(("backup", "loader", "reserve", bundle.LIST))
    ota_boot.finish()


def clean_up(ota):
    """Remove what an interrupted job has left behind, when no journal exists. Generator."""
    if not ota_boot.exists(ota_boot.ota(PREVIOUS + "/journal")):
        yield from _clear((PREVIOUS,))
    yield from _clear(("backup", "reserve", "journal.new", "reason"))


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
