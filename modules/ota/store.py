"""What OTA remembers across restarts: ``/.ota/state.0`` and ``.1``, two slots of which the newest valid one counts.

    floor        the highest sequence that was confirmed here; lower ones are refused for ever
    bundled      True once a bundle with a header has been confirmed: no way back to the `latest` protocol
    published    {channel: counter} of the newest channel file seen; older ones are refused as replayed
    etag         [channel, etag] of the last answer, if that led to "nothing to do"
    refused      digest of the channel file whose bundle was refused, and why: not fetched again until it changes
    no_delta     digest of the channel file whose delta could not be used here: the full bundle is taken instead
    failed       {sequence: [version, reason, text, tries, checks since]}: not tried again unless forced, or after
                 a pause of checks: see policy
    part         what lies in the download file: see fetch
    last         {"version", "result", "reason", "message"} of the last update
    checked      True when the last check got an answer
    next         when the next check is due, seconds since 1970; 0: the time was not known; absent: as soon as possible
    failures     checks that failed running, for want of an answer or of memory
    wakes        good wakes of a trial on a board that sleeps deeply
"""

import hashlib
import json

import ota_boot

_MAX_FAILED = 8


class Store:
    """A dict with the keys above, written only when something changed."""

    def __init__(self):
        self._paths = (ota_boot.ota("state.0"), ota_boot.ota("state.1"))
        self._values = {}
        self._saved = None
        self.load()

    def load(self):
        from iot_platform import slots

        _counter, payload = slots.read(self._paths)
        try:
            values = json.loads(payload) if payload else {}
        except ValueError:
            values = {}
        self._values = values if isinstance(values, dict) else {}
        self._saved = _digest(json.dumps(self._values).encode())

    def get(self, key, default=None):
        return self._values.get(key, default)

    def set(self, key, value):
        """Change a value in memory; None removes it. save() makes it last."""
        if value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = value

    def save(self):
        """Write the state if it has changed: one small file."""
        text = json.dumps(self._values).encode()
        if _digest(text) != self._saved:
            from iot_platform import slots

            ota_boot.make_parents(self._paths[0])
            slots.write(self._paths, text)
            self._saved = _digest(text)

    def failure(self, sequence):
        """What is remembered of a release that failed here, the list itself; or None."""
        return self.get("failed", {}).get(str(sequence))

    def add_failure(self, sequence, version, reason, text):
        """Remember a failed release; the oldest ones are forgotten, for the floor has passed them long since."""
        failed = self.get("failed", {})
        before = failed.get(str(sequence))
        failed[str(sequence)] = [version, reason, text[:120], before[3] + 1 if before else 1, 0]
        while len(failed) > _MAX_FAILED:
            del failed[min(failed, key=int)]
        self.set("failed", failed)

    def raise_floor(self, sequence):
        """A confirmed release ends all that is below it."""
        self.set("floor", max(sequence, self.get("floor", 0)))
        failed = {key: value for key, value in self.get("failed", {}).items() if int(key) > sequence}
        self.set("failed", failed or None)


def _digest(text):
    """What is remembered of what was saved: shorter than the text."""
    return hashlib.sha256(text).digest()
