"""One running job: its generator, advanced step by step, and all that the code of an update uses of the board."""

import gc
import os
import sys
import time

import ota_boot
from iot_platform import parts

from . import files
from .errors import OtaError, from_system

_BUDGET_MS = 10
_SAMPLE = 32  # steps from one collection to the next
_PLENTY = 24 * 1024  # bytes of free memory: more than any phase needs
_AT_START = ("trial", "clean_up")
# What lives as long as the job. All other parts of the package work for one phase of it, and are forgotten then.
_STAYS = (
    "module", "errors", "store", "room", "job", "jobs", "obtain", "install", "reading", "files", "kept", "offer", "rules", "stage"
)  # fmt: skip


class Job:
    """What jobs.py and the parts below it call `ota`.

    :param chances: how often it may begin once more for want of memory.
    :param frugal: True when no part may stay longer than its phase, however much memory there is.
    """

    exhausted = False  # True once it has run out of memory, and may begin once more: see Module.once_more

    def __init__(self, module, name, force, chances, frugal):
        from . import jobs

        self.module = module
        self.platform = module.platform
        self.name = name
        self.store = module.store
        self.room = module.room
        self.cfg = module.cfg
        self.keys = module.keys
        self.excluded = module.excluded
        self.archive = module.archive
        self.name_on_server = module.name_on_server
        self.view = files.buffer()  # the one buffer of the job
        self.result = None
        self.asked = False  # True when a trial has asked the server
        self.whole = None  # see rules.Rules
        self.force = force
        self.chances = chances
        self.frugal = frugal
        self.lowest = self.platform.board.mem_free()  # bytes, the least that was seen during the job
        self._steps = 0
        self._job = jobs.start(self, name, force)

    # -- the engine

    def advance(self):
        """As many steps as fit into a few milliseconds: many of them only read an entry of a list."""
        began = time.ticks_ms()
        wait = None
        while self._job and not wait and time.ticks_diff(time.ticks_ms(), began) < _BUDGET_MS:
            wait = self.step()
        self.platform.in_a_hurry = wait is not True

    def step(self):
        """Advance the job by one step, and end it where it ends. Returns what there is to wait for.

        None for nothing, sockets.SOON for the network, True for a while: there is nothing to do before the next loop.
        """
        self._steps += 1
        if self._steps % _SAMPLE == 0:
            self._sample()
        try:
            return next(self._job)
        except StopIteration as stop:
            self.result = stop.value
            self._ended(None)
        except OtaError as error:
            self._ended(error)
        except (MemoryError, OSError) as error:
            self._ended(from_system(error))
        except Exception as error:  # a mistake of ours must not look like a job that ended well
            self.module.trace(error)
            self._ended(OtaError("internal", "the updater failed: %r" % error))
        return True

    def running(self):
        return self._job is not None

    def close(self):
        if self._job:
            self._job.close()
            self._job = None

    def _sample(self):
        """Collect now and then, before the heap is in pieces, and note how little memory was left."""
        gc.collect()
        if self.room:
            self.room.keep()
        self.lowest = min(self.lowest, self.platform.board.mem_free())

    def _ended(self, error):
        """Free the job's memory, say how it ended, plan the next check."""
        module = self.module
        self._job = None
        self.view = None
        if error and error.reason == "no_memory" and self.chances:
            self.exhausted = True
            return
        module.ended()
        module.error = None
        if error:
            module.failed(self.name, error)
            self.report_space()
        elif self.name not in _AT_START:
            self.platform.bus.publish("ota/error", "")
            self.platform.bus.publish("ota/message", "")
        from . import plan

        plan.after_job(self, error)
        self.store.save()
        module.forget()

    # -- what the board knows

    @property
    def channel(self):
        return self.module.channel

    @property
    def floor(self):
        """The highest sequence confirmed here: from the state, or from the list that came with the flashed image."""
        from . import kept

        running = kept.read_header(kept.RUNNING)
        return max(self.store.get("floor", 0), running["sequence"] if running else 0)

    def local_version(self):
        return self.module.local_version()

    def now(self):
        """Seconds since 1970, or None while the board does not know the time."""
        return self.platform.board.now()

    def url(self, file):
        return "%s/%s/%s" % (self.cfg["url"].rstrip("/"), self.name_on_server.lower(), file)

    def rules(self, force, expect):
        from .rules import Rules

        expect = tuple(expect) if expect else None
        rules = Rules(self.name_on_server, self.keys, self.floor, bool(force), self.now(), expect)
        rules.running, rules.excluded, rules.room = self.local_version(), self.excluded, self.room
        rules.whole = self.whole
        return rules

    def require_network(self):
        if self.platform.bus.get("wifi/connected") is False:
            raise OtaError("no_network", "there is no network")

    def journal_header(self):
        """What the loader and the trial need to know of the old version."""
        return {
            "attempts": self.cfg.get("max_boot_attempts", 3) + self.cfg.get("confirm_wakes", 1) - 1,
            "timeout_s": self.cfg.get("confirm_timeout_s", 300),
            "ran": sorted(self.platform.modules),
            "checked": bool(self.store.get("checked")),
        }

    # -- what it says

    def log(self, *parts):
        self.platform.log("ota:", *parts)

    def warn(self, *parts):
        self.module.warn(*parts)

    def enter(self, state):
        self.module.enter(state)

    def available(self, offer):
        self.module.offered = offer.version
        self.store.set("next", None)  # an update that is interrupted goes on soon
        self.enter("available")
        self.log("version %s is available, %s bytes" % (offer.version, offer.size))
        self.platform.bus.publish("ota/available", offer.version)
        self.platform.bus.publish("ota/total", offer.size)

    def progress(self, done, total):
        """Publish the progress in percent; log every tenth."""
        percent, before = done * 100 // total if total else 0, self.module.percent
        if percent != before:
            if percent // 10 != before // 10:
                self.log("%s %d%% (%d of %d bytes)" % (self.module.state, percent, done, total))
            self.module.percent = percent
            self.platform.bus.publish("ota/progress", percent)

    def count(self, response):
        """Add a finished request to the bytes that went over the wire."""
        self.module.bytes += response.wire_in + response.wire_out
        self.platform.bus.publish("ota/bytes", self.module.bytes)

    def report_space(self):
        """Log and publish free disk and free memory, both in bytes; returns the disk's."""
        return report_space(self.platform)

    # -- what it holds

    def discard(self):
        """Remove the download and the note about it."""
        if ota_boot.exists(self.archive):
            os.remove(self.archive)
        self.store.set("part", None)

    def give_up_previous(self):
        """Delete the kept previous version: space is short. Generator."""
        if ota_boot.exists(ota_boot.ota("previous")):
            self.log("short of space: giving up the kept previous version")
            self.module.previous = None
            yield from files.remove_tree(ota_boot.ota("previous"))

    def drop(self, *names):
        """Give back the memory of some parts within a phase, as forget() does between two."""
        if not self._has_plenty():
            parts.drop("modules.ota", names)
            parts.drop("iot_platform", names)

    def forget(self):
        """Give back the memory of the parts that worked for the last phase; they are imported again when needed.

        Jobs call it between their phases, so that a board needs memory for the largest phase, not for all of them. Where there
        is plenty they stay until the job ends: to import one again takes thousands of small reads of the flash.
        """
        if self._has_plenty():
            return
        sys.modules.pop("tarfile", None)
        parts.forget("iot_platform", parts.PLATFORM)
        parts.forget("modules.ota", _STAYS)
        if self.room:
            self.room.keep()

    def _has_plenty(self):
        if self.frugal:
            return False
        if gc.mem_free() <= _PLENTY:
            gc.collect()
        return gc.mem_free() > _PLENTY


def report_space(platform):
    """Log and publish free disk and free memory, both in bytes; returns the disk's."""
    gc.collect()
    disk, ram = files.free_bytes(), platform.board.mem_free()
    platform.log("ota: free disk %d bytes, free memory %d bytes" % (disk, ram))
    platform.bus.publish("freedisk", disk)
    platform.bus.publish("freeram", ram)
    return disk
