"""The methods of the OTA module that are called now and then. Each is a function of the module; imported when it is called."""

import time

import ota_boot

from .errors import OtaError


def load_ota_cfg(ota):
    from iot_platform import profile as profiles

    try:
        profile = profiles.load("/profile.json")
    except (OSError, ValueError) as error:
        ota.warn("off: profile.json cannot be read:", error)
        return False
    errors = profiles.check(profile, ("ota",))
    if errors:
        ota.warn("off: profile.json: %s %s; expected: %s" % errors[0])
        return False
    ota.name_on_server = profile["shortName"]
    ota.cfg = ota.platform.profile["ota"] = profile["ota"]  # one copy of it: a key has some 600 bytes
    ota.keys = ota.cfg.get("public_keys") or ()
    ota.excluded = ota.cfg["excluded_files"]
    ota.archive = ota_boot.live(ota.cfg["tmp_filename"].lstrip("/"))
    ota.forget()
    return True


def check_for_updates(ota, version_check):
    return bool(complete(ota, "fetch", not version_check))


def force_update(ota):
    if complete(ota, "update", True):
        return "restarting to install version %s" % ota.offered
    return "not updated: %s" % ota.error if ota.error else "not updated: nothing to install"


def install_new_firmware(ota, quiet):
    complete(ota, "stage", bool(quiet))
    return ota.state == "rebooting"


def check_free_space(ota, min_free_space):
    from .job import report_space

    if isinstance(min_free_space, bool) or not isinstance(min_free_space, (int, float)):
        ota.warn("min_free_space must be a number of bytes")
        return False
    return report_space(ota.platform) >= min_free_space


def recursive_delete(ota, path):
    from . import delete

    deleted = False
    job = delete.recursive_delete(path)
    while True:
        try:
            next(job)
        except StopIteration as stop:
            deleted = stop.value
            break
        ota.platform.board.feed()
    ota.platform.log("ota:", "deleted" if deleted else "nothing to delete at", path)
    return deleted


def set_channel(ota, channel):
    from iot_platform.words import name_ok

    if not name_ok(channel):
        raise OtaError("not_allowed", "a channel's name is made of letters, digits, _ . and -")
    ota.platform.prefs.set("ota.channel", channel)
    ota.platform.prefs.save()
    ota.platform.bus.publish("ota/channel", channel)


def complete(ota, name, flag):
    """Run a job to its end here and now; its result, or None when it failed (see `error`)."""
    try:
        job = ota.begin(name, flag)
    except MemoryError:
        job = _in_more_room(ota, name, flag)
    else:
        if not job:
            ota.error = OtaError("busy" if ota.cfg else "not_configured", "OTA is busy" if ota.cfg else "OTA is off")
    while job:
        _run(ota, job)
        if not job.exhausted:
            return None if ota.error else job.result
        chances, job = job.chances, None  # what it holds must be free before the next one begins
        job = _in_more_room(ota, name, flag, chances)
    return None


def _in_more_room(ota, name, flag, *chances):
    ota.make_room(name, flag, *chances)
    ota.platform.relax()
    return ota.once_more()


def _run(ota, job):
    while job.running():
        job.step()
        ota.platform.board.feed()
        time.sleep_ms(1 if ota.state in ("downloading", "checking") else 0)
