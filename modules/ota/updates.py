"""The work of an update, step by step. Each function is a generator: tick() advances it, a blocking method runs it to its end.

They raise OtaError; what they leave on flash then is said in fetch, stage and trial.
"""

from .errors import OtaError

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
        return _installer().install_file(ota, flag)
    if name == "stage":
        return _installer().install_kept(ota, flag)
    if name == "rollback":
        return _installer().roll_back(ota)
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
    yield from _obtain(ota, offer, force)
    ota.drop("obtain", "reading")
    ota.forget()
    ota.enter("ready")
    now = install()
    if not now:
        ota.store.save()  # what is said to be ready survives a power cut
    ota.log("version %s is ready to install" % offer.version)
    if now:
        yield from _installer().install_ready(ota, force)


def _obtain(ota, offer, force):
    from . import obtain

    return obtain.fetch(ota, offer, force)


def _installer():
    from . import install

    return install


def _other_way(ota, offer, error):
    """What to try after a failure: another Offer. The error itself where there is none."""
    from . import ways

    return ways.other(ota, offer, error)


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
