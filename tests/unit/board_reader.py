# mypy: ignore-errors
"""Run by MicroPython: what the board's reader says to each bundle in a folder, a line a file: its name, and a reason or ``good``.

micropython tests/unit/board_reader.py <checkout> <folder> <board>
"""

import binascii
import hashlib
import io
import os
import sys

checkout, folder, board = sys.argv[1:]
sys.path[:0] = [checkout + "/platform", checkout]

import ota_boot  # noqa: E402

ota_boot.ROOT = board
ota_boot._imports()

from modules.ota.bundle import head, reader  # noqa: E402
from modules.ota.errors import OtaError  # noqa: E402
from modules.ota.install import prepare  # noqa: E402
from modules.ota.release.policy import Rules  # noqa: E402
from modules.ota.transport.ranges import FromFile  # noqa: E402


class TakesAll:
    """A visitor that wants every file from its beginning."""

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
        if binascii.hexlify(digest.digest()).decode() != entry["sha256"]:
            raise OtaError("bad_digest", "%s is not what was announced" % entry["path"])


def finish(job):
    while True:
        try:
            next(job)
        except StopIteration as end:
            return end.value


def said(path):
    source, view = FromFile(path), memoryview(bytearray(4096))
    try:
        digest, signature, base = finish(head.read(source, view))
        finish(prepare.check_release(Rules("door"), digest, signature))
        finish(reader.read_files(source, base, view, TakesAll()))
    except OtaError as error:
        return error.reason
    finally:
        source.close()
    return "good"


for name in sorted(os.listdir(folder)):
    print(name, said(folder + "/" + name))
