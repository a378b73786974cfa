"""The MQTT module: telemetry out, commands in, and a connection that comes back by itself. The topics are in docs/mqtt.md.

    off -> waiting -> connecting -> connected
              ^------------'------------'         a pause that grows, and differs from board to board

Nothing here waits. What must be told again after a loss is kept as the set of keys that changed, never as a queue: a board
that was away for hours tells how things are, once. A command's final result survives the restart that it leads to. What
happens seldom is in other files, which are imported then and forgotten.
"""

import json
import time

from iot_platform import parts
from iot_platform.module import Module as Base
from micropython import const

_MAX_REPLIES = const(4)
_MAX_VALUE = const(512)
_MAX_TOLD = const(8)
_ENTITY_MS = const(2_000)
_SHORT_MS = const(5_000)
_HELD_MS = const(1_800_000)  # no longer without a broker for an update's sake


class Module(Base):
    name = "mqtt"

    def __init__(self, platform):
        super().__init__(platform)
        self.base = "%s/%s" % (platform.profile.get("shortName", "board"), platform.board.unique_id())
        self.state = ""
        self.cfg = self.client = self.addresses = None
        self.told = set()  # what was logged about this connection
        self.check_at = self.announce_at = None  # ticks_ms of what is to be done then
        self.pending = platform.prefs.get("mqtt.pending")  # the command whose final result is still to be told
        self.restarted = bool(self.pending)
        self.failures = 0
        self.changed = set()
        self.entity = False  # True when the update entity's state has to be told
        self._noisy = set()
        self._replies = []
        self._flying = None  # the reply that the broker has not acknowledged yet
        self._held = None  # ticks_ms until which an update may need the memory of a connection
        self._job = None  # logging in, or announcing to Home Assistant: a generator
        self._since = self._next = self._noisy_at = self._entity_at = time.ticks_ms()

    # -- for other modules

    def start(self):
        """Read the settings and connect. To be called again when ``mqtt.*`` in the preferences has changed."""
        from .config import configure

        self._drop()
        wanted = configure(self)
        self._forget()
        if wanted:
            from .client import Client  # noqa: F401 (what stays is loaded while the heap is whole)

            self.wait(0)
        else:
            self.enter("off")

    def wrong(self):
        """The first error of the settings as they are now, as ``(key, problem, expected form)``; None when they are good."""
        from .config import settings

        return settings(self.platform)[1]

    # -- for the other files of this one

    def log(self, *words):
        self.platform.log("mqtt:", *words)

    def once(self, text):
        """Log what a hostile or broken sender could repeat for ever."""
        if text not in self.told and len(self.told) < _MAX_TOLD:
            self.told.add(text)
            self.log(text)

    def reply(self, path, text):
        """Queue a reply; the oldest one gives way when there are too many."""
        self._replies.append((path, text))
        if len(self._replies) > _MAX_REPLIES:
            self._replies.pop(0)

    def publish(self, path, value):
        """Publish, retained: text as it is, everything else as JSON, nothing (an empty message) for None and ""."""
        text = "" if value is None else value if isinstance(value, str) else json.dumps(value)
        if "#" in path or "+" in path or len(text) > _MAX_VALUE:
            self.once("this cannot be published: " + path)
        else:
            self._send(path, text.encode())

    def enter(self, state):
        self.state = state
        self._since = time.ticks_ms()
        self.platform.bus.publish("mqtt/state", state)

    def wait(self, pause_ms):
        self.enter("waiting")
        self._next = time.ticks_add(self._since, pause_ms)

    def received(self, topic, data):
        """A message that was asked for."""
        from .commands import received

        received(self, topic, data)
        self._forget()

    # -- lifecycle

    def tick(self):
        now = time.ticks_ms()
        try:
            if self.client:
                self._talk(now)
            elif self._job:
                next(self._job)
            elif self._held is not None:
                if not self._ota_works() or time.ticks_diff(now, self._held) > 0:
                    self._held = None
            elif self.cfg and time.ticks_diff(now, self._next) >= 0 and self.platform.bus.get("wifi/connected") is not False:
                from .link import login

                self.enter("connecting")
                self._job = login(self)
        except StopIteration:  # logged in
            self._job = None
            self._forget()
        except MemoryError:  # an update may need all of it just now, so nothing is imported to say so
            self._drop()
            self.wait(_SHORT_MS)
        except Exception as error:
            if not isinstance(error, OSError) and not hasattr(error, "reason"):
                raise
            self._lost(error)
        self._due(now)

    def on_telemetry(self, values):
        if self.cfg and "wifi/connected" in values:  # no need to wait for a timeout, or for the end of a pause
            self._drop()
            self.failures = 0
            self.wait(0)
        for key in values if self.client else ():
            ours = key.startswith("ota/")
            number = isinstance(values[key], (int, float)) and not isinstance(values[key], bool)
            (self._noisy if number and not ours else self.changed).add(key)
            self.entity = self.entity or ours or key == "version"

    def relax(self):
        """Without a connection until the update is over, and without its code. Then everything is told again."""
        if self.client:
            self.client.farewell()
            self._drop()
            self.wait(0)
        self._held = time.ticks_add(time.ticks_ms(), _HELD_MS)
        parts.forget("modules.mqtt", ("module",))
        parts.forget("umqtt", ())

    def stop(self):
        from .link import farewell

        farewell(self)
        self._drop()

    # -- inside

    def _talk(self, now):
        client = self.client
        for _ in range(4):
            if not client.work():
                break
        if client.oversized:
            client.oversized = False
            self.once("a message that is too long is ignored")
        if client.idle():
            self._send_next(now)

    def _send_next(self, now):
        """One message at a time, and the next one when it is gone: that is all the queue there is."""
        client = self.client
        if time.ticks_diff(now, self._noisy_at) >= 0:
            self._noisy_at = time.ticks_add(now, self.cfg["noisy_s"] * 1000)
            self.changed.update(self._noisy)
            self._noisy.clear()
        if client.acked and self._flying in self._replies:
            self._replies.remove(self._flying)
            self._flying = None
        if client.acked and self._replies:
            self._flying = path, text = self._replies[0]
            client.publish_surely(("%s/reply/%s" % (self.base, path)).encode(), text.encode())
        elif self.announce_at is not None and time.ticks_diff(now, self.announce_at) >= 0:
            self._announce()
        elif self.changed:
            key = self.changed.pop()
            self.publish("status/" + key, self.platform.bus.get(key))
        elif self.entity and time.ticks_diff(now, self._entity_at) >= 0:
            from .entity import state

            self.entity = False
            self._entity_at = time.ticks_add(now, _ENTITY_MS)
            self._send("update", state(self))
            self._forget()

    def _announce(self):
        """The next message for Home Assistant: they are made one by one."""
        if not self._job:
            from .discovery import messages

            self._job = messages(self)
        for topic, data in self._job:
            self.client.publish(topic, data, True)
            return
        self._job = self.announce_at = None
        self._forget()

    def _send(self, path, data):
        self.client.publish(("%s/%s" % (self.base, path)).encode(), data, True)

    def _due(self, now):
        """What a message has called for, and the result of what a command has started."""
        ota = self.platform.module("ota")
        if self.check_at is not None and time.ticks_diff(now, self.check_at) >= 0:
            self.check_at = None
            ota.request_check()
        if self.pending and not self._ota_works():
            from .commands import settle

            settle(self, ota)
            self._forget()

    def _ota_works(self):
        ota = self.platform.module("ota")
        return ota and (ota.job or ota.state in ("rebooting", "trial"))

    def _lost(self, error):
        stable = self.client and time.ticks_diff(time.ticks_ms(), self._since) > 30_000
        self._drop()
        self.wait(5_000)  # whatever happens below
        from .link import lost

        if stable:
            self.failures = 0
        lost(self, error)
        self._forget()

    def _drop(self):
        """Forget the connection, or the attempt at one."""
        if self._job:
            self._job.close()
        if self.client:
            self.client.close()
        self.client = self._job = self.announce_at = self._flying = None

    def _forget(self):
        parts.forget("modules.mqtt", ("module", "client"))
        parts.forget("iot_platform", parts.PLATFORM)
