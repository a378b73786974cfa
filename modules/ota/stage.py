"""Staging: everything an update needs lies on flash, checked, before one rename commits it.

    /.ota/stage/id                 SHA-256 of the `.release` that the stage belongs to; another release clears it
    /.ota/stage/<n//16>/<n%16>     entry n of the list, if it differs from what is on disk; the list itself comes after the files
    /.ota/loader                   a new ota_boot.py: put in place after the confirmation

The old version runs on meanwhile and is not touched. What an interrupted staging has left is used again, once its digest
has been checked. The commit follows in journal.
"""

import binascii
import os

import ota_boot

from . import files, paths
from .errors import OtaError
from .kept import LIST, entries

_METADATA = 8  # blocks that the journal, the state and folder splits may take beside the stage


class Stage:
    """The stage of one release, and the visitor that fills it from a bundle (bundle.read)."""

    def __init__(self, excluded, view, log, on_space=None):
        self.excluded = excluded
        self.view = view
        self.log = log
        self.on_space = on_space  # generator function that frees what may be freed when space is short
        self.header = self.digest = self.signature = None
        self._wanted = None  # a bit for each entry that must be written

    def begin(self, header, digest, signature):
        """Clear another release's stage, find out which files must be written, and whether there is space. Generator."""
        self.header, self.digest, self.signature = header, digest, signature
        yield from self._claim(binascii.hexlify(digest).decode())
        need = yield from self._plan()
        yield from self._check_space(need)

    def writer(self, n, entry):
        """A file to write entry `n` into, or None when it is not needed."""
        if not self.wants(n):
            return None
        path = target(n, entry)
        ota_boot.make_parents(path)
        return open(path, "wb")

    def written(self, n, entry):
        """Read back what has been written. Generator."""
        good = yield from files.same(target(n, entry), entry["size"], entry["sha256"], self.view)
        if not good:
            raise OtaError("flash_error", "%s does not read back as it was written" % entry["path"])
        self.log("staged", entry["path"], entry["size"], "bytes")

    # -- planning

    def _claim(self, digest):
        stage = ota_boot.ota("stage")
        if files.read_text(stage + "/id") != digest:
            yield from files.remove_tree(stage)
            yield from files.remove_tree(ota_boot.ota("loader"))
            files.write_text(stage + "/id", digest)

    def _plan(self):
        """Mark the entries that must be written; returns the blocks that this takes. Generator."""
        wanted = self._wanted = bytearray(self.header["files"] // 8 + 1)
        need = _METADATA + files.blocks(os.stat(ota_boot.ota(LIST))[6])
        folder = -1
        for n, entry in entries():
            if not self._skips(entry["path"]):
                if not (yield from self._have(n, entry)):
                    wanted[n // 8] |= 1 << n % 8
                    need += files.blocks(entry["size"])
                    need += 4 if n // 16 != folder else 0  # a folder of the stage and one of the backup
                    folder = n // 16
            yield
        return need

    def _have(self, n, entry):
        """True when the file is on disk, or lies in the stage already. Generator."""
        if (yield from files.same(ota_boot.live(entry["path"]), entry["size"], entry["sha256"], self.view)):
            staged = target(n, entry)
            if ota_boot.exists(staged):
                os.remove(staged)  # from a staging that was interrupted before the file on disk became right
            return True
        return (yield from files.same(target(n, entry), entry["size"], entry["sha256"], self.view))

    def _check_space(self, need):
        if need > files.free_bytes() // files.block_size() and self.on_space:
            yield from self.on_space()
        free = files.free_bytes()
        need *= files.block_size()
        self.log("stage needs", need, "bytes, free disk", free)
        if need > free:
            raise OtaError("no_space", "the update needs %d bytes more, %d are free" % (need, free))

    def _skips(self, path):
        return path == "boot.py" or paths.excluded(path, self.excluded)

    def wants(self, n):
        """True when entry `n` must be written."""
        return self._wanted[n // 8] >> n % 8 & 1


def target(n, entry):
    """Where entry `n` is staged."""
    return ota_boot.ota("loader") if entry["path"] == "ota_boot.py" else ota_boot.slot("stage", n)
