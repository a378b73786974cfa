# mypy: ignore-errors
"""Run by MicroPython: a visitor of the bundle's reader that wants every file from its beginning, and keeps none."""

import hashlib
import io

from modules.ota.errors import OtaError
from modules.ota.install import files


class TakesAll:
    def start(self, n, entry):
        return entry["at"]

    def open(self, n, entry):
        yield
        return io.BytesIO(), hashlib.sha256(), 0

    def wrote(self, size):
        pass

    def checkpoint(self, n, out, done, at):
        pass

    def written(self, entry, digest):
        if files.hexdigest(digest) != entry["sha256"]:
            raise OtaError("bad_digest", "%s is not what was announced" % entry["path"])
