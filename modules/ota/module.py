"""The OTA module: what wifi, the web page, MQTT and the console call. The work is done by others: see updates and phases.

Every job is a generator, one at a time (see job). The blocking methods run it to its end; the others leave it to tick(), one step
a loop, so that everything else goes on. One that has no memory beside the other modules is noted for an update boot: see state.
"""

import gc
import time

import ota_boot
from iot_platform.log import SerialLog
from iot_platform.module import Module as Base
from iot_platform.module import name_ok
from iot_platform.slots import Slots
from micropython import const

from . import phases
from .errors import OtaError

_DAY = const(86_400)
_LATER_MS = const(60_000)  # a check that was due, but could not begin, comes so much later
_SETTLE_MS = const(3_000)  # that an update boot leaves MQTT once there is a network
_PATIENCE = const(3)  # times that memory was short, one after the other
_LOOK_MS = const(10_000)  # from one look at the window to the next
_UNKNOWN = const("unknown!")  # the version of a board without a version file; older than everything


class Module(Base):
    name = "ota"

    def __init__(self, platform):
        super().__init__(platform)
        self.cfg = {}
        self.keys = ()
        self.excluded = ()
        self.store = None
        self.state = "idle"
        self.error = None  # the OtaError of the last job that failed
        self.offered = None  # the version that was found last, and its notes
        self.notes = ""
        self.installs = False  # True while a check goes on to install what it has found
        self.waiting = ""  # what a found update waits for
        self.previous = None  # the kept version, once the clean-up after the start has looked
        self.percent = -1
        self.bytes = 0  # that went over the wire since the start
        self.online = False  # wifi has said that there is a network
        self.check_soon = False
        self.starved = 0  # checks that nobody asked for, and that had no memory to begin
        self.next_check = None  # ticks_ms, or None while nothing is planned
        self.look_at = time.ticks_ms()  # of the next look whether what waits still has to
        self._job = None  # job.Job, while one runs
        self.noted = None  # (name, flag) of a job for an update boot: to be noted, or in one to be done
        self._version = _UNKNOWN

    # -- configuration

    def load_ota_cfg(self):
        """Read and check profile.json; True when OTA can run. What is wrong is logged in one line."""
        return phases.call("config", "load", self)

    @property
    def channel(self):
        channel = self.platform.prefs.text("ota.channel")
        return channel if name_ok(channel) else self.cfg.get("channel", "stable")

    @property
    def job(self):
        """The name of the job that runs now or begins soon, or None."""
        return self._job.name if self._job else self.noted and self.noted[0]

    @property
    def ordered(self):
        """True while an update that somebody has asked for is neither done nor has failed, whatever restarts."""
        return bool(self.store) and self.store.get("order") is not None

    def local_version(self):
        """The running version; "unknown!" when there is none."""
        try:
            with open(ota_boot.live("version")) as f:
                return f.read(64).strip() or _UNKNOWN
        except (OSError, ValueError):
            return _UNKNOWN

    def is_newer(self, version):
        """True when `version` is newer than what runs; what is no version is not."""
        return phases.call("release.fields", "compare_versions", version, self._version) > 0

    # -- blocking methods

    def check_for_updates(self, version_check=True):
        """Ask the server; verify and stage what is newer. True when an update is ready to install."""
        return bool(self._complete("fetch", not version_check))

    def force_update(self):
        """The same whatever the current version, then install. Returns a status text."""
        if self._complete("update", True):
            return "restarting to install version %s" % self.offered
        if self.noted:
            return "restarting to update with only the modules that it needs"
        return "not updated: %s" % (self.error or "nothing to install")

    def install_new_firmware(self, quiet=False):
        """Commit what was staged, and restart into it. True when it was committed."""
        self._complete("stage", False)
        return self.state == "rebooting"

    def check_free_space(self, min_free_space):
        """True when `min_free_space` bytes are free; logs and publishes free disk and free memory."""
        if isinstance(min_free_space, bool) or not isinstance(min_free_space, (int, float)):
            self.warn("min_free_space must be a number of bytes")
            return False
        return self.report_space() >= min_free_space

    def verify(self, repair=True):
        """Compare every file with the list of the running version; a list of the damaged ones' paths, at most 32.

        With `repair` the bundle is fetched, and a restart asked for, as with any update. None when it failed: see `error`.
        """
        return self._complete("verify", bool(repair))

    def plan(self):
        """What an update would do now: a dict, or None when the server cannot be asked (see `error`).

        ``from``, ``to`` (None when there is nothing to do), ``size`` and ``free`` in bytes; unless it is an archive without a
        list, ``files`` and ``write`` (number and bytes of the files to be written), ``delete`` (files). Only the list is fetched.
        """
        return self._complete("plan", False)

    def recursive_delete(self, path):
        """Delete a file or tree. OtaError for the root, for critical files, and for whatever escapes; True if it existed."""
        return phases.call("install.cleanup", "recursive_delete", path, self.platform)

    # -- the same as jobs of tick()

    def request_check(self):
        """Check soon, and install if the profile lets it. False when OTA is off or busy with another update."""
        if self.job == "start":
            self.check_soon = True
            return True
        return self._request("check", True)

    def check_when_due(self):
        """There is a network (again): plan the next check, if none is planned. When that comes is said in schedule."""
        self.online = True
        if self.noted:  # in an update boot: what MQTT has to say first takes memory
            self.look_at = time.ticks_add(time.ticks_ms(), _SETTLE_MS)
        if not self.job and self.cfg and (self.next_check is None or (self.error and self.error.reason == "no_network")):
            phases.call("schedule", "at_start", self)

    def request_update(self, force=False):
        """Check and install, whatever `auto_install` and `window` say; after a check that runs. False when OTA is off or busy."""
        if self.job in ("start", "check") and not (self.ordered or ota_boot.state):
            self.store.set("order", bool(force))
            self.save()
            self.check_soon = True
            return True
        return self._request("update", bool(force))

    def request_install(self, force=False):
        """Install the bundle that lies in ``archive`` (an upload). False when OTA is off or busy."""
        return self._request("install", bool(force))

    def request_verify(self, repair=True):
        """verify() as a job: its result is logged, and on the bus as ``ota/damaged``. False when OTA is off or busy."""
        return self._request("verify", bool(repair))

    def request_plan(self):
        """plan() as a job: its result is logged. False when OTA is off or busy."""
        return self._request("plan")

    def rollback(self):
        """Go back to the kept version, or end the trial of a new one. False when OTA is off or busy."""
        if ota_boot.state == "trial":
            self.stop()  # else it may confirm while a module keeps the restart waiting
            ota_boot.undo("by_hand", "the rollback was asked for")
            self.enter("rebooting")
            self.platform.request_reset("rolling back")
            return True
        return self._request("rollback")

    def confirm(self):
        """Confirm the version on trial by hand. False when none is on trial."""
        if ota_boot.state != "trial" or self.state == "rebooting":
            return False
        self.stop()
        ota_boot.confirm()
        self.next_check = time.ticks_ms()  # should the rest find no memory now
        return self._request("start")

    def cancel(self):
        """Stop the running job, unless it is past the point where that makes sense. What was staged stays for the next try."""
        if not self.job or self.job == "start" or self.state == "rebooting" or ota_boot.state == "journal":
            return False
        self.stop()
        self.enter("idle")
        self.platform.log("ota: cancelled")
        self.store.set("order", None)
        phases.call("schedule", "after_check", self, None)
        self.save()
        if self.platform.update_boot:
            phases.call("state", "ended", self)
        return True

    def begin_upload(self):
        """Claim ``archive`` for an upload: an object with a buffer `view` and discard(); None when OTA is off or busy.

        No other job runs until stop(), or until somebody cancels it: then its `view` is None.
        """
        return self._begin("upload", False)

    def set_channel(self, channel):
        """Follow another channel from now on. OtaError when it cannot be a channel's name."""
        phases.call("schedule", "set_channel", self, channel)

    def status(self):
        """All that a page or a reply shows: a dict."""
        return {
            "state": self.state,
            "version": self._version,
            "channel": self.channel if self.cfg else None,
            "available": self.offered,
            "waiting": self.waiting,
            "notes": self.notes,
            "progress": max(self.percent, 0),
            "error": self.error.reason if self.error else None,
            "message": self.error.message if self.error else None,
            "last": self.store.get("last") if self.store else None,
            "previous": self.previous,
            "job": self.job,
        }

    # -- lifecycle

    def start(self):
        self._version = self.local_version()
        if self.platform.update_boot:
            phases.alone = None
        if not ota_boot.ready:
            self.warn("off: the recovery loader did not come to its end, so nothing here may change anything")
        if not ota_boot.ready or not self.load_ota_cfg():
            self.state = "failed"
            self.cfg = {}
            return
        self.store = Slots((ota_boot.ota("state.0"), ota_boot.ota("state.1")))
        phases.call("state", "mend", self)
        self.platform.board.earliest = self.store.get("since", _DAY) - _DAY
        phases.call("schedule", "chosen", self)
        phases.call("state", "recall", self)
        self._request("start")

    def tick(self):
        if self._job:
            self._job.advance()
        elif self.noted:
            self._begin_noted()
        elif self.waiting and time.ticks_diff(time.ticks_ms(), self.look_at) >= 0:
            self.look_at = time.ticks_add(time.ticks_ms(), _LOOK_MS)
            if self.waiting.startswith("window") and not phases.call("schedule", "waits_for", self):
                self._request("stage")  # what waited for its window
        elif self.next_check is not None and time.ticks_diff(time.ticks_ms(), self.next_check) >= 0:
            self.next_check = time.ticks_add(time.ticks_ms(), _LATER_MS)
            unfinished = ota_boot.state and (self.error or ota_boot.state != "trial")
            self._request("start" if unfinished else "check")  # what the start could not finish comes first

    def telemetry(self):
        return {"ota/status": self.state, "version": self._version}

    def on_command(self, command):
        """A setting of ours was changed in the preferences."""
        if command.path in ("ota.auto_install", "ota.window"):
            phases.call("schedule", "chosen", self)

    def stop(self):
        """No job any more, neither one that runs nor one that is noted."""
        self.noted = None
        if self._job:
            self._job.close()
            self._job = None
            phases.forget()

    # -- what jobs use

    def job_ended(self, job, error):
        """A job is over; `error` is what it failed with, or None."""
        self._job = None
        phases.forget()
        if error and error.reason == "no_memory":
            if self.platform.update_boot:
                if phases.call("state", "moves", self, job, error):
                    return
            elif job.name not in ("start", "upload", "plan") and (job.eager or self.store.get("failures", 0) + 1 >= _PATIENCE):
                self.noted = (job.name, job.flag)  # nothing is imported for that: there may be no memory for anything
                self.platform.log("ota: short of memory:", error.message)
                return
        if error:
            self.failed(job.name, error)
            self.report_space()
        elif job.name != "start":
            self.tell(None)
        if self.state != "rebooting" or self.ordered:  # else the trial's end tells
            if job.name != "start":
                phases.call("state", "judge", self, job.name, error)
            phases.call("schedule", "after_job", job, error)
            if self.store.get("ready") and not self.waiting and job.name in ("check", "plan", "verify"):
                phases.call("state", "wait_again", self)
        if self.platform.update_boot and job.name != "start":
            phases.call("state", "ended", self)
        self.save()

    def failed(self, name, error):
        """A job has failed, or cannot even begin: remember why, and tell it."""
        self.error = error
        self.enter("failed")
        self.warn("%s failed: %s (%s)" % (name, error.message, error.reason))
        self.tell(error)

    def enter(self, state):
        self.state = state
        self.percent = -1
        self.platform.bus.publish("ota/status", state)
        if self.waiting:
            self.wait_for("")

    def found(self, version, notes=""):
        """This is offered; None: nothing is. Remembered with the next save."""
        self.offered, self.notes = version, notes
        self.store.set("offered", [version, notes] if version else None)
        self.platform.bus.publish("ota/available", version)

    def wait_for(self, what):
        """What a found update waits for before it is installed; "" for nothing."""
        self.waiting = what
        self.look_at = time.ticks_ms()
        self.platform.bus.publish("ota/waiting", what)
        if what:
            self.platform.log("ota: version %s waits: %s" % (self.offered, what))

    def report_space(self):
        """Log and publish free disk and free memory, both in bytes; returns the disk's."""
        gc.collect()
        disk, ram = self.platform.board.disk_free(), self.platform.board.mem_free()
        self.platform.log("ota: free disk %d bytes, free memory %d bytes" % (disk, ram))
        self.platform.bus.publish("freedisk", disk)
        self.platform.bus.publish("freeram", ram)
        return disk

    def warn(self, *parts):
        SerialLog.warning("ota:", *parts)

    # -- inside

    def _begin(self, name, flag):
        """Start a job for tick() to advance: a job.Job, or None when OTA is off or another job runs. MemoryError."""
        if not self.cfg:
            self.warn("off: see the profile")
            return None
        if self.job or self.state == "rebooting" or (ota_boot.state and name != "start"):
            SerialLog.debug("ota: busy with %s, so not: %s" % (self.job or self.state, name))
            return None
        return self._new_job(name, flag)

    def _new_job(self, name, flag):
        if name == "check" and self.ordered:
            name, flag = "update", self.store.get("order")
        self.error = None
        self.installs = False
        try:
            self._job = phases.part("job").Job(self, name, flag)
        finally:
            if not self._job:
                phases.in_job = ()
                phases.forget()
        return self._job

    def _begin_noted(self):
        """A job for an update boot: in one, begin it when it is time; elsewhere leave the note for it, and restart."""
        name, flag = self.noted
        if not self.platform.update_boot:
            web = self.platform.module("web")
            if web and web.server:
                web.end()  # as the restart will: the note takes memory too
            else:
                self.noted = None
                try:
                    phases.call("state", "note", self, name, flag)
                except MemoryError:  # the C stack may still name what has just ended, and keep its memory, for some loops
                    self.starved += 1
                    if self.starved <= _PATIENCE:
                        self.noted = (name, flag)
                    else:
                        self.starved = 0
                        self.failed(name, OtaError("no_memory", "there is too little even for a note before a restart"))
        elif time.ticks_diff(time.ticks_ms(), self.look_at) >= 0:
            self.noted = None
            self._new_job(name, flag)

    def _request(self, name, flag=False):
        """Begin a job, or, where there is too little memory, have an update boot for it. False when OTA is off or busy."""
        try:
            return bool(self._begin(name, flag))
        except MemoryError:
            if name == "start":
                raise
            self.starved += 1
            if name != "check" or flag or self.starved >= _PATIENCE:
                self.starved = 0
                self.noted = (name, flag)
            return True  # a check that nobody has asked for is due again in a minute

    def _complete(self, name, flag):
        """Run a job to its end here and now; its result, or None when it failed (see `error`)."""
        job = self._begin(name, flag)
        if not job:
            self.error = OtaError("busy" if self.cfg else "not_configured", "OTA is busy" if self.cfg else "OTA is off")
            return None
        while self._job is job:
            job.step()
            self.platform.board.feed()
            time.sleep_ms(1 if self.state in ("downloading", "checking") else 0)
        return None if self.error else job.result

    def save(self):
        """What a full disk does not take is forgotten: it must keep no job from its end, and no board in an update boot."""
        try:
            self.store.save()
        except OSError as error:
            self.warn("what became of the job cannot be remembered:", error)

    def tell(self, error):
        """Tell the bus what went wrong, None for nothing."""
        self.platform.bus.publish("ota/error", error.reason if error else "")
        self.platform.bus.publish("ota/message", error.message if error else "")
