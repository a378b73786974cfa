"""Reading the downloaded bundle, and what is done when that fails: for obtain and install."""

import ota_boot

from . import files
from .errors import from_system


def read(ota, rules, make_stage):
    """Read the downloaded bundle: check it, and fill the stage that `make_stage` makes, unless that is None.

    Generator; returns the header and the stage.
    """
    from . import bundle

    target = make_stage() if make_stage else None
    header = yield from bundle.read(lambda: _open_archive(ota), rules, ota.view, target, ota.forget)
    return header, target


def _open_archive(ota):
    yield
    from . import inflate

    return inflate.Gzip(ota.archive, ota.room)


def discard(ota):
    """What is refused leaves nothing behind."""
    ota.forget()
    ota.discard()
    yield from clean_up(ota)
    for name in ("stage", "loader", "list"):
        yield from files.remove_tree(ota_boot.ota(name))


def clean_up(ota):
    from . import cleanup

    yield from cleanup.clean_up(ota)


def translated(job):
    """Run a job, and let it fail with nothing but an OtaError: what clears up afterwards waits for those. Generator."""
    try:
        return (yield from job)
    except (OSError, MemoryError) as error:
        raise from_system(error)
