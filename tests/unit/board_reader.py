# mypy: ignore-errors
"""Run by MicroPython: what the board's reader says to each bundle in a folder, a line a file: its name, and a reason or ``good``.

micropython tests/unit/board_reader.py <checkout> <folder> <board>
"""

import os
import sys

checkout, folder, board = sys.argv[1:]
sys.path[:0] = [checkout + "/platform", checkout]

import ota_boot  # noqa: E402

ota_boot.ROOT = board
ota_boot._imports()

from modules.ota.bundle import reader  # noqa: E402
from modules.ota.errors import OtaError  # noqa: E402
from modules.ota.release import manifest, policy  # noqa: E402
from modules.ota.transport.ranges import FromFile  # noqa: E402
from tests.support.visitor import TakesAll  # noqa: E402


def finish(job):
    while True:
        try:
            next(job)
        except StopIteration as end:
            return end.value


def said(path):
    source, view = FromFile(path), memoryview(bytearray(4096))
    try:
        _digest, _signature, base = finish(reader.read_head(source, view))
        with open(ota_boot.ota("list"), "rb") as f:
            finish(manifest.check(f, lambda header: policy.check(header, "door")))
        finish(reader.read_files(source, base, view, TakesAll()))
    except OtaError as error:
        return error.reason
    finally:
        source.close()
    return "good"


for name in sorted(os.listdir(folder)):
    print(name, said(folder + "/" + name))
