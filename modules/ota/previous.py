"""The way back by hand: the kept previous version is installed again, by the same journal, trial and confirmation.

``/.ota/previous`` holds what the last update replaced, and that update's journal. Read backwards it is a journal again:
what had replaced a file is replaced by it, what had been new is deleted.
"""

import json

import ota_boot

from .errors import OtaError
from .kept import PREVIOUS

_JOURNAL = PREVIOUS + "/journal"


def kept(running):
    """The version that a rollback would bring back, or None."""
    header = ota_boot.read_header(_JOURNAL)
    return header["old"] if header and header.get("new") == running else None


def commit(running, journal):
    """Commit the way back to the kept version. Generator; OtaError ``no_update`` when there is none."""
    header = ota_boot.read_header(_JOURNAL)
    if not header or header.get("new") != running:
        raise OtaError("no_update", "no previous version is kept on this board")
    new = dict(journal, old=running, new=header["old"], stage=PREVIOUS, hold=header.get("sequence"))
    with open(ota_boot.ota("journal.new"), "w") as f:
        f.write(json.dumps(dict(new, format=ota_boot.FORMAT)) + "\n")
        for n, put, had, path in ota_boot.entries(_JOURNAL):
            _check_kept(n, had, path)
            f.write("%d %s%d %s\n" % (n, "+" if had else "-", put, path))
            yield
    from . import journal as journals

    yield from journals.seal()


def _check_kept(n, had, path):
    if had and not ota_boot.exists(ota_boot.slot(PREVIOUS, n)):
        raise OtaError("no_update", "the kept version is not complete: %s is missing" % path)
