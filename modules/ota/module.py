"""The OTA module: what wifi, the web page, MQTT and the console call. The work itself is in jobs, trial and ota_boot.

Every job is a generator, one at a time. The methods of the first group run it to its end; those of the second leave it to
tick(), one step a loop, so that everything else goes on.

    check_for_updates() force_update() install_new_firmware()              blocking
    request_check() request_update() rollback() confirm() cancel()         advanced by tick()
"""

import gc
import os
import random
import sys
import time

import ota_boot
from iot_platform import parts
from iot_platform.module import Module as Base

from . import files, versions
from .errors import OtaError, from_system

_DAY = 86_400
_FIRST_RETRY_S = 30
_AT_START = ("trial", "clean_up")  # jobs that no one asked for
_SOON_MS = 2_000
_BUDGET_MS = 6
_SAMPLE = 32  # steps from one collection to the next
_STAYS = ("module", "errors", "files", "offer", "versions", "store")  # all other parts of the package come and go


class Module(Base):
    name = "ota"

    def __init__(self, platform):
        super().__init__(platform)
        self.cfg = {}
        self.keys = ()
        self.excluded = ()
        self.store = self.room = None
        self.state = "idle"
        self.error = None  # the OtaError of the last job that failed
        self.notes = ""
        self.offered = None
        self.view = None  # the buffer of the running job
        self._job = None
        self._job_name = ""
        self._result = None
        self.lowest = 0  # bytes of free memory, the least that was seen during the job
        self._bytes = 0
        self._steps = 0
        self._percent = -1
        self._failures = 0
        self._check_soon = False
        self._next_check = None  # ticks_ms, or None while nothing is planned
        self._started = 0
        self._version = versions.UNKNOWN
        self._floor = None

    # -- configuration

    def load_ota_cfg(self):
        """Read and check profile.json; True when OTA can run. What is wrong is logged in one line."""
        from iot_platform import profile as profiles

        try:
            profile = profiles.load("/profile.json")
        except (OSError, ValueError) as error:
            self.warn("off: profile.json cannot be read:", error)
            return False
        errors = profiles.check(profile)
        if errors:
            self.warn("off: profile.json: %s %s; expected: %s" % errors[0])
            return False
        self.forget()
        self.name_on_server = profile["shortName"]
        self.cfg = profile["ota"]
        self.keys = self.cfg.get("public_keys") or ()
        self.excluded = self.cfg["excluded_files"]
        self.archive = ota_boot.live(self.cfg["tmp_filename"].lstrip("/"))
        return True

    @property
    def channel(self):
        return self.platform.prefs.get("ota.channel") or self.cfg.get("channel", "stable")

    @property
    def floor(self):
        """The highest sequence confirmed here: from the state, or from the list that came with the flashed image."""
        from . import kept

        if self._floor is None:
            running = kept.read_header(kept.RUNNING)
            self._floor = max(self.store.get("floor", 0), running["sequence"] if running else 0)
        return self._floor

    def local_version(self):
        """The running version; "unknown!" when there is none."""
        text = files.read_text(ota_boot.live("version"), 64)
        return text.strip() if text and text.strip() else versions.UNKNOWN

    # -- blocking methods

    def check_for_updates(self, version_check=True):
        """Ask the server; download and verify what is newer. True when an update is ready to install."""
        from . import jobs

        return bool(self._complete("check", lambda: jobs.update(self, not version_check, _never)))

    def force_update(self):
        """The same whatever the current version, then install. Returns a status text."""
        from . import jobs

        if self._complete("update", lambda: jobs.update(self, True, _always)):
            return "restarting to install version %s" % self.offered
        return "not updated: %s" % self.error if self.error else "not updated: nothing to install"

    def install_new_firmware(self, quiet=False):
        """Stage, commit and restart into what was downloaded. True when it was committed."""
        from . import jobs

        self._complete("install", lambda: jobs.install_ready(self, quiet=quiet))
        return self.state == "rebooting"

    def check_free_space(self, min_free_space):
        """True when `min_free_space` bytes are free; logs and publishes free disk and free memory."""
        if isinstance(min_free_space, bool) or not isinstance(min_free_space, (int, float)):
            self.warn("min_free_space must be a number of bytes")
            return False
        return self.report_space() >= min_free_space

    def recursive_delete(self, path):
        """Delete a file or tree. OtaError for the root, for critical files, and for whatever escapes; True if it existed."""
        from . import delete

        deleted = False
        job = delete.recursive_delete(path)
        while True:
            try:
                next(job)
            except StopIteration as stop:
                deleted = stop.value
                break
            self.platform.board.feed()
        self.log("deleted" if deleted else "nothing to delete at", path)
        return deleted

    # -- the same as jobs of tick()

    def request_check(self):
        """Check soon, and install if the profile lets it. False when OTA is off or busy with another update."""
        from . import jobs

        if self._job and self._job_name in _AT_START:
            self._check_soon = True  # wifi is faster than the clean-up
            return True
        return self._begin("check", lambda: jobs.update(self, False, lambda: jobs.may_install(self)))

    def request_update(self, force=False):
        """Check and install, whatever `auto_install` and `window` say. False when OTA is off or busy."""
        from . import jobs

        return self._begin("update", lambda: jobs.update(self, force, _always))

    def request_install(self, force=False):
        """Install the bundle that lies in ``archive`` (an upload). False when OTA is off or busy."""
        from . import jobs

        return self._begin("install", lambda: jobs.install_file(self, force))

    def rollback(self):
        """Go back to the kept version, or end the trial of a new one. False when OTA is off or busy."""
        from . import jobs

        if ota_boot.state == "trial":
            ota_boot.undo("by_hand", "the rollback was asked for")
            self.platform.request_reset("rolling back")
            return True
        return self._begin("rollback", lambda: jobs.roll_back(self))

    def confirm(self):
        """Confirm the version on trial by hand. False when none is on trial."""
        if ota_boot.state != "trial":
            return False
        self._stop_job()
        ota_boot.confirm()
        return self._begin("trial", self._trial_job)

    def cancel(self):
        """Stop the running job, unless it is past the point where that makes sense. What was downloaded stays for resuming."""
        if not self._job or self._job_name in _AT_START or self.state == "rebooting":
            return False
        self._stop_job()
        self.enter("idle")
        self.log("cancelled")
        return True

    def set_channel(self, channel):
        """Follow another channel from now on. OtaError when it cannot be a channel's name."""
        from iot_platform.profile import name_ok

        if not name_ok(channel):
            raise OtaError("not_allowed", "a channel's name is made of letters, digits, _ . and -")
        self.platform.prefs.set("ota.channel", channel)
        self.platform.prefs.save()
        self.platform.bus.publish("ota/channel", channel)

    def status(self):
        """All that a page or a reply shows: a dict."""
        last = self.store.get("last") if self.store else None
        return {
            "state": self.state,
            "version": self.local_version(),
            "channel": self.channel if self.cfg else None,
            "available": self.offered,
            "notes": self.notes,
            "progress": max(self._percent, 0),
            "error": self.error.reason if self.error else None,
            "message": self.error.message if self.error else None,
            "last": last,
            "previous": self._kept(),
            "job": self._job_name if self._job else None,
        }

    # -- lifecycle

    def start(self):
        self._version = self.local_version()
        if not ota_boot.ready:
            self.warn("off: the recovery loader did not come to its end, so nothing here may change anything")
        if not ota_boot.ready or not self.load_ota_cfg():
            self.state = "failed"
            self.cfg = {}
            return
        from .room import Room
        from .store import Store

        self.room = Room()
        self.store = Store()
        self.platform.bus.publish("ota/channel", self.channel)
        self._started = time.ticks_ms()
        self._begin("trial" if ota_boot.state == "trial" else "clean_up", self._trial_job)

    def tick(self):
        if self._job:
            self._advance()
        elif self._next_check is not None and time.ticks_diff(time.ticks_ms(), self._next_check) >= 0:
            if ota_boot.state:  # a full disk kept the clean-up from its end
                self._begin("clean_up", self._trial_job)
            else:
                self.request_check()

    def telemetry(self):
        return {"ota/status": self.state, "version": self._version}

    def stop(self):
        self._stop_job()

    # -- what jobs use

    def log(self, *parts):
        self.platform.log("ota:", *parts)

    def debug(self, *parts):
        from modules.serial_log import SerialLog

        SerialLog.debug("ota:", *parts)

    def warn(self, *parts):
        from modules.serial_log import SerialLog

        SerialLog.warning("ota:", *parts)

    def enter(self, state):
        """Change the state, and tell the bus."""
        self.state = state
        self._percent = -1
        self.platform.bus.publish("ota/status", state)

    def available(self, offer):
        self.offered = offer.version
        self.enter("available")
        self.log("version %s is available, %s bytes" % (offer.version, offer.size))
        self.platform.bus.publish("ota/available", offer.version)

    def progress(self, done, total):
        """Publish the progress in percent; log every tenth."""
        percent = done * 100 // total if total else 0
        if percent != self._percent:
            if percent // 10 != self._percent // 10:
                self.log("%s %d%% (%d of %d bytes)" % (self.state, percent, done, total))
            self._percent = percent
            self.platform.bus.publish("ota/progress", percent)

    def count(self, response):
        """Add a finished request to the bytes that went over the wire."""
        self._bytes += response.wire_in + response.wire_out
        self.platform.bus.publish("ota/bytes", self._bytes)

    def report_space(self):
        """Log and publish free disk and free memory, both in bytes; returns the disk's."""
        gc.collect()
        disk, ram = files.free_bytes(), self.platform.board.mem_free()
        self.log("free disk %d bytes, free memory %d bytes" % (disk, ram))
        self.platform.bus.publish("freedisk", disk)
        self.platform.bus.publish("freeram", ram)
        return disk

    def discard(self):
        """Remove the download and the note about it."""
        if ota_boot.exists(self.archive):
            os.remove(self.archive)
        self.store.set("part", None)

    def give_up_previous(self):
        """Delete the kept previous version: space is short. Generator."""
        if ota_boot.exists(ota_boot.ota("previous")):
            self.log("short of space: giving up the kept previous version")
            yield from files.remove_tree(ota_boot.ota("previous"))

    def url(self, file):
        return "%s/%s/%s" % (self.cfg["url"].rstrip("/"), self.name_on_server.lower(), file)

    def rules(self, force, expect):
        from .rules import Rules

        expect = tuple(expect) if expect else None
        return Rules(self.name_on_server, self.keys, self.floor, bool(force), self.now(), expect, self.local_version())

    def now(self):
        """Seconds since 1970, or None while the board does not know the time."""
        if not self.platform.board.time_known():
            return None
        return int(time.time()) + (946_684_800 if time.gmtime(0)[0] == 2000 else 0)

    def require_network(self):
        if self.platform.bus.get("wifi/connected") is False:
            raise OtaError("no_network", "there is no network")

    def may_retry(self, failure):
        """True when a failed release may be tried once more: after what may not have been its fault, and a pause since then."""
        from . import policy

        pause = policy.retry_pause(failure[1], failure[3], self.cfg.get("check_interval_s", _DAY))
        return pause is not None and time.ticks_diff(time.ticks_ms(), self._started) > pause * 1000

    def journal_header(self):
        """What the loader and the trial need to know of the old version."""
        return {
            "attempts": self.cfg.get("max_boot_attempts", 3) + self.cfg.get("confirm_wakes", 1) - 1,
            "timeout_s": self.cfg.get("confirm_timeout_s", 300),
            "ran": sorted(self.platform.modules),
            "checked": bool(self.store.get("checked")),
        }

    def forget(self):
        """Give back the memory of the parts that only work while an update runs; they are imported again when needed.

        Jobs call it between their phases, so that a board needs memory for the largest phase, not for all of them.
        """
        sys.modules.pop("tarfile", None)
        parts.forget("modules.ota", _STAYS)

    # -- the engine

    def _begin(self, name, job):
        """Start a job for tick() to advance; False when OTA is off or another job runs."""
        if not self.cfg:
            self.warn("off: see the profile")
            return False
        if self._job or self.state == "rebooting" or (ota_boot.state and name not in _AT_START):
            self.debug("busy with", self._job_name, "so not:", name)
            return False
        self._job_name, self._result, self.error = name, None, None
        self.lowest = self.platform.board.mem_free()
        self.view = files.buffer()
        self._job = job()
        return True

    def _advance(self):
        """As many steps as fit into a few milliseconds: many of them only read an entry of a list."""
        began = time.ticks_ms()
        while self._job and time.ticks_diff(time.ticks_ms(), began) < _BUDGET_MS:
            if self._step():
                return

    def _step(self):
        """Advance the job by one step, and end it where it ends. True when there is nothing to do before the next loop."""
        self._steps += 1
        if self._steps % _SAMPLE == 0:
            self._sample()
        try:
            return next(self._job)
        except StopIteration as stop:
            self._result = stop.value
            self._ended(None)
        except OtaError as error:
            self._ended(error)
        except (MemoryError, OSError) as error:
            self._ended(from_system(error))
        except Exception as error:  # a mistake of ours must not look like a job that ended well
            self.platform.log("ota:", repr(error))
            self._ended(OtaError("internal", "the updater failed: %r" % error))
        return True

    def _sample(self):
        """Collect now and then, before the heap is in pieces, and note how little memory was left."""
        gc.collect()
        self.lowest = min(self.lowest, self.platform.board.mem_free())

    def _ended(self, error):
        """A job is over: free its memory, say how it ended, plan the next check."""
        self._job = self.view = None
        self.forget()
        self.error = error
        if error:
            self.enter("failed")
            self._failures += 1
            self.warn("%s failed: %s (%s)" % (self._job_name, error.message, error.reason))
            self.report_space()
        elif self._job_name in ("check", "update"):
            self._failures = 0
        if error or self._job_name not in _AT_START:
            self.platform.bus.publish("ota/error", error.reason if error else "")
        try:
            if self.store:
                self.store.save()
        except OSError as failure:  # the disk is full: it stays in memory, and is written with the next change
            self.warn("what is to be remembered cannot be written:", failure)
        self._plan(error)

    def _complete(self, name, job):
        """Run a job to its end here and now; its result, or None when it failed (see `error`)."""
        if not self._begin(name, job):
            self.error = OtaError("busy" if self.cfg else "not_configured", "OTA is busy" if self.cfg else "OTA is off")
            return None
        while self._job:
            self._step()
            self.platform.board.feed()
            time.sleep_ms(1 if self.state == "downloading" or self.state == "checking" else 0)
        return None if self.error else self._result

    def _stop_job(self):
        if self._job:
            self._job.close()
            self._job = self.view = None
            self.forget()

    def _plan(self, error):
        """The next check: after the interval, jittered; after a failure sooner, with a growing pause."""
        if self.state == "rebooting":
            return
        if self._check_soon or (self._job_name == "clean_up" and self.platform.module("wifi") is None):
            self._check_soon = False  # without wifi nobody says when there is a network: it may be there already
            self._next_check = time.ticks_add(time.ticks_ms(), _SOON_MS)
            return
        pause = self.cfg.get("check_interval_s", _DAY)
        if error and (error.kind == "transport" or error.reason == "no_memory"):
            pause = min(pause, _FIRST_RETRY_S * 2 ** min(self._failures - 1, 10))
            pause = max(pause, error.retry or 0)
            self.log("next try in about %d s" % pause)
        pause = min(pause, _DAY * 5)  # ticks_ms cannot look further ahead
        self._next_check = time.ticks_add(time.ticks_ms(), pause * 1000 - random.getrandbits(10) * pause // 8)

    def _trial_job(self):
        """After every start: trial, or what a finished or interrupted update has left to do."""
        if ota_boot.state == "trial":
            from . import trial

            self.enter("trial")
            self.log("version %s is on trial, boot %d" % (self.local_version(), ota_boot.attempt))
            confirmed = yield from trial.watch(self)
            if confirmed is None:
                return
            if not confirmed:
                self.enter("rebooting")
                self.warn("version %s is taken back: %s" % (self.local_version(), ota_boot.reason()[1]))
                self.platform.request_reset("rolling back")
                return
        self.forget()
        from . import cleanup

        if ota_boot.state == "confirmed":
            yield from cleanup.after_confirm(self)
            self._floor = None
            self.enter("confirmed")
            self.platform.bus.publish("ota/error", "")
            self.log("confirmed: version %s stays" % self.local_version())
        elif ota_boot.state == "undone":
            yield from cleanup.after_undo(self)
            self.enter("rolled_back")
            last = self.store.get("last")
            self.platform.bus.publish("ota/error", last["reason"])
            versions_text = "rolled back from %s to %s:" % (last["version"], self.local_version())
            self.warn(versions_text, last["message"], "(%s)" % last["reason"])
        else:
            yield from cleanup.clean_up(self)
            if self.platform.safe_mode and self._kept():
                from . import jobs

                self.warn("boots keep failing: going back to", self._kept())
                yield from jobs.roll_back(self)

    def _kept(self):
        from . import previous

        return previous.kept(self.local_version())


def _always():
    return True


def _never():
    return False
