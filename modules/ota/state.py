"""What OTA remembers across restarts, and how. ``/.ota/state.0`` and ``.1`` are the two slots of a Slots:

    floor        the highest sequence that was confirmed here; lower ones are refused for ever
    bundled      True once a bundle with a header has been confirmed: no way back to the `latest` protocol
    published    {channel: counter} of the newest channel file seen; older ones are refused as replayed
    etag         [channel, etag] of the last answer, if that led to "nothing to do"
    refused      [digest of the channel file whose bundle was refused, reason, text]: not fetched again until it changes
    failed       {sequence: [version, reason, text, tries, checks since]}: not tried again unless forced, or after
                 a pause of checks: see policy
    part         [entry, bytes, at] of a large file whose download was interrupted: see install.stage
    ready        [version, notes] of a release that lies in the stage, checked and whole
    last         {"version", "from", "result", "reason", "message"} of the last update
    result       [state, offered, notes, reason, message]: how a job in an update boot ended; told after the restart
    ran          the modules that ran before an update boot
    checked      True when the last check got an answer
    next         when the next check is due, seconds since 1970; 0: the time was not known; absent: as soon as possible
    failures     checks that failed running, for want of an answer or of memory
    wakes        good wakes of a trial on a board that sleeps deeply

``/.ota/job.<n>`` is a job that does not fit beside the modules: [name, flag] as JSON. The runtime starts an update boot for it
(see iot_platform.startup), n of them so far. Once it has ended, or when they are used up, it is removed here.
"""

import json
import os

import ota_boot
from micropython import const

_MAX_FAILED = const(8)
_MAX_NOTE = const(64)


def failure(store, sequence):
    """What is remembered of a release that failed here, the list itself; or None."""
    return store.get("failed", {}).get(str(sequence))


def add_failure(store, sequence, version, reason, text):
    """Remember a failed release; the oldest ones are forgotten, for the floor has passed them long since."""
    failed = store.get("failed", {})
    before = failed.get(str(sequence))
    failed[str(sequence)] = [version, reason, text[:120], before[3] + 1 if before else 1, 0]
    while len(failed) > _MAX_FAILED:
        del failed[min(failed, key=int)]
    store.set("failed", failed)


def raise_floor(store, sequence):
    """A confirmed release ends all that is below it."""
    store.set("floor", max(sequence, store.get("floor", 0)))
    failed = {key: value for key, value in store.get("failed", {}).items() if int(key) > sequence}
    store.set("failed", failed or None)


def write_note(name, flag):
    """Leave a job for an update boot: there once its name is there."""
    clear_note()
    path = ota_boot.ota("job.new")
    with open(path, "w") as f:
        json.dump([name, flag], f)
    os.rename(path, ota_boot.ota("job.0"))


def read_note():
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


def clear_note():
    for name in _notes():
        os.remove(ota_boot.ota(name))


def _notes():
    folder = ota_boot.ROOT + "/.ota"
    return [name for name in os.listdir(folder) if name.startswith("job.")] if ota_boot.exists(folder) else []
