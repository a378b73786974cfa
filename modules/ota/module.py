"""The OTA module: what wifi, the web page, MQTT and the console call. Only this file stays in memory; the work is done by others.

Every job is a generator, one at a time (see job). The methods of the first group run it to its end; those of the second leave
it to tick(), one step a loop, so that everything else goes on.

    check_for_updates() force_update() install_new_firmware() verify() plan()          blocking
    request_check() request_update() request_verify() request_plan() rollback()       advanced by tick()
"""

import time

import ota_boot
from iot_platform import parts
from iot_platform.module import Module as Base

from .room import Room

_STAYS = ("module", "errors", "store", "room")  # all other parts of the package come and go
_CHANCES = 3  # that a job has to begin once more, with more memory
_ROUNDS = 5  # of the loop that other modules have to end what they were asked to end
_ANSWER = 20  # rounds in which a browser gets the answer to its request for an update, before it is sent away
_LATER_MS = 60_000  # a check that was due, but could not begin, comes so much later
_LOOK_MS = 10_000  # from one look at the window to the next
_AT_START = ("trial", "clean_up")  # jobs that no one asked for
UNKNOWN = "unknown!"  # the version of a board without a version file; older than everything


class Module(Base):
    name = "ota"

    def __init__(self, platform):
        super().__init__(platform)
        self.cfg = {}
        self.keys = ()
        self.excluded = ()
        self.store = None
        self.room = Room()  # taken before other modules are loaded, while the heap is whole
        self.state = "idle"
        self.error = None  # the OtaError of the last job that failed
        self.notes = ""
        self.offered = None
        self.waiting = ""  # what a found update waits for
        self.previous = None  # the kept version, once the clean-up after the start has looked
        self.percent = -1
        self.bytes = 0  # that went over the wire since the start
        self.online = False  # wifi has said that there is a network
        self.check_soon = False
        self.next_check = None  # ticks_ms, or None while nothing is planned
        self._look_at = 0  # ticks_ms of the next look whether what waits still has to
        self._job = None  # job.Job, while one runs
        self._once_more = None  # a job that begins as soon as others have given back memory: its name, force, and chances
        self._rounds = 0  # until then
        self._version = UNKNOWN

    # -- configuration

    def load_ota_cfg(self):
        """Read and check profile.json; True when OTA can run. What is wrong is logged in one line."""
        return self._calls().load_ota_cfg(self)

    @property
    def channel(self):
        return self.platform.prefs.get("ota.channel") or self.cfg.get("channel", "stable")

    @property
    def job(self):
        """The name of the job that runs now, or None."""
        return self._job.name if self._job else self._once_more and self._once_more[0]

    def local_version(self):
        """The running version; "unknown!" when there is none."""
        try:
            with open(ota_boot.live("version")) as f:
                return f.read(64).strip() or UNKNOWN
        except (OSError, ValueError):
            return UNKNOWN

    def is_newer(self, version):
        """True when `version` is newer than what runs. ValueError when it is no version."""
        from . import versions

        if not versions.valid(version):
            raise ValueError("a version that is none")
        return versions.compare(version, self._version) > 0

    # -- blocking methods

    def check_for_updates(self, version_check=True):
        """Ask the server; download and verify what is newer. True when an update is ready to install."""
        return self._calls().check_for_updates(self, version_check)

    def force_update(self):
        """The same whatever the current version, then install. Returns a status text."""
        return self._calls().force_update(self)

    def install_new_firmware(self, quiet=False):
        """Stage, commit and restart into what was downloaded. True when it was committed."""
        return self._calls().install_new_firmware(self, quiet)

    def check_free_space(self, min_free_space):
        """True when `min_free_space` bytes are free; logs and publishes free disk and free memory."""
        return self._calls().check_free_space(self, min_free_space)

    def verify(self, repair=True):
        """Compare every file with the list of the running version; a list of the damaged ones' paths, at most 32.

        With `repair` the full bundle is fetched, and a restart asked for, as with any update. None when it failed: see `error`.
        """
        return self._calls().complete(self, "verify", bool(repair))

    def plan(self):
        """What an update would do now: a dict, or None when the server cannot be asked (see `error`).

        ``from``, ``to`` (None when there is nothing to do), ``kind`` (full or delta), ``fetch`` and ``free`` in bytes; unless it
        is an archive without a list, ``files`` and ``write`` (number and bytes of the files to be written), ``delete`` (files).
        Only the list is fetched, and nothing is kept of it.
        """
        return self._calls().complete(self, "plan", False)

    def recursive_delete(self, path):
        """Delete a file or tree. OtaError for the root, for critical files, and for whatever escapes; True if it existed."""
        return self._calls().recursive_delete(self, path)

    # -- the same as jobs of tick()

    def request_check(self):
        """Check soon, and install if the profile lets it. False when OTA is off or busy with another update."""
        if self.job in _AT_START:
            self.check_soon = True
            return True
        return self._request("check")

    def check_when_due(self):
        """There is a network (again): plan the next check, if none is planned. When that comes is said in schedule."""
        self.online = True
        if not self.job and self.cfg and (self.next_check is None or (self.error and self.error.reason == "no_network")):
            from . import plan

            plan.at_start(self)
            self.forget()

    def request_update(self, force=False):
        """Check and install, whatever `auto_install` and `window` say. False when OTA is off or busy."""
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
            ota_boot.undo("by_hand", "the rollback was asked for")
            self.platform.request_reset("rolling back")
            return True
        return self._request("rollback")

    def confirm(self):
        """Confirm the version on trial by hand. False when none is on trial."""
        if ota_boot.state != "trial":
            return False
        self._stop_job()
        ota_boot.confirm()
        return self._request("trial")

    def cancel(self):
        """Stop the running job, unless it is past the point where that makes sense. What was downloaded stays for resuming."""
        if not self.job or self.job in _AT_START or self.state == "rebooting":
            return False
        self._stop_job()
        self.enter("idle")
        self.platform.log("ota: cancelled")
        from . import plan

        plan.later(self)
        self.forget()
        return True

    def begin_upload(self):
        """Claim ``archive`` for an upload: a job.Job with a buffer `view`; None when OTA is off or busy.

        No other job runs until end_upload(), or until somebody cancels it.
        """
        return self.begin("upload")

    def end_upload(self, upload):
        """The upload is over; what lies in ``archive`` is the caller's affair."""
        if self._job is upload:
            self._stop_job()

    def uploading(self, upload):
        """False once the upload was cancelled."""
        return self._job is upload

    def has_archive(self):
        """True when something lies in ``archive`` that could be installed."""
        return ota_boot.exists(self.archive)

    def can_roll_back(self):
        """True when there is a trial to end, or a kept version to go back to."""
        return ota_boot.state == "trial" or bool(self.previous)

    def set_channel(self, channel):
        """Follow another channel from now on. OtaError when it cannot be a channel's name."""
        self._calls().set_channel(self, channel)

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
        if not ota_boot.ready:
            self.warn("off: the recovery loader did not come to its end, so nothing here may change anything")
        if not ota_boot.ready or not self.load_ota_cfg():
            self.state = "failed"
            self.cfg = {}
            self.room = None
            return
        from .store import Store

        self.store = Store()
        self.platform.bus.publish("ota/channel", self.channel)
        self._request("trial" if ota_boot.state == "trial" else "clean_up")

    def tick(self):
        if self._once_more:
            self._rounds -= 1
            if self._rounds == _ROUNDS:
                self.platform.relax()
            elif self._rounds <= 0:
                self.once_more()
        elif self._job:
            self._job.advance()
            if self._job and self._job.exhausted:
                self.make_room(self._job.name, self._job.force, self._job.chances)
        elif self.waiting and time.ticks_diff(time.ticks_ms(), self._look_at) >= 0:
            self._look_at = time.ticks_add(time.ticks_ms(), _LOOK_MS)
            self._install_if_allowed()
        elif self.next_check is not None and time.ticks_diff(time.ticks_ms(), self.next_check) >= 0:
            self.next_check = time.ticks_add(time.ticks_ms(), _LATER_MS)
            self._check_or_finish()

    def telemetry(self):
        return {"ota/status": self.state, "version": self._version}

    def stop(self):
        self._stop_job()

    # -- what jobs use

    def begin(self, name, force=False):
        """Start a job for tick() to advance: a job.Job, or None when OTA is off or another job runs."""
        if not self.cfg:
            self.warn("off: see the profile")
            return None
        if self.job or self.state == "rebooting" or (ota_boot.state and name not in _AT_START):
            self.debug("busy with", self.job or self.state, "so not:", name)
            return None
        self.error = None
        self._job = self._new_job(name, force)
        return self._job

    def make_room(self, name, force, chances=_CHANCES, rounds=1):
        """There is too little memory for a job: forget all of it. Other modules are asked for theirs, then comes once_more().

        :param chances: see job.Job.
        :param rounds: of the loop until the others are asked.
        """
        self._job = None
        self._once_more = (name, force, chances)
        self._rounds = _ROUNDS + rounds
        self.forget()
        self.platform.log("ota: short of memory: the other modules give back what they can, and once more")

    def once_more(self):
        """Begin the job of before, from its beginning, in a heap that is whole again. The job.Job, or None without the memory."""
        (name, force, chances), self._once_more = self._once_more, None
        if ota_boot.state == "journal":  # it ran out of memory behind the commit
            self.enter("rebooting")
            self.platform.request_reset("installing what is committed")
            return None
        try:
            self._job = self._new_job(name, force, chances - 1, True)
        except MemoryError:
            self._cannot_begin(name)
        return self._job

    def ended(self):
        """The job is over: its memory is free again."""
        self._job = None
        self.forget()

    def failed(self, name, error):
        """A job has failed, or cannot even begin: remember why, and tell it."""
        self.error = error
        self.enter("failed")
        self.warn("%s failed: %s (%s)" % (name, error.message, error.reason))
        self.platform.bus.publish("ota/error", error.reason)
        self.platform.bus.publish("ota/message", error.message)

    def enter(self, state):
        """Change the state, and tell the bus."""
        self.state = state
        self.percent = -1
        self.platform.bus.publish("ota/status", state)
        if self.waiting:
            self.wait_for("")

    def wait_for(self, what):
        """What a found update waits for before it is installed; "" for nothing."""
        self.waiting = what
        self.platform.bus.publish("ota/waiting", what)
        if what:
            self.platform.log("ota: version %s waits: %s" % (self.offered, what))

    def debug(self, *parts):
        from iot_platform.log import SerialLog

        SerialLog.debug("ota:", *parts)

    def warn(self, *parts):
        from iot_platform.log import SerialLog

        SerialLog.warning("ota:", *parts)

    def trace(self, error):
        from iot_platform.log import SerialLog

        SerialLog.exception(error, "ota:")

    def forget(self):
        """Give back the memory of the parts that work only now and then; they are imported again when needed."""
        parts.forget("iot_platform", parts.PLATFORM)
        parts.forget("modules.ota", _STAYS)

    def _install_if_allowed(self):
        """What waited for its window is installed in it, without another download."""
        if self.cfg.get("window") and self.cfg.get("auto_install", True):
            from .plan import window_open

            if window_open(self):
                self._request("stage")
            else:
                self.forget()

    def _check_or_finish(self):
        """Check; but what the start could not finish comes first."""
        if self.error and ota_boot.state in ("trial", "confirmed", "undone"):
            self._request("trial" if ota_boot.state == "trial" else "clean_up")
        else:
            self.request_check()

    def _request(self, name, force=False):
        """Begin a job, or, where there is too little memory just now, let it begin soon. False when OTA is off or busy."""
        try:
            return bool(self.begin(name, force))
        except MemoryError:
            self.make_room(name, force, _CHANCES + 1, _ANSWER)  # not to have begun costs none
            return True

    def _new_job(self, name, force, chances=_CHANCES, frugal=False):
        if self.room:
            self.room.take()  # before the code of the job settles where it could be
        from .job import Job

        return Job(self, name, force, chances, frugal)

    def _cannot_begin(self, name):
        from .errors import OtaError

        self.next_check = time.ticks_add(time.ticks_ms(), _LATER_MS)
        self.failed(name, OtaError("no_memory", "too little memory even to begin"))

    def _calls(self):
        from . import calls

        return calls

    def _stop_job(self):
        self._once_more = None
        if self._job:
            self._job.close()
            self.ended()
