"""The work of an update, step by step. Each function is a generator: tick() advances it, a blocking method runs it to its end.

They raise OtaError; what they leave on flash then is said in fetch, stage and trial.
"""

import ota_boot

from . import files
from .errors import OtaError, from_system

# The parts are imported where they are used, and forgotten between the phases: see Job.forget.


def start(ota, name, flag):
    """The generator of the job called `name`.

    :param flag: force; quiet for `stage`, which has nothing to force; repair for `verify`.
    """
    if name == "check":
        return update(ota, False, lambda: may_install(ota))
    if name == "fetch":
        return update(ota, flag, _never)
    if name == "update":
        return update(ota, flag, _always)
    if name == "install":
        return install_file(ota, flag)
    if name == "stage":
        return install_ready(ota, quiet=flag)
    if name == "rollback":
        return roll_back(ota)
    if name == "upload":
        return _upload()
    if name in ("verify", "plan"):
        return _care(ota, name, flag)
    return _after_start(ota)


def update(ota, force, install):
    """Ask, download and verify; then install, if that is wanted and allowed now. Returns True when an update is ready."""
    ota.enter("checking")
    offer = yield from look(ota, force)
    ota.forget()
    if offer is None:
        ota.enter("up_to_date")
        ota.log("up to date: running", ota.local_version())
        return False
    yield from bring(ota, offer, force, install)
    return True


def bring(ota, offer, force, install):
    """Take what is offered, or where that does not work, what can be taken in its place. Generator."""
    ota.available(offer)
    while offer:
        try:
            yield from take(ota, offer, force, install)
            return
        except OtaError as error:
            offer = _other_way(ota, offer, error)


def take(ota, offer, force, install):
    """Download, verify and perhaps install what is offered. Generator."""
    yield from _fetch(ota, offer, force)
    ota.forget()
    now = install()
    if not now:
        ota.store.save()  # what is said to be ready survives a power cut
    ota.enter("ready")
    ota.log("version %s is ready to install" % offer.version)
    if now:
        yield from install_ready(ota, force)


def _other_way(ota, offer, error):
    """What to try after a failure: another Offer. The error itself where there is none."""
    from . import ways

    return ways.other(ota, offer, error)


def install_ready(ota, force=False, quiet=False):
    """Stage and commit what was downloaded, then ask the runtime for a restart."""
    part = ota.store.get("part") or {}
    staged = part.get("staged")
    if not part.get("done") or files.file_size(ota_boot.ota("list") if staged else ota.archive) is None:
        raise OtaError("no_update", "no update has been downloaded")
    if part.get("legacy"):
        yield from _install(ota, lambda stage: _unpack(ota, part, stage), quiet)
    else:
        read = _again if staged else _read
        rules = ota.rules(force or part.get("forced"), part.get("expect"))
        yield from _install(ota, lambda stage: read(ota, rules, stage), quiet)


def install_file(ota, force=False):
    """Verify, stage and commit a bundle that came some other way (an upload, a USB stick) and lies in ``ota.archive``."""
    ota.enter("installing")
    rules = ota.rules(force, None)
    yield from _verify(ota, rules)
    yield from _install(ota, lambda stage: _read(ota, rules, stage), False)


def roll_back(ota):
    """Install the kept previous version again."""
    from . import cleanup, previous

    ota.enter("installing")
    yield from cleanup.clean_up(ota)
    yield from previous.commit(ota.local_version(), ota.journal_header())
    _restart(ota, "going back to %s" % (ota.module.previous or "the previous version"))


def _care(ota, name, flag):
    from . import care

    return care.verify(ota, flag) if name == "verify" else care.plan(ota)


def _after_start(ota):
    from . import startup

    return startup.after_start(ota)


def look(ota, force):
    """The server's answer, and for the trial of an update: whether there was one at all."""
    from . import check

    try:
        ota.require_network()
        offer = yield from check.look(ota, force)
    except OtaError as error:
        if error.kind == "transport":
            ota.store.set("checked", False)
        raise
    ota.store.set("checked", True)
    ota.store.save()
    return offer


def _fetch(ota, offer, force):
    """Download and verify; what is refused is deleted."""
    _check_firmware()
    ota.forget()
    ota.enter("downloading")
    ota.report_space()
    if offer.legacy:
        from . import legacy

        yield from legacy.download(ota, offer)
        return
    expect = [offer.version, offer.sequence]
    if offer.streamed or (ota.store.get("part") or {}).get("staged") == offer.sha256:
        offer.streamed = True
        yield from _translated(_stream(ota, offer, ota.rules(force, expect)))
    else:
        yield from _download(ota, offer)
        ota.forget()
        yield  # what lies on the stack keeps some of it until the next step
        yield from _verify(ota, ota.rules(force, expect))
    part = ota.store.get("part")
    part["expect"], part["forced"] = expect, force


def _check_firmware():
    from . import inflate

    inflate.check_firmware()


def _stream(ota, offer, rules):
    from . import direct

    yield from direct.stream(ota, offer, rules)


def _download(ota, offer):
    from . import fetch

    yield from _translated(fetch.download(ota, offer, ota.archive, ota.view))


def _verify(ota, rules):
    """Check the whole archive before anything is staged; what is refused is deleted."""
    ota.log("verifying")
    try:
        header, _none = yield from _translated(_read(ota, rules, None))
    except OtaError as error:
        if error.reason != "no_memory":  # the next try needs no download
            yield from discard(ota)
        raise
    verified(ota, header)


def verified(ota, header):
    ota.module.notes = header["notes"]
    ota.log("verified:", header["files"], "files,", "signed" if ota.keys else "not signed: no key is pinned")


def _read(ota, rules, make_stage):
    """Read the downloaded bundle: check it, and fill the stage that `make_stage` makes, unless that is None.

    Generator; returns the header and the stage.
    """
    from . import bundle

    target = make_stage() if make_stage else None
    header = yield from bundle.read(lambda: _open_archive(ota), rules, ota.view, target, ota.forget)
    return header, target


def _open_archive(ota):
    from . import inflate

    return inflate.Gzip(ota.archive, ota.room)


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
    ota.report_space()
    try:
        yield from _clean_up(ota)
        ota.forget()
        header, target = yield from _translated(unpack(lambda: _stage(ota, quiet)))
        ota.forget()
        yield from _translated(_recheck(ota, target))
        ota.forget()
        yield from _translated(_commit(ota, target))
    except OtaError as error:
        if error.reason != "no_memory":  # the next try needs no download
            yield from discard(ota)
        raise
    ota.discard()
    ota.store.save()
    _restart(ota, "installing %s" % header["version"])


def _stage(ota, quiet):
    from .stage import Stage

    return Stage(ota.excluded, ota.view, _silent if quiet else ota.log, ota.give_up_previous)


def _recheck(ota, target):
    from . import recheck

    yield from recheck.check(target, ota.keys)


def _commit(ota, target):
    from . import journal

    yield from journal.commit(target, ota.local_version(), ota.journal_header())


def _clean_up(ota):
    from . import cleanup

    yield from cleanup.clean_up(ota)


def _restart(ota, why):
    ota.enter("rebooting")
    ota.log("lowest free memory of this update: %d bytes" % ota.lowest)
    ota.log("committed:", why)
    ota.platform.request_reset(why)


def discard(ota):
    """What is refused leaves nothing behind."""
    ota.forget()
    ota.discard()
    yield from _clean_up(ota)
    for name in ("stage", "loader", "list"):
        yield from files.remove_tree(ota_boot.ota(name))


def _translated(job):
    """Run a job, and let it fail with nothing but an OtaError: what clears up afterwards waits for those. Generator."""
    try:
        return (yield from job)
    except (OSError, MemoryError) as error:
        raise from_system(error)


def _silent(*parts):
    """Where a caller asked for quiet."""


def may_install(ota):
    """True when a found update may be installed without being asked; else the bus learns what it waits for."""
    from .plan import waits_for

    ota.module.wait_for(waits_for(ota))
    return not ota.module.waiting


def _upload():
    """The job of an upload: it does nothing but keep others away."""
    while True:
        yield True


def _always():
    return True


def _never():
    return False
