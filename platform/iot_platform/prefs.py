"""What the user sets at run time: prefs.json, kept in two slots.

Keys are added, never renamed or reused, and unknown ones survive a save: an older version may run again tomorrow.
"""

import hashlib
import json

PATHS = ("/prefs.json", "/prefs.json.1")


class Prefs:
    """A dict of JSON values that is written only when something has changed."""

    def __init__(self, paths=PATHS):
        self._paths = paths
        self.warning = None  # what was wrong with the files, for the log
        self._values = self._load()
        self._saved = _digest(json.dumps(self._values).encode())

    def get(self, key, default=None):
        return self._values.get(key, default)

    def set(self, key, value):
        """Change a value in memory; save() makes it last."""
        self._values[key] = value

    def remove(self, key):
        self._values.pop(key, None)

    def as_dict(self):
        return dict(self._values)

    def save(self):
        """Write if something has changed. True when it was written; OSError when it could not be."""
        text = json.dumps(self._values).encode()
        if _digest(text) == self._saved:
            return False
        from . import slots

        slots.write(self._paths, text)
        self._saved = _digest(text)
        return True

    def _load(self):
        from . import slots

        _counter, payload = slots.read(self._paths)
        if payload is None:
            return {}
        try:
            values = json.loads(payload)
        except (ValueError, RuntimeError):
            values = None
        if not isinstance(values, dict):
            self.warning = "prefs.json is damaged: starting with none"
            return {}
        return values


def _digest(text):
    """What is remembered of what was saved: shorter than the text."""
    return hashlib.sha256(text).digest()
