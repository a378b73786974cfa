"""After every start: the trial of a new version, or what a finished or interrupted update has left to do."""

import ota_boot


def after_start(ota):
    """Generator; the job of every start."""
    if ota_boot.state == "trial":
        ended = yield from _trial(ota)
        if not ended:
            return
    ota.forget()
    yield from _finish(ota)
    ota.forget()
    _look_for_previous(ota)
    if ota.platform.safe_mode and ota.module.previous and ota.module.state == "idle":
        from . import install

        ota.warn("boots keep failing: going back to", ota.module.previous)
        yield from install.roll_back(ota)


def _trial(ota):
    """True once the version is confirmed; False when it has to wait for the next wake, or for the restart that takes it back."""
    from . import trial

    ota.enter("trial")
    ota.log("version %s is on trial, boot %d" % (ota.local_version(), ota_boot.attempt))
    confirmed = yield from trial.watch(ota)
    ota.asked = bool(ota_boot.header.get("checked"))
    if confirmed is False:
        ota.enter("rebooting")
        ota.warn("version %s is taken back: %s" % (ota.local_version(), ota_boot.reason()[1]))
        ota.platform.request_reset("rolling back")
    return confirmed


def _finish(ota):
    """Clear up, and say how the last update ended."""
    from . import cleanup

    if ota_boot.state == "confirmed":
        yield from cleanup.after_confirm(ota)
        ota.enter("confirmed")
        ota.platform.bus.publish("ota/error", "")
        ota.platform.bus.publish("ota/message", "")
        ota.log("confirmed: version %s stays" % ota.local_version())
    elif ota_boot.state == "undone":
        yield from cleanup.after_undo(ota)
        ota.enter("rolled_back")
        last = ota.store.get("last")
        ota.platform.bus.publish("ota/error", last["reason"])
        ota.platform.bus.publish("ota/message", last["message"])
        versions_text = "rolled back from %s to %s:" % (last["version"], ota.local_version())
        ota.warn(versions_text, last["message"], "(%s)" % last["reason"])
    else:
        yield from cleanup.clean_up(ota)


def _look_for_previous(ota):
    from . import previous

    ota.module.previous = previous.kept(ota.local_version())
