"""What OTA remembers across restarts: of releases, and of a job that does not fit beside the modules.

``/.ota/state.0`` and ``.1`` are the two slots of a Slots; its keys: see _SHAPES.

``/.ota/job.<n>`` is a job, [name, flag] as JSON, for an update boot (see iot_platform.startup): noted here, and told after it.
"""

import json
import os
import time

import ota_boot
from micropython import const

from . import phases
from .errors import OtaError, from_system

TRIES = 3  # update boots that a job gets
_NETWORK_MS = 90_000  # that an update boot waits for a network
_MAX_NOTE = const(64)
_MAX_FAILED = const(8)
_MAX_TEXT = const(160)

# What each value is made of: text and numbers; None for text or nothing; one thing in a list, or behind "" (any name) or "0"
# (digits) in a dict, for any number of them.
_SHAPES = (
    # the highest sequence that was confirmed here: lower ones are refused for ever, and so is the `latest` protocol
    ("floor", 0),
    ("published", {"": 0}),  # {channel: counter} of the newest signed channel file seen; older ones are refused as replayed
    ("since", 0),  # the highest counter whose release was confirmed here: no clock is right that lies more than a day before it
    ("etag", ["", ""]),  # [channel, etag] of the last answer, if that led to "nothing to do"
    ("refused", ["", "", ""]),  # [digest of the channel file whose bundle was refused, reason, text]: until that changes
    # {sequence: [version, reason, text, tries, checks since]}: tried again only by force, or after a pause of checks: see policy
    ("failed", {"0": ["", "", "", 0, 0]}),
    ("part", [0, 0, 0]),  # [entry, bytes, at] of a large file whose download was interrupted: see install.stage
    ("ready", ["", ""]),  # [version, source] of a release that lies in the stage, checked and whole
    ("last", {"": None}),  # {"version", "from", "result", "reason", "message"} of the last update
    ("result", ["", None, None]),  # [state, reason, message]: how a job in an update boot ended
    ("ran", [""]),  # the modules that ran before an update boot
    ("order", True),  # True or False (force): an update that somebody has asked for, until it is done or has failed
    ("offered", ["", ""]),  # [version, notes] of what was found last; told again after a restart
    ("problem", [None, "", ""]),  # [version, reason, text] of an update that failed here, until one succeeds
    ("checked", True),  # the last check got an answer
    ("next", 0),  # when the next check is due, seconds since 1970; 0: the time was not known; absent: as soon as possible
    ("failures", 0),  # checks that failed running, for want of an answer or of memory
    ("wakes", 0),  # good wakes of a trial on a board that sleeps deeply
)


def mend(module):
    """Forget what is not made as it must be, damaged or edited by hand: it must stop no start and no check."""
    for key, shape in _SHAPES:
        value = module.store.get(key)
        if value is not None and not fit(value, shape):
            module.warn("what was remembered is damaged, and forgotten:", key)
            module.store.set(key, None)


def fit(value, shape):
    if shape is None:
        return value is None or isinstance(value, str)
    if type(value) is not type(shape):
        return False
    if isinstance(shape, list):
        return len(shape) in (1, len(value)) and all(fit(part, shape[i % len(shape)]) for i, part in enumerate(value))
    if isinstance(shape, dict):
        name = list(shape)[0]
        return all((key.isdigit() or not name) and fit(value[key], shape[name]) for key in value)
    return not isinstance(shape, int) or 0 <= value < 1 << 53


def add_failure(store, sequence, version, reason, text):
    """Remember a failed release; the oldest ones are forgotten, for the floor has passed them long since."""
    failed = store.get("failed", {})
    before = failed.get(str(sequence))
    failed[str(sequence)] = [version, reason, text[:120], before[3] + 1 if before and before[0] == version else 1, 0]
    while len(failed) > _MAX_FAILED:
        del failed[min(failed, key=int)]
    store.set("failed", failed)


def raise_floor(store, sequence):
    """A confirmed release ends all that is below it."""
    store.set("floor", max(sequence, store.get("floor", 0)))
    failed = {key: value for key, value in store.get("failed", {}).items() if int(key) > sequence}
    store.set("failed", failed or None)


def moves(module, job, error):
    """True when the job of an update boot that ran out of memory goes on in another one."""
    if module.platform.update_boot == TRIES:
        if job.offer:  # it is not found again with every check
            add_failure(module.store, job.offer.get("sequence", 0), job.offer["version"], error.reason, error.message)
        return False
    module.enter("rebooting")
    module.platform.request_reset("another try for the job: " + error.message)
    return True


def note(module, name, flag):
    """Leave a note, and restart into an update boot."""
    try:
        module.store.set("ran", sorted(module.platform.modules))
        module.save()
        clear_note()
        path = ota_boot.ota("job.new")
        with open(path, "w") as f:
            json.dump([name, flag], f)
        os.rename(path, ota_boot.ota("job.0"))  # there once its name is there
    except OSError as error:
        module.failed(name, from_system(error))
        judge(module, name, module.error)
        phases.call("schedule", "after_check", module, module.error)
        return
    module.enter("rebooting")
    module.platform.log("ota: restarting for the update's sake: %s goes on with only the modules that it needs" % name)
    module.platform.request_reset("an update boot")


def told(module):
    """The start has cleared up: do what this update boot is for, or tell what came of an earlier one."""
    noted, result = _read(), module.store.get("result")
    if noted and module.platform.update_boot:
        module.noted = noted[:2]
        if noted[0] not in ("install", "stage", "rollback") and module.platform.module("wifi"):
            module.look_at = time.ticks_add(time.ticks_ms(), _NETWORK_MS)
            if module.online:  # there was a network before the start had cleared up
                module.check_when_due()
    elif noted:
        clear_note()
        if noted[2] >= TRIES:  # and not even the last one came to its end
            error = OtaError("no_memory", "it was not done in %d update boots" % noted[2])
        else:  # the runtime could not rename the note, and has said why
            error = OtaError("flash_error", "its update boot could not be counted")
        module.failed(noted[0], error)
        judge(module, noted[0], error)
        phases.call("schedule", "after_check", module, error)
    elif result:
        module.store.set("result", None)
        found, reason, message = result
        module.error = OtaError(reason, message) if reason else None
        module.enter(found)
        module.tell(module.error)
    if not noted and not module.error:
        wait_again(module)


def wait_again(module):
    """What was found before, and has to wait, goes on waiting."""
    ready = module.store.get("ready")
    if module.offered and not module.store.get("problem") and not module.ordered:
        waiting = phases.call("schedule", "waits_for", module)
        if waiting.startswith("asked") or (waiting and ready):
            if not module.error:
                module.enter("ready" if ready else "available")
            module.wait_for(waiting)


def recall(module):
    """After a start, and after an update: what was found, and what has failed, is told again."""
    offered = module.store.get("offered")
    known = offered and (ota_boot.state == "trial" or offered[0] != module.local_version())
    module.found(*(offered if known else (None,)))
    _tell(module)


def judge(module, name, error):
    """A job is over: an update that failed is a problem, with its first reason, until one succeeds or is not needed any more."""
    before = module.store.get("problem")
    if name in ("update", "install"):
        module.store.set("order", None)
    if not error:
        problem = before if module.state != "up_to_date" else None
    elif _is_problem(name, error) and (not before or before[:2] != [module.offered, error.reason]):
        problem = [module.offered, error.reason, error.message[:_MAX_TEXT]]
    else:
        problem = before
    if problem != before:
        module.store.set("problem", problem)
        _tell(module)


def _is_problem(name, error):
    if name in ("check", "fetch"):  # nobody waits for it, and the next one is soon
        return error.kind != "transport" and error.reason != "failed_before"
    return name in ("update", "install", "stage") and error.reason not in ("failed_before", "no_update")


def _tell(module):
    value = dict(zip(("version", "reason", "message"), module.store.get("problem", ())))
    value["problem"] = bool(value)
    module.platform.bus.publish("ota/problem", value)


def ended(module):
    """What an update boot was for is done, one way or the other: remember how it ended, and bring everything back."""
    if module.state != "rebooting":  # else the trial tells
        error = module.error
        module.store.set("result", [module.state, error and error.reason, error and error.message])
        module.save()
    clear_note()
    module.enter("rebooting")
    module.platform.request_reset("the update boot is over")


def clear_note():
    for name in _notes():
        os.remove(ota_boot.ota(name))


def _read():
    """``(name, flag, boots that it has had)``, or None."""
    for name in sorted(_notes(), reverse=True):  # FAT can show both names of a cut rename
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
