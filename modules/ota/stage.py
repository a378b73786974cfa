"""Staging: everything an update needs lies on flash, checked, before one rename commits it.

    /.ota/stage/id                 SHA-256 of the `.release` that the stage belongs to; another release clears it
    /.ota/stage/<n//16>/<n%16>     entry n of the list, if it differs from what is on disk; the list itself comes after the files
    /.ota/stage/sig                its signature, where there is no archive
    /.ota/loader                   a new ota_boot.py: put in place after the confirmation

The old version runs on meanwhile and is not touched. What an interrupted staging has left is used again, once its digest
has been checked. The commit follows in journal.
"""

import ota_boot

from . import files
from .errors import OtaError
from .kept import LIST, RUNNING, lines_of, target


class Stage:
    """The stage of one release, and the visitor that fills it from a bundle (bundle.read)."""

    def __init__(self, excluded, view, log, on_space=None, keep=False):
        self.excluded = excluded
        self.view = view
        self.log = log
        self.on_space = on_space  # generator function that frees what may be freed when space is short
        self.header = self.digest = self.signature = None
        self.keep = keep  # True when there will be no archive to read the signature from again
        self.list_path = ".ota/" + RUNNING  # where the list that is kept goes
        self._wanted = None  # a bit for each entry that must be written

    def begin(self, header, digest, signature):
        """Clear another release's stage, find out which files must be written, and whether there is space. Generator."""
        from . import prepare

        self.header, self.digest, self.signature = header, digest, signature
        self._wanted = yield from prepare.prepare(self)

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

    def complete(self):
        """Each entry of the new version's list, a full bundle's or that of a delta and of what runs together."""
        if self.header["base"] is None:
            return lines_of(LIST)
        from .pairs import complete

        return (entry for entry, _changed in complete())

    def whole(self):
        """True when nothing has to be written any more."""
        return not any(self._wanted)

    def wants(self, n):
        """True when entry `n` must be written."""
        return self._wanted[n // 8] >> n % 8 & 1
