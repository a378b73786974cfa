"""Filling the stage. It lies beside the tree, which runs on meanwhile and is not touched: see docs/formats.md for its files."""

import gc
import hashlib

import ota_boot

from .. import phases
from ..bundle.lists import target
from ..errors import OtaError


class Stage:
    """What bundle.reader asks what it is to read, and gives what it has read; `wanted` and `total`: see prepare.plan."""

    def __init__(self, ota, wanted, total):
        self.ota = ota
        self.wanted = wanted
        self.total = total
        self.done = 0
        self.folder = None  # the last one that was made

    def start(self, n, at):
        """Where in the bundle the bytes begin that are wanted of a file; None when it lies in its place already."""
        if not self.wanted[n // 8] >> n % 8 & 1:
            return None
        part = self.ota.store.get("part")
        return part[2] if part and part[0] == n else at

    def open(self, n, path):
        """``(file, digest, done)``: where to write, and what it has already of a large file. Generator."""
        staged = target(n, path)
        folder = staged[: staged.rindex("/")]
        if folder != self.folder:
            self.folder = folder
            yield phases.alone
            ota_boot.make_parents(staged)
        part, digest = self.ota.store.get("part"), hashlib.sha256()
        yield phases.alone
        if not part or part[0] != n:
            return open(staged, "wb"), digest, 0
        out = open(staged, "r+b")
        while out.tell() < part[1]:
            n = out.readinto(self.ota.view[: part[1] - out.tell()])
            if not n:
                out.close()
                raise OtaError("flash_error", "%s is shorter on flash than it was" % path)
            digest.update(self.ota.view[:n])
            yield
        return out, digest, part[1]

    def wrote(self, size):
        self.done += size
        self.ota.progress(self.done, self.total)

    def checkpoint(self, n, out, done, at):
        """So much of a large file has arrived; a power cut takes only what comes now. The rest begins at `at`."""
        out.flush()
        self.ota.store.set("part", [n, done, at])
        try:
            self.ota.store.save()
        except MemoryError:  # then a power cut takes more: no reason to begin again now
            gc.collect()

    def written(self, path, size, digest, wanted):
        """The file is there: it must be the one that the list has."""
        self.ota.store.set("part", None)
        if digest.digest() != wanted:
            raise OtaError("bad_digest", "%s is not what was announced" % path)
        self.ota.log("staged", path, size, "bytes")
