"""A small dict that survives any power cut: two files, a counter and a digest. The newest valid one counts.

What the user sets at run time (``/prefs.json``) is one, what OTA remembers is another. Keys are added, never renamed or reused,
and unknown ones survive a save: an older version may run again tomorrow.

A rename over an existing file is atomic on littlefs, but FAT deletes it first; two slots need no rename at all. A slot is one
line of payload, then ``<counter> <SHA-256 of payload and counter>``. A file without that second line (written by hand) counts
as the oldest.
"""

import binascii
import hashlib
import json
import os

MAX_BYTES = 8 * 1024


class Slots:
    """A dict of JSON values that is written only when something has changed.

    :param paths: the two files; their folder exists.
    """

    def __init__(self, paths):
        self.warning = None  # what was wrong with the files, for the log
        self.paths = paths
        self._values = {}
        _counter, payload = read(paths)
        try:
            values = json.loads(payload) if payload else {}
        except (ValueError, RuntimeError):
            values = None
        if isinstance(values, dict):
            self._values = values
        else:
            self.warning = "%s is damaged: starting with nothing" % paths[0]
        self._saved = _digest(json.dumps(self._values).encode(), 0)

    def items(self):
        """All values: (key, value)."""
        return self._values.items()

    def get(self, key, default=None):
        return self._values.get(key, default)

    def text(self, key):
        """A value that is text and not empty, else None: whatever was written there by hand, or by another version."""
        value = self._values.get(key)
        return value if value and isinstance(value, str) else None

    def set(self, key, value):
        """Change a value in memory, None removes it; save() makes it last."""
        if value is None:
            self._values.pop(key, None)
        elif not _plain(value):
            raise ValueError("%s cannot be kept" % key)
        else:
            self._values[key] = value

    def save(self):
        """Write if something has changed. True when it was written; OSError when it could not be."""
        text = json.dumps(self._values).encode()
        digest = _digest(text, 0)  # what is remembered of what was saved: shorter than the text
        if digest == self._saved:
            return False
        write(self.paths, text)
        self._saved = digest
        return True


def _plain(value):
    """True for what JSON has a word for: one NaN, and nothing of the file could be read again."""
    if isinstance(value, float):
        return value - value == 0
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(value[key]) for key in value)
    if isinstance(value, (list, tuple)):
        return all(_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, str))


def read(paths):
    """``(counter, payload)`` of the newest valid slot; ``(0, None)`` when there is none.

    :param paths: the two files.
    """
    best = (0, None)
    for path in paths:
        counter, payload = _read(path)
        if payload is not None and (best[1] is None or counter > best[0]):
            best = (counter, payload)
    return best


def write(paths, payload):
    """Write `payload` (bytes without a line feed) into the slot that is not the newest valid one, and read it back.

    OSError when it cannot be written; the other slot is as it was.
    """
    if b"\n" in payload or len(payload) > MAX_BYTES:
        raise ValueError("a slot holds one line of at most %d bytes" % MAX_BYTES)
    numbers = []
    for path in paths:
        counter, old = _read(path)
        numbers.append(-1 if old is None else counter)
    target = paths[1] if numbers[0] >= max(numbers[1], 0) else paths[0]
    counter = max(numbers[0], numbers[1], 0) + 1
    for last in (False, True):
        try:
            with open(target, "wb") as f:
                f.write(payload)
                f.write(b"\n%d %s\n" % (counter, _digest(payload, counter)))
            break
        except OSError:
            if last:
                raise
            os.remove(target)  # on a full disk the block that it had is enough
    if _read(target) != (counter, payload):
        raise OSError(5, "%s does not read back as it was written" % target)


def _read(path):
    try:
        size = os.stat(path)[6]
        if size > MAX_BYTES + 128:
            return (0, None)
        with open(path, "rb") as f:
            raw = f.read(size)  # as much as there is: read() would allocate the bound
    except OSError:
        return (0, None)
    payload, _, last = raw.partition(b"\n")
    if not last:
        return (0, payload if payload[:1] == b"{" and payload.rstrip()[-1:] == b"}" else None)
    counter, _, digest = last.strip().partition(b" ")
    if not counter.isdigit() or len(counter) > 9 or digest != _digest(payload, int(counter)):
        return (0, None)
    return (int(counter), payload)


def _digest(payload, counter):
    running = hashlib.sha256(payload)
    running.update(b"%d" % counter)
    return binascii.hexlify(running.digest())
