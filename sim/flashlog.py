"""What a life of the board did to its flash, operation by operation; and the image that a power cut at any of them leaves.

The image before a life and its log make every cut image without running the life again:

>>> image = bytearray(start.read_bytes())
>>> for operation in operations[:at]:
...     operation.perform(image)
>>> operations[at].tear(image)          # Cut(at, "torn"); without this line: Cut(at, "before")
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from sim.board import BLOCK, Cut

_GARBAGE = bytes((i * 151 + 77) & 0xFF for i in range(64))  # as sim/device/power.py


@dataclass(frozen=True)
class Operation:
    """A program of `data` at a byte of the image, or, without data, the erase of the block that begins there."""

    position: int
    data: bytes

    def perform(self, image: bytearray) -> None:
        after = self.data or b"\xff" * BLOCK
        image[self.position : self.position + len(after)] = after

    def tear(self, image: bytearray) -> None:
        """What power leaves that fails within it: half of a program; half of an erase, and garbage."""
        after = self.data[: len(self.data) // 2] if self.data else b"\xff" * (BLOCK // 2) + _GARBAGE
        image[self.position : self.position + len(after)] = after


def read(path: Path) -> list[Operation]:
    """The log that Board.boot_once(log=path) has written."""
    raw = path.read_bytes()
    found = []
    at = 0
    while at < len(raw):
        position, size = struct.unpack_from("<II", raw, at + 1)
        found.append(Operation(position, raw[at + 9 : at + 9 + size]))
        at += 9 + size
    return found


def cut(image: bytes, operations: list[Operation], where: Cut) -> bytes:
    """The image after a life that began with `image` and lost power there. IndexError when it has no such operation."""
    made = bytearray(image)
    for operation in operations[: where.at]:
        operation.perform(made)
    if where.mode == "torn":
        operations[where.at].tear(made)
    elif where.mode == "after":
        operations[where.at].perform(made)
    return bytes(made)
