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
"""

from micropython import const

_MAX_FAILED = const(8)


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
