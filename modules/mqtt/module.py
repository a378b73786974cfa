"""The MQTT module: telemetry out, commands in, and a connection that comes back by itself. The topics are in docs/mqtt.md.

    off -> waiting -> connecting -> connected
              ^------------'------------'         a pause that grows, and differs from board to board

Nothing here waits. What must be told again after a loss is kept as the set of keys that changed, never as a queue: a board
that was away for hours tells how things are, once. A command's final result survives the restart that it leads to.
"""

import json
import random
import time

from iot_platform import parts
from iot_platform.module import Module as Base

_FIRST_PAUSE_MS = 1_000
_MAX_DOUBLINGS = 8  # four minutes
_STABLE_MS = 30_000  # a connection that lasted so long was a good one
_MAX_REPLIES = 4
_MAX_VALUE = 512
_MAX_COMMAND = 256
_STAYS = ("module", "client")
_PENDING = "mqtt.pending"
_UPDATE = ""  # stands for the update entity's state among the keys that changed
_IN_PROGRESS = ("downloading", "installing", "rebooting", "trial")


class Module(Base):
    name = "mqtt"
    BROADCAST = "iot-platform/version"

    def __init__(self, platform):
        super().__init__(platform)
        self.state = "off"
        self.cfg = None
        self.base = "%s/%s" % (platform.profile.get("shortName", "board"), platform.board.unique_id())
        self.check_at = None  # ticks_ms of a check that a broadcast has called for
        self.pending = platform.prefs.get(_PENDING)  # the command whose final result is still to be told
        self._restarted = bool(self.pending)
        self._client = None
        self._job = None  # logging in, or announcing to Home Assistant: a generator
        self._announce_at = None
        self._addresses = None
        self._failures = 0
        self._since = self._next = self._slow_at = 0
        self._changed = set()
        self._noisy = set()
        self._replies = []
        self._flying = None  # the reply that the broker has not acknowledged yet
        self._told = None

    # -- for other modules

    def start(self):
        """Read the settings and connect. Again after they were changed: preferences come before the profile."""
        from .config import settings

        self._drop()
        self.cfg, error = settings(self.platform)
        self._forget()
        self._addresses = self._told = None
        self._failures = 0
        if error:
            self.log("off: %s %s; expected: %s" % error)
        if error or not self.cfg["host"]:
            self.cfg = None
            self._enter("off")
            return
        self._wait(0)

    def log(self, *words):
        self.platform.log("mqtt:", *words)

    def once(self, text):
        """Log what a hostile or broken sender could repeat for ever."""
        if text != self._told:
            self._told = text
            self.log(text)

    def reply(self, path, text):
        """Queue a reply; the oldest one gives way when there are too many."""
        self._replies.append((path, text))
        if len(self._replies) > _MAX_REPLIES:
            self._replies.pop(0)

    def announce(self, delay_ms):
        """Tell Home Assistant about this board, after a while."""
        if self.cfg["discovery"]:
            self._announce_at = time.ticks_add(time.ticks_ms(), delay_ms)

    # -- lifecycle

    def tick(self):
        if not self.cfg:
            return
        try:
            self._tick(time.ticks_ms())
        except MemoryError as error:  # an update may need it all just now
            self._lost(error)
        if self.pending:
            self._settle()

    def on_telemetry(self, values):
        if "wifi/connected" in values and self.cfg:
            self._network(values["wifi/connected"])
        if self.state != "connected":
            return
        for key in values:
            value = values[key]
            noisy = isinstance(value, (int, float)) and not isinstance(value, bool) and not key.startswith("ota/")
            (self._noisy if noisy else self._changed).add(key)
            if key.startswith("ota/") or key == "version":
                self._changed.add(_UPDATE)

    def stop(self):
        if self.pending:
            self.platform.prefs.set(_PENDING, self.pending)
            self.platform.prefs.save()
        if self.state == "connected":
            try:
                self._publish("status/ota/status", self.platform.bus.get("ota/status"))
                self._publish("status/online", False)
                self._client.sock.write(b"\xe0\0")
                self._client.sock.flush()
            except OSError as error:
                self.log("no farewell:", error)
        self._drop()

    # -- the connection

    def _tick(self, now):
        if self.check_at is not None and time.ticks_diff(now, self.check_at) >= 0:
            self.check_at = None
            self.platform.module("ota").request_check()
        try:
            if self.state == "connected":
                self._talk(now)
            elif self.state == "connecting":
                next(self._job)
            elif time.ticks_diff(now, self._next) >= 0 and self.platform.bus.get("wifi/connected") is not False:
                self._connect()
        except StopIteration as stop:
            self._connected(*stop.value)
        except Exception as error:
            if not isinstance(error, OSError) and not hasattr(error, "reason"):
                raise
            self._lost(error)

    def _connect(self):
        from .login import login

        if self._failures > 2:
            self._addresses = None  # perhaps the broker has moved
        self._enter("connecting")
        will = (self.base + "/status/online").encode()
        self._job = login(self.cfg, self.base.replace("/", "-").encode(), will, self._addresses)

    def _connected(self, client, addresses):
        self._client, self._addresses = client, addresses
        self._job = self._told = None
        self._forget()
        self._enter("connected")
        self.log("connected to", self.cfg["host"])
        client.set_callback(self._received)
        for topic in (self.base + "/command/#", self.BROADCAST, (self.cfg["discovery"] or "") + "/status"):
            if topic[0] != "/":
                client.subscribe(topic.encode())
        self._publish("status/online", True)
        self._changed = {key for key, _value in self.platform.bus.items()}
        self._changed.add(_UPDATE)
        self.announce(0)

    def _talk(self, now):
        for _ in range(4):
            if not self._client.work(self.cfg["timeout_s"] * 1000):
                break
        if self._client.sock.oversized:
            self._client.sock.oversized = False
            self.once("a message that is too long is ignored")
        if self._client.sock.idle:
            self._send_next(now)

    def _send_next(self, now):
        """One message at a time, and the next one when it is gone: that is all the queue there is."""
        if time.ticks_diff(now, self._slow_at) >= 0:
            self._slow_at = time.ticks_add(now, self.cfg["noisy_s"] * 1000)
            self._changed.update(self._noisy)
            self._noisy.clear()
        if self._client.acked and self._flying:
            if self._flying in self._replies:
                self._replies.remove(self._flying)
            self._flying = None
        if self._replies and self._client.acked:
            self._flying = path, text = self._replies[0]
            self._client.publish_surely(("%s/reply/%s" % (self.base, path)).encode(), text.encode())
        elif self._announce_at is not None and time.ticks_diff(now, self._announce_at) >= 0:
            self._announce_next()
        elif self._changed:
            key = self._changed.pop()
            if key == _UPDATE:
                self._publish_update()
            else:
                self._publish("status/" + key, self.platform.bus.get(key))

    def _announce_next(self):
        """The next message for Home Assistant: they are made one by one."""
        if not self._job:
            from .discovery import messages

            self._job = messages(self)
        try:
            topic, text = next(self._job)
            self._client.publish(topic.encode(), text.encode(), True)
        except StopIteration:
            self._job = self._announce_at = None
            self._forget()

    def _publish(self, path, value):
        """A retained value: text as it is, everything else as JSON, nothing (an empty message) for None and ""."""
        text = "" if value is None else value if isinstance(value, str) else json.dumps(value)
        if "#" in path or "+" in path or len(text) > _MAX_VALUE:
            self.once("this cannot be published: " + path)
            return
        self._client.publish(("%s/%s" % (self.base, path)).encode(), text.encode(), True)

    def _publish_update(self):
        """The state of Home Assistant's update entity: see docs/mqtt.md for its schema."""
        get = self.platform.bus.get
        ota = self.platform.module("ota")
        status, version = get("ota/status"), get("version")
        if not ota or not ota.cfg or not version:
            return
        latest = "" if status in ("up_to_date", "confirmed", "rolled_back") else get("ota/available")
        value = {
            "installed_version": version,
            "latest_version": latest or version,
            "title": self.platform.profile["shortName"],
            "in_progress": status in _IN_PROGRESS,
            "update_percentage": get("ota/progress") if status == "downloading" else None,
            "release_url": self.cfg["release_url"] or ota.url(""),
        }
        if ota.notes:
            value["release_summary"] = ota.notes[:255]
        self._publish("update", value)

    def _received(self, topic, data):
        """umqtt's callback: any message that was asked for."""
        from .commands import received

        try:
            if len(data) > _MAX_COMMAND:
                raise ValueError("a message that is too long")
            received(self, topic, data, self._client.retained)
        except ValueError as error:
            self.once("ignored: %s" % error)
        self._forget()

    def _settle(self):
        """Reply with the result of the job that a command has started, when it has ended."""
        ota = self.platform.module("ota")
        if ota and (ota.job or ota.state in ("rebooting", "trial")):
            return
        from .commands import result

        self.reply(self.pending, result(ota, self.pending, self._restarted))
        self.pending = None
        if self._restarted:
            self._restarted = False
            self.platform.prefs.remove(_PENDING)
            self.platform.prefs.save()
        self._forget()

    # -- the state machine

    def _enter(self, state):
        self.state = state
        self._since = time.ticks_ms()
        self.platform.bus.publish("mqtt/state", state)

    def _network(self, there):
        """Wifi has come or gone: no need to wait for a timeout."""
        self._drop()
        self._failures = 0
        self._wait(random.getrandbits(10) if there else _FIRST_PAUSE_MS)

    def _lost(self, error):
        if self.state == "connected" and time.ticks_diff(time.ticks_ms(), self._since) > _STABLE_MS:
            self._failures = 0
        self._drop()
        pause = _FIRST_PAUSE_MS << min(self._failures, _MAX_DOUBLINGS)
        pause += random.getrandbits(10) * pause >> 10
        self._failures += 1
        self._wait(pause)
        text = "no connection to %s: %s" % (self.cfg["host"], error)
        if text != self._told:  # one line, not one for each attempt
            self._told = text
            self.log("%s; trying again in %d s, then later and later" % (text, pause // 1000))

    def _wait(self, pause_ms):
        self._enter("waiting")
        self._next = time.ticks_add(self._since, pause_ms)

    def _drop(self):
        """Forget the connection, or the attempt at one."""
        if self._job:
            self._job.close()
        if self._client:
            self._client.sock.close()
        self._client = self._job = self._announce_at = self._flying = None
        self._forget()

    def _forget(self):
        parts.forget("modules.mqtt", _STAYS)
        parts.forget("iot_platform", parts.PLATFORM)
