"""A job that does not fit beside the modules: noted, done in a boot with few of them, and told after it.

``/.ota/job.<n>`` is such a job, [name, flag] as JSON. The runtime starts an update boot for it (see iot_platform.startup), n of
them so far. Once it has ended, or when its boots are used up, it is removed here.
"""

import json
import os
import time

import ota_boot
from micropython import const

from . import phases, state
from .errors import OtaError, from_system

TRIES = 3  # update boots that a job gets
_PATIENCE = const(3)  # checks running that nobody asked for and that had no memory: then one gets an update boot
_NETWORK_MS = 90_000  # that an update boot waits for a network
_MAX_NOTE = const(64)


def moves(module, job, error):
    """True when a job that ran out of memory goes on in an update boot, or in another one."""
    platform = module.platform
    if platform.update_boot:
        if platform.update_boot == TRIES:
            if job.offer:  # it is not found again with every check
                state.add_failure(
                    module.store, job.offer.get("sequence", 0), job.offer["version"], error.reason, error.message
                )
            return False
        module.enter("rebooting")
        platform.request_reset("another try for the job: " + error.message)
        return True
    if job.name in ("trial", "clean_up", "upload", "plan"):
        return False
    if not job.eager and module.store.get("failures", 0) + 1 < _PATIENCE:
        return False
    module.noted = (job.name, job.flag)
    platform.log("ota: short of memory:", error.message)
    return True


def leave(module, name, flag):
    """Leave a note, and restart into an update boot."""
    try:
        module.store.set("ran", sorted(module.platform.modules))
        module.store.save()
        clear()
        path = ota_boot.ota("job.new")
        with open(path, "w") as f:
            json.dump([name, flag], f)
        os.rename(path, ota_boot.ota("job.0"))  # there once its name is there
    except OSError as error:
        module.failed(name, from_system(error))
        phases.call("schedule", "after_check", module, module.error)
        return
    module.enter("rebooting")
    module.platform.log("ota: restarting for the update's sake: %s goes on with only the modules that it needs" % name)
    module.platform.request_reset("an update boot")


def after_start(module):
    """The start has cleared up: do what this update boot is for, or tell what came of an earlier one."""
    note, result = _read(), module.store.get("result")
    if note and module.platform.update_boot:
        module.noted = note[:2]
        if note[0] not in ("install", "stage") and module.platform.module("wifi"):
            module.look_at = time.ticks_add(time.ticks_ms(), _NETWORK_MS)
    elif note:
        clear()
        if note[2] >= TRIES:  # and not even the last one came to its end
            module.failed(note[0], OtaError("no_memory", "it was not done in %d update boots" % note[2]))
            phases.call("schedule", "after_check", module, module.error)
    elif result:
        module.store.set("result", None)
        found, module.offered, module.notes, reason, message = result
        module.error = OtaError(reason, message) if reason else None
        module.enter(found)
        module.tell(module.error)
        if module.offered:
            module.platform.bus.publish("ota/available", module.offered)


def ended(module):
    """What an update boot was for is done, one way or the other: remember how it ended, and bring everything back."""
    committed = module.state == "rebooting"  # then the trial tells
    if not committed:
        error = module.error
        told = [module.state, module.offered, module.notes, error and error.reason, error and error.message]
        module.store.set("result", told)
        module.store.save()
    clear()
    if not committed:
        module.enter("rebooting")
        module.platform.request_reset("the update boot is over")


def clear():
    """Remove the note."""
    for name in _notes():
        os.remove(ota_boot.ota(name))


def _read():
    """``(name, flag, boots that it has had)``, or None."""
    for name in _notes():
        tries = name[4:]
        if tries.isdigit():
            try:
                with open(ota_boot.ota(name)) as f:
                    job, flag = json.loads(f.read(_MAX_NOTE))
                return job, flag, int(tries)
            except (OSError, ValueError, TypeError):
                return "check", False, int(tries)  # damaged: what it was will be found out
    return None


def _notes():
    return [name for name in os.listdir(ota_boot.ROOT + "/.ota") if name.startswith("job.")]
