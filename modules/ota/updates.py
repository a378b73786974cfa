"""An update, from the check to the restart, to be read from top to bottom; docs/architecture.md has its phases in a table.

All are generators, which tick() or a blocking method advances, and raise OtaError. What has been staged stays for the next
try after a failure of the network, or damage on the way. What is refused leaves nothing.
"""

import gc
import os

import ota_boot
from micropython import const

from . import phases
from .errors import OtaError, from_system
from .job import PEAK

_OBTAIN = PEAK + 8 * 1024  # bytes of free heap, with what the other modules take meanwhile
_TRIES = const(3)  # update boots, as state has it: importing that would take memory (a test compares them)
_ROOM = const(16 * 1024)  # bytes of disk that an update boot is asked for at least


def start(ota, flag):
    """The generator of a job; `flag`: see job.Job."""
    jobs = {"install": install_file, "stage": install_ready, "rollback": roll_back}
    return jobs.get(ota.name, update)(ota, flag and ota.name != "check")


def update(ota, force):
    """Ask, obtain, install. Returns True when an update is ready, or was found where installing has to be asked for."""
    ota.enter("checking")
    if ota.name == "update":
        ota.store.set("order", force)
        ota.module.save()
    offer = yield from ota.look(force)
    if offer is None:
        yield from ota.clear_stage()
        ota.module.found(None)
        ota.enter("up_to_date")
        ota.log("up to date: running", ota.local_version())
        return False
    yield
    available(ota, offer)
    yield
    waiting = waits_for(ota)
    yield
    ota.module.installs = not waiting
    if ota.name == "check" and waiting.startswith("asked"):
        ota.module.wait_for(waiting)
    else:
        yield from bring(ota, offer, force)
    return True


def available(ota, offer):
    ota.offer = offer
    ota.eager = True
    ota.module.found(offer["version"], offer["notes"])
    ota.store.set("next", None)  # an update that is interrupted goes on soon
    ota.module.save()
    ota.enter("available")
    ota.log("version %s is available" % offer["version"])
    ota.platform.bus.publish("ota/total", offer["size"])


def bring(ota, offer, force):
    """Stage what is offered, and install it unless that has to wait."""
    if ota.store.get("ready") != [offer["version"], offer["source"]]:
        yield from _refusing(ota, offer["source"], _obtain(ota, offer, force))
    ota.enter("ready")
    waiting = waits_for(ota)
    yield
    if waiting:
        if ota.verified:  # the signature is needed once more, in another job
            with open(ota_boot.ota("stage/id"), "wb") as f:
                f.write(ota.verified[0] + (ota.verified[1] or b""))
        ota.store.set("ready", [offer["version"], offer["source"]])
        ota.store.save()  # what is said to be ready survives a power cut
    ota.log("version %s is ready to install" % offer["version"])
    if waiting and ota.name == "check":
        ota.module.wait_for(waiting)
    if not waiting:
        yield from _commit(ota, offer["source"])


def install_ready(ota, _flag):
    """Install what was staged some time ago."""
    ready = ota.store.get("ready")
    if not ready:
        raise OtaError("no_update", "no update has been downloaded")
    yield from _commit(ota, ready[1])


def install_file(ota, force):
    """Verify, stage and install a bundle that came some other way (an upload, a USB stick) and lies in ``ota.archive``."""
    ota.enter("installing")
    if not ota_boot.exists(ota.archive):
        raise OtaError("no_update", "there is no bundle at %s" % ota.archive)
    yield from _refusing(ota, None, _fill(ota, None, force))
    yield from _commit(ota, None)
    ota.discard()


def roll_back(ota, _flag=False):
    """Install the kept previous version again."""
    ota.give_place()
    ota.enter("installing")
    yield from ota.phase("install.cleanup", "clean_up", ota)
    yield from ota.phase("install.journal", "commit_previous", ota)
    _restart(ota, "going back to %s" % (ota.module.previous or "the previous version"))


def _obtain(ota, offer, force):
    """Fill the stage. Before it begins there must be memory for it: better to restart now than in the middle."""
    yield from ota.clear()
    gc.collect()
    yield
    if ota.platform.board.mem_free() < _OBTAIN and not ota.platform.update_boot:
        if ota.module.report_space() < _ROOM:
            raise OtaError("no_space", "the disk is full")
        raise OtaError("no_memory", "an update needs %d bytes of memory, %d are free" % (_OBTAIN, gc.mem_free()))
    ota.enter("downloading")
    yield from _fill(ota, offer, force) if "head" in offer else _fill_from_archive(ota, offer)


def _fill(ota, offer, force):
    """Stage what this board needs of a bundle: that of an offer, or the file that was brought by hand. What was ready is so no
    more: list and stage become another's, and no power cut may leave the word beside them.
    """
    ota.store.set("ready", None)
    ota.module.save()
    yield
    head, header = yield from checked_head(ota, offer, force)
    ota.module.notes = header["notes"]
    text = "verified: %d files, signed" if ota.keys else "verified: %d files, not signed: no key is pinned"
    ota.log(text % header["files"])
    wanted, total = yield from ota.phase("install.prepare", "plan", ota, header, head[0])
    yield from _read(ota, offer, "read", head[2], wanted, total)


def _read(ota, offer, function, *args):
    """What bundle.reader does, with the code for a server where one is asked."""
    yield from ota.keep_place()
    yield
    if offer:
        yield from ota.load("transport.http")
    return (yield from ota.phase("bundle.reader", function, ota, offer, *args))


def checked_head(ota, offer, force, only=None):
    """``(what bundle.reader has fetched, the list's header)``, both checked: else nothing of it stays. Generator.

    With a BytesIO in `only` it is the header alone: then no list is kept, and none is checked.
    """
    header = None
    try:
        head = yield from _read(ota, offer, "fetch_head", only)
        yield from ota.keep_place()  # for the files
        yield
        if ota.keys:
            yield from ota.phase("release.signature", "checking", head[0], head[1], ota.keys)
        yield from ota.load("release.policy")
        yield from ota.load("bundle.lists")  # for the floor
        expect = (offer["version"], offer["sequence"]) if offer else None
        rules = (ota.name_on_server, ota.floor, bool(force), ota.platform.board.now(), expect)

        def accept(header):  # that holds no code of the rules beyond this phase
            phases.part("release.policy").check(header, *rules)

        with only or open(ota_boot.ota("list"), "rb") as f:
            header = yield from ota.phase("release.manifest", "check", f, accept, bool(only))
        ota.verified = head[:2]
    finally:
        if not header and ota_boot.exists(ota_boot.ota("list")):
            os.remove(ota_boot.ota("list"))
    return head, header


def _fill_from_archive(ota, offer):
    ota.give_place()
    yield from ota.clear_stage()
    try:
        yield from ota.phase("legacy.requests_http", "receive", ota, offer)
        yield from ota.clear(True)  # its decompressor takes 45 KB
        yield from ota.phase("legacy.latest", "unpack", ota, offer)
    except OtaError:
        yield from ota.clear_stage()
        raise
    finally:
        ota.discard()


def _commit(ota, source):
    """Check the stage once more and commit it."""
    ota.give_place()
    ota.enter("installing")
    header = yield from _refusing(ota, source, _journal(ota))
    _restart(ota, "installing %s" % header["version"])


def _journal(ota):
    yield from ota.phase("install.cleanup", "clean_up", ota)
    header = yield from ota.phase("install.prepare", "recheck", ota, not ota.verified)
    if not ota.verified and header["sequence"]:  # some time has passed since it was staged; not so by `latest`
        yield from ota.load("release.policy")
        yield from ota.load("bundle.lists")  # for the floor
        phases.part("release.policy").check(header, ota.name_on_server, ota.floor, True, ota.platform.board.now())
    yield from ota.phase("install.journal", "commit", ota, header)
    return header


def _refusing(ota, source, job):
    """Run a part of an update; what it refuses leaves nothing behind. Generator; returns what that returns.

    What is wrong in itself would be refused in the same way again, so it is not fetched again from its `source`. On a full disk
    what goes in any case goes first; then an update boot does all of it, in which nobody else writes.
    """
    try:
        return (yield from job)
    except (OSError, MemoryError, OtaError) as error:
        error = from_system(error)
        arrives = error.kind in ("transport", "damage") and ota.module.state != "installing"
        if arrives and error.kind == "damage":
            ota.store.set("part", None)  # whole files have their digests; the beginning of a large one may be what is wrong
        yield from ota.clear()
        again = error.reason == "no_memory" and ota.platform.update_boot < _TRIES
        if not again and not arrives:
            if ota.name == "install":
                ota.discard()
            yield from ota.clear_stage()
            yield from ota.phase("install.cleanup", "clean_up", ota)
        if source and error.kind == "verification":
            ota.store.set("refused", [source, error.reason, error.message])
        if error.reason == "no_space" and "head" in (ota.offer or ()) and (yield from ota.phase("verify", "make_room", ota)):
            raise OtaError("no_memory", "the disk was full")
        raise error


def _restart(ota, why):
    ota.enter("rebooting")
    ota.log("lowest free memory of this update: %d bytes" % ota.lowest)
    ota.log("committed: %s" % why)
    ota.platform.request_reset(why)


def waits_for(ota):
    """What the installation of what was found has to wait for, "" for nothing."""
    if ota.name == "fetch":
        return "asked"
    return phases.call("schedule", "waits_for", ota) if ota.name == "check" else ""
