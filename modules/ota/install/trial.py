"""The trial of a new version: docs/architecture.md says when it is confirmed.

It goes back as soon as a module fails for good, or when the time is up. If this code itself is what is broken, nothing confirms,
and the loader takes it back.
"""

import time

import ota_boot
from micropython import const

from ..errors import OtaError
from ..job import PEAK
from . import files

_SETTLE_MS = 5_000
_RETRY_MS = 3_000  # the first pause; then twice as long each time, for a server may be weak because of this very release
_LONGEST_RETRY_MS = const(48_000)
_MARGIN_MS = 3_000  # give up by ourselves, with a reason, this long before the loader stops feeding the watchdog
_LEAST = PEAK + 6 * 1024  # bytes of heap, with updates.py and a margin
_LEAST_BLOCKS = const(8)  # of the disk, beside the kept version and what the clean-up gives back


def watch(ota):
    """Generator; True when the version was confirmed, False when it goes back, None when it has to wait for the next wake."""
    ota.enter("trial")
    ota.log("version %s is on trial, boot %d" % (ota.local_version(), ota_boot.attempt))
    confirmed = yield from _decided(ota)
    ota.asked = bool(ota_boot.header.get("checked"))
    if confirmed is False:
        ota.enter("rebooting")
        ota.warn("version %s is taken back: %s" % (ota.local_version(), ota_boot.reason()[1]))
        ota.platform.request_reset("rolling back")
    return confirmed


def _decided(ota):
    """Run the trial to its end. Generator; what watch() returns."""
    header = ota_boot.header
    wanted = ota.platform.profile.get("activeModules", ())  # what the new profile leaves out on purpose is not missed
    started = time.ticks_ms()
    limit = header.get("timeout_s", 300) * 1000 - _MARGIN_MS
    asked = None  # the error of the last check, "" when it succeeded
    settle = min(_SETTLE_MS, limit // 2)
    ask_at, pause = time.ticks_add(started, settle // 2), _RETRY_MS  # what MQTT has to say first takes memory
    while time.ticks_diff(time.ticks_ms(), started) < limit:
        for name in header.get("ran", ()):
            if name in ota.platform.failed:
                return _go_back("module_failed", "%s: %s" % (name, ota.platform.failed[name]))
        now = time.ticks_ms()
        online = ota.platform.bus.get("wifi/connected") is not False  # wifi says so itself
        if header.get("checked") and asked != "" and online and time.ticks_diff(now, ask_at) >= 0:
            asked, retry = yield from _ask(ota)
            ask_at = time.ticks_add(time.ticks_ms(), max(pause, min(retry * 1000, limit // 2)))
            pause = min(pause * 2, _LONGEST_RETRY_MS)
        ready = time.ticks_diff(time.ticks_ms(), started) >= settle and (asked == "" or not header.get("checked"))
        if ready and all(name in ota.platform.modules for name in header.get("ran", ()) if name in wanted):
            short = _cannot_update(ota)
            return _go_back("no_room", short) if short else _confirm(ota)
        yield True  # until the next loop
    if header.get("checked") and asked != "":
        return _go_back("no_network", asked or "there was no network")
    return _go_back("timeout", "not everything that ran before was running in time")


def _ask(ota):
    """A check with the new profile. Generator; returns the error's text, or "" when the server gave a valid answer, and the
    seconds after which it wants to be asked again.
    """
    try:
        yield from ota.look(True)
    except OtaError as error:
        if error.reason != "old_sequence":  # by force nothing else is an answer: neither is a URL that leads nowhere
            ota.warn("trial: the check did not succeed yet:", error)
            return str(error), error.retry or 0
    return "", 0


def _cannot_update(ota):
    """Why this version could never be replaced on this board again; "" when it could."""
    free = ota.platform.free_in_update_boot()
    if free < _LEAST:
        return "an update boot of this version would have %d bytes of memory, %d are needed" % (free, _LEAST)
    free, block = files.space()
    least = _LEAST_BLOCKS * block
    if free < least and not ota_boot.exists(ota_boot.ota("backup")):
        return "the disk has %d bytes left, no update could even begin with less than %d" % (free, least)
    return ""


def _confirm(ota):
    """Count a good wake on a board that sleeps deeply; confirm when there were enough."""
    wakes = ota.store.get("wakes", 0) + 1
    if wakes < ota.cfg.get("confirm_wakes", 1):
        ota.store.set("wakes", wakes)
        ota.store.save()
        ota.log("trial: good wake %d of %d" % (wakes, ota.cfg["confirm_wakes"]))
        return None
    ota_boot.confirm()
    return True


def _go_back(reason, text):
    ota_boot.undo(reason, text)
    return False
