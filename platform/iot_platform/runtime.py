"""The runtime: every module in one asyncio loop, none of which can take another down.

A module that raises is logged with its traceback and keeps its place; one that raises at import, in start() or in ten ticks
running is switched off and reported as ``module/<name>``. Modules may start asyncio tasks of their own, such as a server.
"""

import asyncio
import gc
import sys
import time

import ota_boot
from micropython import const

from .board import Board
from .log import SerialLog
from .module import Bus, forget
from .slots import Slots

BUSY_LIMIT_S = 300  # a restart waits no longer than this for busy modules
UPDATE_BOOT_S = 3_600  # an update boot lasts no longer, whatever OTA does in it
_LOOP_MS = const(10)
_HEALTHY_S = const(30)  # a boot that has run for so long was a good one
_MAX_FAILURES = const(10)
_SAFE_AFTER = const(3)  # bad boots, one after the other


def run():
    """Start the platform; returns only by an exception."""
    platform = Platform()
    asyncio.run(platform.main())


class Platform:
    """What modules get: profile, preferences, bus, board, each other, and the log."""

    def __init__(self):
        self.board = Board()
        self.bus = Bus()
        self.prefs = Slots(("/prefs.json", "/prefs.json.1"))
        self.safe_mode = ota_boot.failures >= _SAFE_AFTER
        self.update_boot = 0  # which boot for one update this is, from 1: see startup
        self.modules = {}
        self.failed = {}
        self.max_gap_ms = 0
        self.uptime = 0  # seconds since the start: a clock that never goes back
        self.pause_ms = _LOOP_MS  # before the next round; less for a tick that has more to do (0), or waits for the network (1)
        self._failures = {}
        self._restart = None
        self.profile = {}

    def module(self, name):
        """A running module, or None."""
        return self.modules.get(name)

    def log(self, *parts):
        SerialLog.log(*parts)

    def request_reset(self, reason):
        """Restart as soon as no module is busy, and after BUSY_LIMIT_S in any case."""
        if self._restart is None:
            self._restart = (reason, time.ticks_add(time.ticks_ms(), BUSY_LIMIT_S * 1000))

    def free_in_update_boot(self):
        """Bytes of heap that an update boot of this version has free: measured by the start, as it is when nothing runs yet."""
        return self._free

    def setting(self, key, default=None):
        """What the user has set, or else the profile: ``ntp``, or a key of a section, such as ``lamp.step_s``."""
        value = self.prefs.get(key)
        if value is None:
            section, _, key = key.rpartition(".")
            value = self.profile.get(section) if section else self.profile
            value = value.get(key) if isinstance(value, dict) else None
        return default if value is None else value

    def choose(self, key, value, source):
        """Keep a setting in the preferences, None to take it out of them; its module hears of it as of a command."""
        self.prefs.set(key, value)
        self.prefs.save()
        self.bus.command(key, value, source)

    def settings(self, name):
        """A module's settings as its ``config.settings(platform)`` finds them."""
        return self.once("modules.%s.config" % name, "settings", self)

    def order(self, path, payload, source):
        """A command for the modules. What sets a value of a panel is as its kind has it: ValueError where it cannot be."""
        if self.bus.get(path, self) is not self:
            payload = self.once("iot_platform.profile", "fit", self.modules, path, payload)
        return self.bus.command(path, payload, source)

    def once(self, path, function, *args):
        """Call a function of the file `path`: that, and what it imports, is in memory only meanwhile."""
        packages = ("iot_platform", "modules")[: 1 + path.startswith("modules.")]  # no file of ours imports a module's
        stay = [[name[len(package) + 1 :] for name in sys.modules] for package in packages]  # before there is what has to go
        part = None
        try:
            part = __import__(path, None, None, ("x",))
            return getattr(part, function)(*args)
        finally:
            part = None
            for package, names in zip(packages, stay):
                forget(package, names)

    def switch_off(self, name, where, error):
        """Take a module out of the loop for good; the others run on."""
        if isinstance(error, ImportError) and str(error).startswith("no module") and "." not in str(error):
            SerialLog.warning("module", name, "is switched off: this board has", error)  # such as 'network': no mistake of its
        else:
            SerialLog.exception(error, "module", name, "is switched off: it failed in", where)
        self.failed[name] = "%s: %r" % (where, error)
        self.bus.publish("module/" + name, "off: " + self.failed[name])
        module = self.modules.pop(name, None)
        if module:
            try:
                module.stop()
            except Exception as stop_error:
                SerialLog.exception(stop_error, "module", name, "failed in stop")

    async def main(self):
        """Load and start the modules, then loop for ever."""
        self._start()
        await asyncio.sleep_ms(0)  # nothing of the start is on the stack now, where the collector would find and keep it
        gc.collect()
        self._free += gc.mem_free()
        last = second = time.ticks_ms()
        while True:
            now = time.ticks_ms()
            self.max_gap_ms = max(self.max_gap_ms, time.ticks_diff(now, last))
            last = now
            passed = time.ticks_diff(now, second) // 1000
            if passed:
                second = time.ticks_add(second, passed * 1000)
                self.uptime += passed
                self._tell()
            self.pause_ms = _LOOP_MS
            self._loop()
            await asyncio.sleep_ms(self.pause_ms)

    def _tell(self):
        """Once a second: what modules and the board itself have to say."""
        for name in list(self.modules):
            self._call(name, "telemetry")
        self.bus.publish("loop/max_gap_ms", self.max_gap_ms)
        self.bus.publish("uptime", self.uptime)
        if ota_boot.failures and self.uptime > _HEALTHY_S:
            ota_boot.note_success()
        if self.update_boot and (not getattr(self.module("ota"), "job", None) or self.uptime > UPDATE_BOOT_S):
            self.request_reset("the update boot has come to no end")

    def _start(self):
        """The start's own code goes with it: the one part of the runtime that is imported late."""
        from .startup import start

        self._free = start(self)
        del start
        forget("iot_platform", [path[13:] for path in sys.modules if path[13:] not in ("startup", "profile")])

    def _loop(self):
        """One round: ticks, then what has changed, then commands; all from one list, so that all see the same."""
        for name in list(self.modules):
            self._call(name, "tick")
        changes = self.bus.take_changes()
        commands = self.bus.take_commands()
        if changes or commands:
            for name in list(self.modules):
                if changes:
                    self._call(name, "on_telemetry", changes)
                for command in commands:
                    self._call(name, "on_command", command)
        self.board.feed()
        if self._restart:
            self._try_restart()

    def _call(self, name, method, *args):
        """Call a module's method; what it raises is its own affair. Ten times running is the end of the module."""
        module = self.modules.get(name)
        if module is None:
            return None
        try:
            result = getattr(module, method)(*args)
            if method == "telemetry" and result:  # what cannot be published is its own affair too
                self.bus.publish_all(result, name)
        except Exception as error:  # includes MemoryError
            gc.collect()
            count = self._failures[name + method] = self._failures.get(name + method, 0) + 1
            if count >= _MAX_FAILURES:
                self.switch_off(name, method, error)
            elif count == 1:
                SerialLog.exception(error, "module %s failed in %s" % (name, method))
            else:
                SerialLog.warning("module %s failed in %s again, time %d" % (name, method, count))
            return None
        if self._failures:
            self._failures.pop(name + method, None)
        return result

    def _try_restart(self):
        reason, deadline = self._restart
        if time.ticks_diff(deadline, time.ticks_ms()) > 0:
            for name in list(self.modules):
                why = self._call(name, "busy")
                if why:
                    self.bus.publish("restart/waiting_for", "%s: %s" % (name, why))
                    return
        SerialLog.info("restarting:", reason)
        for name in list(self.modules):
            self._call(name, "stop")
        self.board.reset()
