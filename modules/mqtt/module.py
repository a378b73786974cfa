"""The MQTT module: telemetry out, commands in, and a connection that comes back by itself. The topics are in docs/mqtt.md.

Nothing here waits. What must be told again after a loss is kept as the set of keys that changed, never as a queue: a board
that was away for hours tells how things are, once. A command's final result survives the restart that it leads to.
"""

import json
import time

import ota_boot
from micropython import const

from .client import Link, MqttError

_STATUS = const("/status/#")  # heard until all that the broker has kept of it has come
_MAX_REPLIES = const(4)
_MAX_SUMMARY = const(255)  # Home Assistant takes no more
_MESSAGES = const("modules.mqtt.messages")
_NO_MEMORY = const('{"ok": false, "error": "no_memory", "message": "there is too little memory for it now"}')
_ENTITY_MS = const(2_000)


class Module(Link):
    name = "mqtt"

    def __init__(self, platform):
        super().__init__(platform)
        self.check_at = None  # ticks_ms of what is to be done then
        self.pending = platform.prefs.text("mqtt.pending")  # the command whose final result is still to be told
        self.restarted = True  # since it was given
        self._changed = set()
        self._noisy = set()
        self._listens = False  # True until what the broker has kept of our own has come
        self._entity = False  # True when the update entity's state has to be told
        self.console = ()  # the log's lines, told while somebody wants them: a generator
        self._replies = []
        self._noisy_at = self._entity_at = self._settle_at = time.ticks_ms()

    def start(self):
        """Read the settings and connect. To be called again when ``mqtt.*`` in the preferences has changed."""
        self._told.clear()
        self.cfg, error = self.platform.settings("mqtt")
        if error:
            self.log("off: %s %s; expected: %s" % error)
        elif not self.cfg["host"]:
            self.cfg = None
        self._begin()

    # -- for the other files of this one

    def reply(self, topic, text):
        """Queue a reply, or an event; the oldest one gives way when there are too many."""
        self._replies.append((topic, text))
        if len(self._replies) > _MAX_REPLIES:
            self._replies.pop(0)

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
            self._begin()
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

    def _connect(self):
        """Log in, ask for what concerns this board, and tell everything. Generator."""
        cfg = self.cfg
        client = yield from self.platform.once("modules.mqtt.config", "login", cfg, self.base, self._received)
        self.client = client
        self._told.clear()
        self._enter("connected")
        self.log("connected to", cfg["host"])
        topics = ["%s/command/#" % self.base, "iot-platform/version", self.base + _STATUS]
        if cfg["discovery"] and not self.platform.update_boot:  # there memory is for the update
            topics.append(cfg["discovery"] + "/status")
            self.announce_at = self._since
        for topic in topics:
            client.subscribe(topic.encode(), topic == topics[0])
        self._listens = True
        self._publish("online", True)
        self._changed = {key for key, _value in self.platform.bus.items()}
        self._entity = True

    # -- what is heard

    def _received(self, topic, data):
        """A message. What is more than an echo is for code that is loaded for it."""
        path = ""
        try:
            topic = topic.decode()
            path = topic[len(self.base) + 1 :]
            if topic.startswith(self.base + _STATUS[:-1]):
                self._echo(path[len(_STATUS) - 2 :])
            else:
                self.platform.once(_MESSAGES, "received", self, topic, data)
        except ValueError as error:  # what is no text is one in MicroPython
            self.once("ignored: %s" % (str(error) or "a message that is no text"))
        except MemoryError:
            self.once("too little memory for a message")
            if path.startswith("command/"):
                self.reply("reply/" + path[8:72], _NO_MEMORY)
        except Exception as error:  # such as a panel's pattern that is none: no reason to lose the connection
            self.once("a message failed: %r" % error)

    def _echo(self, key):
        """A status has come back: an old one that nobody tells any more is cleared; of this connection's own enough have come."""
        if not self.client.retained:
            if self._listens:
                self.client.unsubscribe((self.base + _STATUS).encode())
            self._listens = False
        elif key != "online" and self.platform.bus.get(key, self) is self:
            self._changed.add(key)

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
        for said in self.console:
            if said:
                return
            break
        else:
            self.console = ()
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
                self._job = self.platform.once("modules.mqtt.discovery", "discovery", self)
            for topic, data in self._job:  # made one by one
                if not client.publish(topic, data, True):
                    self.once("too long for Home Assistant: " + topic.decode())
                return
            self._job = self.announce_at = None
        elif self._changed:
            key = self._changed.pop()
            self._publish(key, self.platform.bus.get(key))
        elif self._entity and time.ticks_diff(now, self._entity_at) >= 0:
            self._entity = False
            self._entity_at = time.ticks_add(now, _ENTITY_MS)
            client.publish((self.base + "/update").encode(), update_state(self), True)

    def _due(self, now):
        """What a message has called for, and the result of what a command has started."""
        ota = self.platform.module("ota")
        if self.check_at is not None and time.ticks_diff(now, self.check_at) >= 0:
            self.check_at = None
            if ota:
                ota.request_check()
        if self.pending and self.client and time.ticks_diff(now, self._settle_at) >= 0:
            going_on = ["rebooting", "trial"]
            if self.platform.update_boot:
                going_on.append("idle")  # there it has yet to begin
            if not (ota and (ota.job or ota.ordered or ota.state in going_on)):
                self._settle_at = time.ticks_add(now, _ENTITY_MS)
                try:
                    self.platform.once(_MESSAGES, "settle", self, ota)
                except MemoryError:
                    self.once("too little memory for a result")


def update_state(mqtt):
    """What is installed, what there is, and how far an update has come, as JSON.

    An empty message, which Home Assistant ignores, while there is nothing to say.
    """
    platform = mqtt.platform
    ota, version = platform.module("ota"), platform.bus.get("version")
    if not ota or not ota.cfg or not version:
        return b""
    latest, percent = ota.offered or version, _percent(platform, ota)
    if ota_boot.state == "trial":  # what is on trial is not installed yet
        latest, version = version, ota_boot.header.get("old") or version
    value = {
        "installed_version": version,
        "latest_version": latest,
        "title": platform.profile["shortName"],
        "in_progress": percent is not None,
        "update_percentage": percent,
        "release_summary": ota.notes[:_MAX_SUMMARY],  # what is left out stays as it was
    }
    if mqtt.cfg["release_url"]:
        value["release_url"] = mqtt.cfg["release_url"]
    return json.dumps(value).encode()


def _percent(platform, ota):
    """How far all of an update has come, from what was asked for to its confirmation; None when none is under way."""
    state = ota.state
    if "trial" in (state, ota_boot.state):
        return 90
    if state == "rebooting":
        return 85 if ota_boot.state else 0  # for an update boot
    done = max(ota.percent, 0) * 7 // 10 if state == "downloading" else {"ready": 70, "installing": 75}.get(state, 0)
    # In an update boot nothing else is done
    here = platform.update_boot and state not in ("up_to_date", "confirmed", "rolled_back", "failed")
    at_work = ota.job and (ota.installs or ota.job in ("update", "install", "stage", "rollback"))
    return done if here or at_work or ota.ordered else None
