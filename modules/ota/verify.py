"""Looking after what runs: finding damaged files and repairing them, and saying what an update would do."""

import ota_boot

from . import files
from .errors import OtaError
from .kept import RUNNING, entries, read_header

_MOST = 32  # damaged files that are named


def verify(ota, repair):
    """Compare the running version with its list, and repair what is damaged. Generator; returns the paths, at most 32.

    The repair is the full bundle of the running version by the way of any update: stage, journal, trial. If the server has a
    newer one that this board would take, it is that. OtaError ``no_update`` when there is no list, or nothing to repair with.
    """
    before = ota.module.state
    ota.enter("checking")
    damaged = yield from _find(ota)
    ota.log("verified: %d damaged files" % len(damaged))
    ota.platform.bus.publish("ota/damaged", len(damaged))
    ota.forget()
    if damaged and repair:
        from . import jobs

        yield from jobs.bring(ota, (yield from _repair_with(ota, jobs.look)), True, _always)
    else:
        ota.enter(before)
    return damaged


def plan(ota):
    """What a check would lead to now, without doing it. Generator; returns a dict, see Module.plan."""
    from . import jobs

    before = ota.module.state
    ota.enter("checking")
    found = {"from": ota.local_version(), "to": None}
    offer = yield from jobs.look(ota, False)
    ota.forget()
    if offer:
        try:
            found.update((yield from _plan(ota, offer)))
        except OtaError as error:
            if not offer.full or error.kind != "verification":
                raise
            ota.log("the delta is of no use here:", error.message)
            found.update((yield from _plan(ota, offer.full)))
    ota.enter(before)
    ota.log("plan:", ", ".join("%s %s" % (key, found[key]) for key in _ORDER if key in found))
    return found


_ORDER = ("from", "to", "kind", "fetch", "files", "write", "delete", "free")


def _always():
    return True


def _find(ota):
    from .excluded import excluded

    if read_header(RUNNING) is None:
        raise OtaError("no_update", "there is no list of the running version to compare with")
    damaged = []
    for _n, entry in entries(RUNNING):
        path = entry["path"]
        if not entry.get("excluded") and not excluded(path, ota.excluded):
            if not (yield from files.same(ota_boot.live(path), entry["size"], entry["sha256"], ota.view)):
                ota.warn("damaged:", path)
                if len(damaged) < _MOST:
                    damaged.append(path)
        yield
    return damaged


def _repair_with(ota, look):
    """The offer of a full bundle that repairs this board. Generator."""
    offer = yield from look(ota, True)
    if offer and offer.version != ota.local_version():
        offer = yield from look(ota, False)
    ota.forget()
    if not offer or offer.legacy:
        raise OtaError("no_update", "the server does not offer version %s, which runs here, any more" % ota.local_version())
    return offer.full or offer


def _plan(ota, offer):
    """Read the list at the beginning of the bundle, and compare. Generator."""
    found = {"to": offer.version, "kind": "delta" if offer.full else "full", "fetch": offer.size, "free": files.free_bytes()}
    if not offer.legacy:  # an archive of the `latest` protocol has no list
        from . import bundle, direct
        from .draft import Draft

        draft = Draft(ota.excluded, ota.view)
        rules = ota.rules(False, [offer.version, offer.sequence])
        try:
            yield from direct.run(ota, offer, lambda start, view: bundle.plan(start, rules, view, draft, ota.forget))
        finally:
            yield from files.remove_tree(ota_boot.ota("list"))
        found.update(draft.found)
    return found
