"""A connection to the broker that never waits: how it comes back, and umqtt's robust client on the socket that it has.

A packet is read when all of it is there, and written when it can be. Reconnecting is a state of the module, not a loop in here:
where umqtt would try for ever there is an OSError. What umqtt takes for its socket is the client itself: writes go to a bounded
queue, reads come out of one packet that has arrived.
"""

import errno
import json
import random
import time

from iot_platform import sockets
from iot_platform.module import Module as Base
from micropython import const
from umqtt import robust

_IN = const(384)  # bytes of the longest packet that is read; longer ones are thrown away
_OUT = const(2048)  # bytes that may wait to be sent
_MOST = const(2000)  # bytes of a message and its topic
_HEAD = const(5)
_READS = const(32)  # at most, each time
_MAX_TOLD = const(8)
_MAX_VALUE = const(512)
_FIRST_PAUSE_MS = const(1_000)
_MAX_DOUBLINGS = const(8)  # four minutes
_STABLE_MS = const(30_000)  # a connection that lasted so long was a good one


class MqttError(Exception):
    """Why there is no connection: `reason` is one of dns connect timeout tls connection_lost refused protocol."""

    def __init__(self, reason, message):
        super().__init__(message)
        self.reason = reason


def head(first, size):
    """A packet's first byte and its length: two bytes of seven bits are enough for all that is sent here."""
    return bytes((first, size) if size < 128 else (first, size & 0x7F | 0x80, size >> 7))


def in_time(since, cfg):
    """MqttError when the broker is silent for too long."""
    if time.ticks_diff(time.ticks_ms(), since) > cfg["timeout_s"] * 1000:
        raise MqttError("timeout", "the broker has not answered for %d s" % cfg["timeout_s"])


class Link(Base):
    """The module's connection: how it comes, and comes back.

    off -> waiting -> connecting -> connected
              ^------------'------------'         a pause that grows, and differs from board to board
    """

    def __init__(self, platform):
        super().__init__(platform)
        self.base = "%s/%s" % (platform.profile.get("shortName", "board"), platform.board.unique_id())
        self.cfg = self.client = None
        self.announce_at = None  # ticks_ms of telling Home Assistant what there is
        self._job = None  # logging in, or announcing: a generator
        self._flying = None  # the reply that the broker has not acknowledged yet
        self._told = set()  # what was logged about this connection
        self._failures = 0
        self._since = self._next = time.ticks_ms()

    def log(self, *words):
        self.platform.log("mqtt:", *words)

    def once(self, text):
        """Log what a hostile or broken sender could repeat for ever."""
        if text not in self._told and len(self._told) < _MAX_TOLD:
            self._told.add(text)
            self.log(text)

    def _begin(self):
        """Connect at once, where there is a broker."""
        self._drop()
        self._failures = 0
        self._enter("waiting" if self.cfg else "off")

    def _enter(self, state, pause=0):
        """Be in a state; when it is "waiting", for `pause` ms."""
        self._since = time.ticks_ms()
        self._next = time.ticks_add(self._since, pause)
        self.platform.bus.publish("mqtt/state", state)

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

    def _publish(self, key, value):
        """Publish a status, retained: text as it is, everything else as JSON, nothing (an empty message) for None and ""."""
        text = "" if value is None else value if isinstance(value, str) else json.dumps(value)
        if "#" in key or "+" in key or len(text) > _MAX_VALUE:
            self.once("this cannot be published: status/" + key)
        else:
            if not self.client.publish(("%s/status/%s" % (self.base, key)).encode(), text.encode(), True):
                self.once("this is too long to be published: status/" + key[:40])


class Client(robust.MQTTClient):
    """One connection, on a socket on which the broker has said yes already.

    :param callback: called with topic and message, both bytes; `retained` tells of what kind the message is.
    """

    def __init__(self, raw, cfg, callback):
        self.sock = self
        self.cb = callback
        self.pid = 0
        self.acked = True  # False while a message of QoS 1 is on its way
        self.oversized = False  # True once a packet was too long
        self.optional = {}  # number of a question: a topic that is not needed
        self.refused = []  # those that the broker does not allow
        self._raw = raw
        self.cfg = cfg
        self._out = bytearray()
        self._sending = b""  # TLS wants the same bytes again after a write that would have blocked
        self.view = memoryview(bytearray(_IN))
        self._owed = 0  # answers that the broker owes
        self._since = time.ticks_ms()  # when the broker was heard; or, if it owes an answer since then, was asked
        self._next()

    def work(self):
        """Send and receive what can be now. True when there may be more; a message goes to the callback.

        OSError or MqttError: the connection is of no use any more.
        """
        self._flush()
        if not self._arrived():
            if self._owed:
                in_time(self._since, self.cfg)
            elif time.ticks_diff(time.ticks_ms(), self._since) > self.cfg["keepalive_s"] * 500:
                self._owe()
                self.ping()
            return False
        first = self.view[0]
        if first & 0xF0 == 0x30:
            self.retained = first & 1
            if not first & 6:  # nothing was asked for with more than QoS 0
                self.wait_msg()
        else:  # SUBACK, PUBACK or PINGRESP; whatever else there is makes no sense here
            self._owed = max(self._owed - 1, 0)
            if first == 0x40:
                self.acked = True
            elif first == 0x90:
                topic = self.optional.pop(self.view[2] << 8 | self.view[3], None)
                if self.view[self._need - 1] & 0x80:
                    if not topic:
                        raise MqttError("refused", "the broker does not let this board subscribe to its commands")
                    self.refused.append(topic)
            elif first not in (0xB0, 0xD0):
                raise MqttError("protocol", "the broker sends what it must not")
        self._next()
        return True

    def reconnect(self):
        raise OSError(errno.ENOTCONN)

    def subscribe(self, topic, needed=True):
        """With QoS 0; the broker's answer comes later."""
        self._ask(0x82, topic, b"\0")
        if not needed:
            self.optional[self.pid] = topic

    def unsubscribe(self, topic):
        self._ask(0xA2, topic, b"")

    def publish(self, topic, msg, retain=False, qos=0):
        """With QoS 1, `acked` is True again when the broker has it."""
        if len(topic) + len(msg) > _MOST:  # it would never fit, at the next connection neither
            return False
        if qos:
            self.acked = False
            self._ask(0x32, topic, msg)
        else:
            super().publish(topic, msg, retain)
        return True

    def idle(self):
        """True when all has been sent."""
        return not self._out and not self._sending

    def close(self):
        """End the connection; what waits is still sent, if that can be done at once."""
        try:
            self._flush()
        except OSError:  # then the last will says it
            pass
        self._raw.close()

    # -- what umqtt does to its socket

    def setblocking(self, _):
        """It never blocks."""

    def write(self, data, n=None):
        if len(self._out) + len(data) > _OUT:
            raise OSError(errno.ENOBUFS)
        self._out.extend(data if n is None else data[:n])

    def read(self, n):
        """`n` bytes of the packet; OSError where it has no more."""
        end = self._at + n
        if n < 0 or end > self._need:
            raise OSError(errno.EINVAL)
        part = bytes(self.view[self._at : end])
        self._at = end
        return part

    # -- inside

    def _ask(self, first, topic, data):
        """Send a packet that the broker has to answer; PUBLISH has its number behind the topic, the others before it."""
        self._owe()
        pid = bytes((self.pid >> 8, self.pid & 0xFF))
        self.write(head(first, len(topic) + len(data) + 4))
        if first in (0x82, 0xA2):
            self.write(pid)
            self._send_str(topic)
        else:
            self._send_str(topic)
            self.write(pid)
        self.write(data)

    def _flush(self):
        if not self._sending:
            self._sending, self._out = self._out, bytearray()
        if self._sending:
            n = self._raw.write(self._sending)
            if n:
                self._sending = self._sending[n:]

    def _arrived(self):
        """True when a packet has arrived whole. One that is too long runs through the buffer, a bit at a time."""
        for _ in range(_READS):
            if self._body and self._have == self._need:
                if self._need <= _IN:
                    return True
                self.oversized = True
                self._next()
            at = self._have if self._need <= _IN else _HEAD
            n = self._raw.readinto(self.view[at : min(self._need, _IN, at + self._need - self._have)])
            if n is None:
                return False
            if not n:
                raise OSError(errno.ECONNRESET)
            self._have += n
            self._since = time.ticks_ms()
            if not self._body and self._have == self._need:
                self._measure()
        return False

    def _measure(self):
        """The packet's length follows its first byte: seven bits a byte, the last one below 128."""
        last = self._need - 1
        if self.view[last] & 0x80:
            if self._need == _HEAD:
                raise OSError(errno.EINVAL)
            self._need += 1
            return
        size = 0
        for i in range(last, 0, -1):
            size = size << 7 | self.view[i] & 0x7F
        self._body = True
        self._need += size

    def _next(self):
        self._have = self._at = 0
        self._need = 2
        self._body = False  # True once the packet's length is known

    def _owe(self):
        if not self._owed:
            self._since = time.ticks_ms()
        self._owed += 1
        self.pid = self.pid % 65535 + 1
