"""After a restart into a new version: try it out, and confirm it or give it up.

The new version is confirmed when every module that ran under the old one runs, the loop has run for a while, and, if the
old version's last check reached the server, a check with the new profile does. It goes back as soon as a module fails for
good, or when the time is up. If this code itself is what is broken, nothing confirms, and the loader takes it back.
"""

import time

import ota_boot

from .errors import OtaError

_SETTLE_MS = 5_000
_RETRY_MS = 3_000  # the first pause; then twice as long each time, for a server may be weak because of this very release
_LONGEST_RETRY_MS = 48_000
_MARGIN_MS = 3_000  # give up by ourselves, with a reason, this long before the loader stops feeding the watchdog


def watch(ota):
    """Run the trial to its end. Generator; returns True when the version was confirmed, False when the board must restart."""
    header = ota_boot.header
    started = time.ticks_ms()
    limit = header.get("timeout_s", 300) * 1000 - _MARGIN_MS
    asked = None  # the error of the last check, "" when it succeeded
    ask_at, pause = started, _RETRY_MS
    while time.ticks_diff(time.ticks_ms(), started) < limit:
        failed = _failed_module(ota, header)
        if failed:
            return _go_back("module_failed", failed)
        now = time.ticks_ms()
        online = ota.platform.bus.get("wifi/connected") is not False  # wifi says so itself
        if header.get("checked") and asked != "" and online and time.ticks_diff(now, ask_at) >= 0:
            asked, retry = yield from _ask(ota)
            ask_at = time.ticks_add(time.ticks_ms(), max(pause, min(retry * 1000, limit // 2)))
            pause = min(pause * 2, _LONGEST_RETRY_MS)
        settled = time.ticks_diff(time.ticks_ms(), started) >= min(_SETTLE_MS, limit // 2)
        if settled and _all_run(ota, header) and (asked == "" or not header.get("checked")):
            return _confirm(ota)
        yield True  # until the next loop
    if header.get("checked") and asked != "":
        return _go_back("no_network", asked or "there was no network")
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
    """A check with the new profile. Generator; returns the error's text, or "" when the server gave a valid answer, and the
    seconds after which it wants to be asked again.
    """
    from . import check

    try:
        yield from check.look(ota, True)
    except OtaError as error:
        if error.kind in ("transport", "verification") and error.reason not in ("old_sequence", "failed_before"):
            ota.warn("trial: the check did not succeed yet:", error)
            return str(error), error.retry or 0
    ota.forget()
    return "", 0


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
