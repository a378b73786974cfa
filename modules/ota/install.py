"""Putting a release in place: staged, hashed once more, committed; then the runtime is asked for a restart. And the way back."""

import ota_boot

from . import files
from .errors import OtaError
from .reading import clean_up, discard, read, translated


def install_ready(ota, force=False, quiet=False):
    """Stage and commit what was downloaded, then ask the runtime for a restart."""
    part = ota.store.get("part") or {}
    staged = part.get("staged")
    if not part.get("done") or files.file_size(ota_boot.ota("list") if staged else ota.archive) is None:
        raise OtaError("no_update", "no update has been downloaded")
    if part.get("legacy"):
        yield from _install(ota, lambda stage: _unpack(ota, part, stage), quiet)
    else:
        source = _again if staged else read
        rules = ota.rules(force or part.get("forced"), part.get("expect"))
        yield from _install(ota, lambda stage: source(ota, rules, stage), quiet)


def install_kept(ota, quiet):
    """The same for what was downloaded some time ago."""
    ota.report_space()
    yield from install_ready(ota, quiet=quiet)


def install_file(ota, force=False):
    """Verify, stage and commit a bundle that came some other way (an upload, a USB stick) and lies in ``ota.archive``."""
    ota.enter("installing")
    ota.report_space()
    rules = ota.rules(force, None)
    yield from _verify(ota, rules)
    ota.drop("obtain")
    yield from _install(ota, lambda stage: read(ota, rules, stage), False)


def _verify(ota, rules):
    from . import obtain

    return obtain.verify(ota, rules)


def roll_back(ota):
    """Install the kept previous version again."""
    from . import cleanup, previous

    ota.enter("installing")
    yield from cleanup.clean_up(ota)
    yield from previous.commit(ota.local_version(), ota.journal_header())
    _restart(ota, "going back to %s" % (ota.module.previous or "the previous version"))


def _again(ota, rules, make_stage):
    """The same with what lies in the stage already."""
    from . import direct

    target = make_stage()
    return (yield from direct.again(ota, rules, target)), target


def _unpack(ota, part, make_stage):
    """The same with an archive of the `latest` protocol."""
    from . import legacy

    target = make_stage()
    yield from legacy.unpack(ota, part, target)
    return target.header, target


def _install(ota, unpack, quiet):
    ota.enter("installing")
    try:
        yield from clean_up(ota)
        ota.forget()
        header, target = yield from translated(unpack(lambda: _stage(ota, quiet)))
        ota.forget()
        yield from translated(_recheck(ota, target))
        ota.forget()
        yield from translated(_commit(ota, target))
    except OtaError as error:
        if error.reason != "no_memory":  # the next try needs no download
            yield from discard(ota)
        raise
    _restart(ota, "installing %s" % header["version"])  # first of all: what is committed must not hang on what follows
    try:
        ota.discard()
        ota.store.save()
    except (OSError, MemoryError) as error:
        ota.log("the download could not be cleared away:", error)


def _stage(ota, quiet):
    from .stage import Stage

    return Stage(ota.excluded, ota.view, _silent if quiet else ota.log, ota.give_up_previous)


def _recheck(ota, target):
    from . import recheck

    yield from recheck.check(target, ota.keys, ota.room)


def _commit(ota, target):
    from . import journal

    yield from journal.commit(target, ota.local_version(), ota.journal_header())


def _restart(ota, why):
    ota.enter("rebooting")
    ota.log("lowest free memory of this update: %d bytes" % ota.lowest)
    ota.log("committed:", why)
    ota.platform.request_reset(why)


def _silent(*parts):
    """Where a caller asked for quiet."""
