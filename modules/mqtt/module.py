"""The MQTT module: telemetry out, commands in, and a connection that comes back by itself. The topics are in docs/mqtt.md.

    off -> waiting -> connecting -> connected
              ^------------'------------'         a pause that grows, and differs from board to board

Nothing here waits. What must be told again after a loss is kept as the set of keys that changed, never as a queue: a board
that was away for hours tells how things are, once. A command's final result survives the restart that it leads to.
"""

import json
import random
import time

from iot_platform import sockets
from iot_platform.module import Module as Base
from micropython import const

from .client import MqttError, login
from .messages import discovery, received, settle, update_state

_STATUS = const("/status/#")  # heard until all that the broker has kept of it has come
_MAX_REPLIES = const(4)
_MAX_VALUE = const(512)
_MAX_TOLD = const(8)
_ENTITY_MS = const(2_000)
_FIRST_PAUSE_MS = const(1_000)
_MAX_DOUBLINGS = const(8)  # four minutes
_STABLE_MS = const(30_000)  # a connection that lasted so long was a good one


class Module(Base):
    name = "mqtt"

    def __init__(self, platform):
        super().__init__(platform)
        self.base = "%s/%s" % (platform.profile.get("shortName", "board"), platform.board.unique_id())
        self.cfg = self.client = None
        self.check_at = self.announce_at = None  # ticks_ms of what is to be done then
        self.pending = platform.prefs.text("mqtt.pending")  # the command whose final result is still to be told
        self.restarted = True  # since it was given
        self._told = set()  # what was logged about this connection
        self._failures = 0
        self._changed = set()
        self._noisy = set()
        self._listens = False  # True until what the broker has kept of our own has come
        self._entity = False  # True when the update entity's state has to be told
        self._replies = []
        self._flying = None  # the reply that the broker has not acknowledged yet
        self._job = None  # logging in, or announcing to Home Assistant: a generator
        self._since = self._next = self._noisy_at = self._entity_at = time.ticks_ms()

    def start(self):
        """Read the settings and connect. To be called again when ``mqtt.*`` in the preferences has changed."""
        self._drop()
        self._failures = 0
        self._told.clear()
        self.cfg, error = self.platform.settings("mqtt")
        if error:
            self.log("off: %s %s; expected: %s" % error)
        if self.cfg and self.cfg["host"]:
            self._enter("waiting")
        else:
            self.cfg = None
            self._enter("off")

    # -- for the other files of this one

    def log(self, *words):
        self.platform.log("mqtt:", *words)

    def once(self, text):
        """Log what a hostile or broken sender could repeat for ever."""
        if text not in self._told and len(self._told) < _MAX_TOLD:
            self._told.add(text)
            self.log(text)

    def reply(self, topic, text):
        """Queue a reply, or an event; the oldest one gives way when there are too many."""
        self._replies.append((topic, text))
        if len(self._replies) > _MAX_REPLIES:
            self._replies.pop(0)

    def echo(self, key):
        """A status has come back: an old one that nobody tells any more is cleared; of this connection's own enough have come."""
        if not self.client.retained:
            if self._listens:
                self.client.unsubscribe((self.base + _STATUS).encode())
            self._listens = False
        elif key != "online" and self.platform.bus.get(key, self) is self:
            self._changed.add(key)

    # -- lifecycle

    def tick(self):
        now = time.ticks_ms()
        try:
            if self.client:
                self._talk(now)
            elif self._job:
                next(self._job)
            elif self.cfg and time.ticks_diff(now, self._next) >= 0 and self.platform.bus.get("wifi/connected") is not False:
                self._enter("connecting")
                self._job = self._connect()
        except StopIteration:  # connected
            self._job = None
        except (OSError, MqttError, MemoryError) as error:
            self._lost(error)
        self._due(now)

    def on_telemetry(self, values):
        if self.cfg and "wifi/connected" in values:  # no need to wait for a timeout, or for the end of a pause
            self._drop()
            self._failures = 0
            self._enter("waiting")
        problem = values.get("ota/problem")
        if problem and "reason" in problem:
            state = self.platform.bus.get("ota/status")
            if state in ("failed", "rolled_back"):  # else it is told again, after a restart
                self.reply("event", json.dumps(dict(problem, event_type=state)))
        for key in values if self.client else ():
            ours = key.startswith("ota/")
            number = isinstance(values[key], (int, float)) and not isinstance(values[key], bool)
            (self._noisy if number and not ours else self._changed).add(key)
            self._entity = self._entity or ours or key == "version"

    def busy(self):
        """A restart waits for a reply that the broker may still take."""
        return "a reply is on its way" if self.client and self._replies else None

    def stop(self):
        """Before a restart. The broker need not find out by itself that this board is gone."""
        if self.client:
            try:
                self._publish("ota/status", self.platform.bus.get("ota/status"))
                self._publish("online", False)
                self.client.write(b"\xe0\0")  # DISCONNECT: no last will
            except OSError as error:
                self.log("no farewell:", error)
        self._drop()

    # -- the connection

    def _enter(self, state, pause=0):
        """Be in a state; when it is "waiting", for `pause` ms."""
        self._since = time.ticks_ms()
        self._next = time.ticks_add(self._since, pause)
        self.platform.bus.publish("mqtt/state", state)

    def _connect(self):
        """Log in, ask for what concerns this board, and tell everything. Generator."""
        cfg = self.cfg
        client = yield from login(cfg, self.base, lambda topic, data: received(self, topic, data))
        self.client = client
        self._told.clear()
        self._enter("connected")
        self.log("connected to", cfg["host"])
        topics = ["%s/command/#" % self.base, "iot-platform/version", self.base + _STATUS]
        if cfg["discovery"]:
            topics.append(cfg["discovery"] + "/status")
            self.announce_at = self._since
        for topic in topics:
            client.subscribe(topic.encode(), topic == topics[0])
        self._listens = True
        self._publish("online", True)
        self._changed = {key for key, _value in self.platform.bus.items()}
        self._entity = True

    def _lost(self, error):
        """The connection is lost, or there never was one: say why, once, and wait; longer each time, and not all boards alike."""
        if self.client and time.ticks_diff(time.ticks_ms(), self._since) > _STABLE_MS:
            self._failures = 0
        self._drop()
        sockets.names.pop(self.cfg["host"], None)  # perhaps the broker has moved
        pause = _FIRST_PAUSE_MS << min(self._failures, _MAX_DOUBLINGS)
        pause += random.getrandbits(10) * pause >> 10
        self._failures += 1
        self._enter("waiting", pause)
        if len(self._told) > _MAX_TOLD:
            self._told.clear()
        text = "no connection to %s: %s" % (self.cfg["host"], error)
        if text not in self._told:
            self._told.add(text)
            self.log("%s; trying again in %d s, then later and later" % (text, (pause + 500) // 1000))

    def _drop(self):
        """Forget the connection, or the attempt at one."""
        if self._job:
            self._job.close()
        if self.client:
            self.client.close()
        self.client = self._job = self.announce_at = self._flying = None

    # -- what is said

    def _talk(self, now):
        """Receive; then send one message, and the next one when it is gone: that is all the queue there is."""
        client = self.client
        for _ in range(4):
            if not client.work():
                break
        if client.oversized:
            client.oversized = False
            self.once("a message that is too long is ignored")
        while client.refused:
            self.once("the broker does not let this board subscribe to " + client.refused.pop().decode())
        if not client.idle():
            return
        if time.ticks_diff(now, self._noisy_at) >= 0:
            self._noisy_at = time.ticks_add(now, self.cfg["noisy_s"] * 1000)
            self._changed.update(self._noisy)
            self._noisy.clear()
        if client.acked and self._flying in self._replies:
            self._replies.remove(self._flying)
            self._flying = None
        if client.acked and self._replies:
            self._flying = topic, text = self._replies[0]
            client.publish(("%s/%s" % (self.base, topic)).encode(), text.encode(), qos=1)
        elif self.announce_at is not None and time.ticks_diff(now, self.announce_at) >= 0:
            if not self._job:
                self._job = discovery(self)
            for topic, data in self._job:  # made one by one
                client.publish(topic, data, True)
                return
            self._job = self.announce_at = None
        elif self._changed:
            key = self._changed.pop()
            self._publish(key, self.platform.bus.get(key))
        elif self._entity and time.ticks_diff(now, self._entity_at) >= 0:
            self._entity = False
            self._entity_at = time.ticks_add(now, _ENTITY_MS)
            client.publish((self.base + "/update").encode(), update_state(self), True)

    def _publish(self, key, value):
        """Publish a status, retained: text as it is, everything else as JSON, nothing (an empty message) for None and ""."""
        text = "" if value is None else value if isinstance(value, str) else json.dumps(value)
        if "#" in key or "+" in key or len(text) > _MAX_VALUE:
            self.once("this cannot be published: status/" + key)
        else:
            self.client.publish(("%s/status/%s" % (self.base, key)).encode(), text.encode(), True)

    def _due(self, now):
        """What a message has called for, and the result of what a command has started."""
        ota = self.platform.module("ota")
        if self.check_at is not None and time.ticks_diff(now, self.check_at) >= 0:
            self.check_at = None
            if ota:
                ota.request_check()
        if self.pending and self.client:
            going_on = ["rebooting", "trial"]
            if self.platform.update_boot:
                going_on.append("idle")  # there it has yet to begin
            if not (ota and (ota.job or ota.ordered or ota.state in going_on)):
                settle(self, ota)
