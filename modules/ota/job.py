"""One running job: its generator, advanced step by step, and all that the code of an update uses of the board."""

import gc
import io
import os
import time

import ota_boot
from iot_platform.log import SerialLog
from micropython import const

from . import phases
from .errors import OtaError, from_system

_BUDGET_MS = const(25)
_FRESH_MS = const(5)  # a round that has lasted less is as good as a new one
_COLLECT = const(40)  # steps from one collection to the next, without those that only wait
_BUFFER = const(1024)
_PLACE = const(5632)  # bytes of the decompressor's window and what else it takes
_LOOPS = const(3)  # see clear
_JOB = const(("module", "errors", "phases", "job", "updates"))  # what a job needs in all of its phases
_SOON = const(2)  # as sockets.SOON, which needs a network
_MAX_CHANNEL = const(4096)
PEAK = 34 * 1024  # bytes of heap that the largest phase takes, with its buffers (docs/performance.md)
# What is imported before a file, so that each is a step: to find and read one takes a Pico W up to 90 ms. A test compares.
_FIRST = {
    "check": "release.signature release.fields release.channel",
    "bundle.reader": "bundle.lists install.stage transport.ranges bundle.inflate",
    "release.policy": "release.fields",
    "release.manifest": "release.paths release.fields",
    "install.prepare": "bundle.lists release.paths release.signature install.files",
    "install.cleanup": "state bundle.lists release.paths install.files",
    "install.journal": "bundle.lists release.paths install.files",
    "transport.http": "transport.urls transport.connection",
}


class Job:
    """What updates.py, the trial and the parts below it call `ota`; what is not found here is the module's.

    :param flag: force; for `verify` repair, for `check` that a person has asked for it.
    """

    def __init__(self, module, name, flag):
        self.module = module
        self.name = name
        self.flag = flag
        self.view = memoryview(bytearray(_BUFFER))  # the one buffer of the job
        self.eager = name != "check" or flag  # somebody waits for it: without memory here it goes on in an update boot at once
        self.asked = False  # True when a trial has asked the server
        self.lowest = gc.mem_free()  # bytes, the least that was seen during the job
        self.result = self.offer = self._http = self._kept = None
        self.verified = None  # the list's digest and signature, once a pinned key has been found to have made it
        self.count = 0
        phases.in_job = _JOB
        self._job = self._work()

    def __getattr__(self, name):
        return getattr(self.module, name)

    def _work(self):
        """What the job does. Its code is loaded with the first step: the other modules have started then. Generator."""
        if self.name == "start":
            if ota_boot.state == "trial":
                if not (yield from phases.part("install.trial").watch(self)):
                    return None
                yield from self.clear()  # of what the check has left
            return (yield from phases.part("install.cleanup").after_start(self))
        if self.platform.update_boot:
            yield from self.keep_place()  # as long as there is one
        if self.name in ("verify", "plan"):
            return (yield from self.phase("verify", self.name, self, self.flag))
        while self.name == "upload":
            yield True  # it keeps others away
        yield from self.load("updates")
        return (yield from phases.part("updates").start(self, self.flag))

    def advance(self):
        """As many steps as fit into a few milliseconds: many of them only read an entry of a list."""
        began = time.ticks_ms()
        wait = elapsed = 0
        while self._job and not wait and elapsed < _BUDGET_MS:
            wait = self.step()
            elapsed = time.ticks_diff(time.ticks_ms(), began)
            if wait == phases.alone and elapsed < _FRESH_MS:
                wait = None
        if wait is not True:
            self.platform.pause_ms = wait == _SOON  # one, or none

    def step(self):
        """Advance the job by one step, and end it where it ends. Returns what there is to wait for.

        None for nothing, phases.alone for another round, sockets.SOON for the network, True for a while: there is nothing to do
        before the next loop.
        """
        if self.count == _COLLECT:
            self.count = 0
            gc.collect()
            self.lowest = min(self.lowest, gc.mem_free())
            return phases.alone
        try:
            wait = next(self._job)
            self.count += wait is None
            return wait
        except StopIteration as stop:
            self.result = stop.value
            self._ended(None)
        except (OtaError, MemoryError, OSError) as error:
            self._ended(from_system(error))
        except Exception as error:  # a mistake of ours must not look like a job that ended well
            SerialLog.exception(error, "ota:")
            self._ended(OtaError("internal", "the updater failed: %r" % error))
        return True

    def close(self):
        """Stop it where it is, and give back its memory."""
        if self._job:
            self._job.close()
        self.park()
        if self._kept:
            self._kept[0].close()
        self._job = self._kept = self.view = None
        self.give_place()
        phases.in_job = ()

    def phase(self, name, function, *args):
        """Run the generator `function` of the file `name`, whose code may go then. Generator; returns what that returns."""
        yield from self.load(name)
        try:
            found = yield from getattr(phases.part(name), function)(*args)
        finally:
            self.park()
        yield from self.clear()
        return found

    def load(self, name):
        """Import a file, and first what it begins with. Generator: each import is a step, and so is each collection."""
        untidy = False
        for part in _FIRST.get(name, "").split() + [name]:
            phases.in_job += (part,)
            if not phases.has(part):
                untidy = yield from phases.tidy(untidy)  # what importing has left lies between what stays
                phases.bring(part)
                yield

    def clear(self, force=False):
        """Have what is not needed forgotten where memory is short, or by `force`. What a phase has left on the stack keeps some
        of its memory for a few loops; how short they are does not matter. Generator.
        """
        if (yield from phases.tidy(force)) and (force or phases.short()):
            phases.forget()
            for _ in range(_LOOPS):
                yield _SOON

    def _ended(self, error):
        self._job = None  # a generator that is running cannot be closed
        self.close()
        self.module.job_ended(self, error)

    def need_network(self):
        """OtaError when there is none: before anything is imported which needs the module `socket`."""
        if self.platform.bus.get("wifi/connected") is False or not self.platform.board.has_sockets():
            raise OtaError("no_network", "there is no network")

    def http(self):
        """The server that the profile names; OtaError when there is no network."""
        self.need_network()
        cfg = self.cfg
        self._http = phases.part("transport.http").Http(
            cfg["url"], cfg.get("headers"), cfg.get("ca"), self._kept, cfg.get("redirect_hosts", ())
        )
        self._kept = None
        return self._http

    def url(self, file):
        folder, mark, query = self.cfg["url"].partition("?")
        return "%s/%s/%s%s%s" % (folder.rstrip("/"), self.name_on_server.lower(), file, mark, query)

    def look(self, force):
        """The server's answer, an offer (see check) or None; for a trial is noted whether there was one at all. Generator.

        The channel file decides. Where there is none, a board without a pinned key that never installed a bundle speaks the
        `latest` protocol.
        """
        try:
            status, raw, etag = yield from self._ask()
            if status in (404, 410):
                line = yield from self.phase("legacy.requests_http", "ask", self)
                offer = phases.call("legacy.latest", "decide", self, line, force)
            else:
                offer = (yield from self.phase("check", "decide", self, raw, etag, force)) if raw is not None else None
        except OtaError as error:
            if error.kind in ("transport", "damage"):
                self.store.set("checked", False)
            raise
        self.store.set("checked", True)
        return offer

    def _ask(self):
        """``(status, bytes, etag)`` of the channel file; the bytes are None when there is none, or when it has not changed.

        `If-None-Match` goes out only if the last answer led to nothing to do, every other time, and never when a person asks:
        some servers' ETags stay as they are whatever the file is.
        """
        store = self.store
        known = store.get("etag")
        etag = known[1] if known and known[0] == self.channel and not self.eager else None
        self.need_network()
        try:
            yield from self.load("transport.http")
            response = yield from self.http().get(self.url(self.channel + ".json"), etag, max_body=_MAX_CHANNEL)
            status, raw = response.status, None
            try:
                if status == 200:
                    raw = yield from response.read_all(_MAX_CHANNEL)
                elif status == 304 and etag:
                    store.set("etag", None)
                elif status not in (404, 410) or self.keys or store.get("floor"):
                    raise response.error("the channel file")
            finally:
                response.close()
            found = status, raw, response.etag
        finally:
            response = None
            self.park()
        yield from self.clear()
        return found

    def keep_place(self):
        """From now on nothing else takes the long pieces of memory that unpacking needs: names, which stay for ever, come to lie
        all over the heap. What the C stack still names goes within a few loops, as in clear(). Generator.
        """
        loops = 0
        while not phases.place:
            gc.collect()
            try:
                if not phases.buffers:
                    phases.buffers.extend((io.BytesIO(bytearray(_BUFFER)), memoryview(bytearray(_BUFFER)), bytearray(_BUFFER)))
                phases.place.append(bytearray(_PLACE))
            except MemoryError:
                if loops == _LOOPS:
                    raise
                loops += 1
                yield _SOON

    def give_place(self):
        """Nothing is unpacked any more, or something else unpacks."""
        phases.place.clear()
        phases.buffers.clear()

    def park(self):
        """The code of a phase may go; the connection stays, for the next one."""
        if self._http:
            connection, self._http = self._http.connection, None
            self._kept = connection.detach()
            self.spent(connection.wire_in + connection.wire_out)
        phases.in_job = _JOB

    @property
    def floor(self):
        """The highest sequence confirmed here: from the state, or from the list that came with the flashed image."""
        lists = phases.part("bundle.lists")
        running = lists.read_header(lists.RUNNING)
        return max(self.store.get("floor", 0), running["sequence"] if running else 0)

    def log(self, *parts):
        self.platform.log("ota:", *parts)

    def progress(self, done, total):
        percent, before = done * 100 // (total or 1), self.module.percent
        if percent != before:
            if percent // 10 != before // 10:
                self.log("%s %d%% (%d of %d bytes)" % (self.module.state, percent, done, total))
            self.module.percent = percent
            self.platform.bus.publish("ota/progress", percent)

    def spent(self, n):
        self.module.bytes += n
        self.platform.bus.publish("ota/bytes", self.module.bytes)

    def clear_stage(self):
        """What is refused leaves nothing behind. Generator."""
        for name in ("stage", "loader", "list"):
            yield from phases.part("install.files").remove_tree(ota_boot.ota(name))
        self.store.set("part", None)
        self.store.set("ready", None)

    def discard(self):
        """Remove the archive that was brought by hand, or is being brought."""
        if ota_boot.exists(self.archive):
            os.remove(self.archive)
