"""umqtt's robust client, made so that it never waits: a packet is read when all of it is there, and written when it can be.

Reconnecting is a state of the module, not a loop in here: where umqtt would try for ever there is an OSError. What umqtt takes
for its socket is the client itself: writes go to a bounded queue, reads come out of one packet that has arrived.
"""

import errno
import time

from micropython import const
from umqtt import robust, simple

_IN = const(384)  # bytes of the longest packet that is read; longer ones are thrown away
_OUT = const(2048)  # bytes that may wait to be sent
_HEAD = const(5)

# What is replaced here, or not needed, gives its memory back (del would keep the value in the class's table). What stays of
# umqtt builds and parses messages.
for _name in ("__init__", "connect", "subscribe", "check_msg", "disconnect", "set_last_will"):
    setattr(simple.MQTTClient, _name, None)
robust.MQTTClient.delay = None


class MqttError(Exception):
    """Why there is no connection: `reason` is one of dns connect timeout tls connection_lost refused protocol."""

    def __init__(self, reason, message):
        super().__init__(message)
        self.reason = reason


class Client(robust.MQTTClient):
    """One connection, on a socket on which the broker has said yes already.

    :param timeout_ms: how long the broker has for an answer.
    :param callback: called with topic and message, both bytes; `retained` tells of what kind the message is.
    """

    def __init__(self, raw, keepalive_s, timeout_ms, callback):
        self.sock = self
        self.cb = callback
        self.pid = 0
        self.acked = True  # False while a message of QoS 1 is on its way
        self.oversized = False  # True once a packet was too long
        self._raw = raw
        self._ping_ms = keepalive_s * 500
        self._timeout_ms = timeout_ms
        self._out = bytearray()
        self._sending = b""  # TLS wants the same bytes again after a write that would have blocked
        self._view = memoryview(bytearray(_IN))
        self._owed = 0  # answers that the broker owes
        self._heard = self._asked = time.ticks_ms()
        self._next()

    def work(self):
        """Send and receive what can be now. True when there may be more; a message goes to the callback.

        OSError or MqttError: the connection is of no use any more.
        """
        self.flush()
        now = time.ticks_ms()
        if not self._arrived():
            if self._owed and time.ticks_diff(now, self._asked) > self._timeout_ms:
                raise MqttError("timeout", "the broker has not answered for %d s" % (self._timeout_ms // 1000))
            if not self._owed and time.ticks_diff(now, self._heard) > self._ping_ms:
                self._owe()
                self.ping()
            return False
        first = self._view[0]
        self._heard = now
        if first & 0xF0 == 0x30:
            self.retained = first & 1
            if not first & 6:  # nothing was asked for with more than QoS 0
                self.wait_msg()
        else:
            self._answered(first, now)
        self._next()
        return True

    def reconnect(self):
        raise OSError(errno.ENOTCONN)

    def subscribe(self, topic):
        """Ask for a topic with QoS 0; the broker's answer comes later."""
        self._owe()
        self.write(bytes((0x82, 5 + len(topic), self.pid >> 8, self.pid & 0xFF)))
        self._send_str(topic)
        self.write(b"\0")

    def publish_surely(self, topic, data):
        """Publish with QoS 1; `acked` is True again when the broker has it."""
        self._owe()
        self.acked = False
        size = 4 + len(topic) + len(data)
        self.write(bytes((0x32, size) if size < 128 else (0x32, size & 0x7F | 0x80, size >> 7)))
        self._send_str(topic)
        self.write(bytes((self.pid >> 8, self.pid & 0xFF)))
        self.write(data)

    def idle(self):
        """True when all has been sent."""
        return not self._out and not self._sending

    def flush(self):
        """Send what can be sent now."""
        if not self._sending:
            self._sending, self._out = self._out, bytearray()
        if self._sending:
            n = self._raw.write(self._sending)
            if n:
                self._sending = self._sending[n:]

    def farewell(self):
        """Leave in good order: without the last will."""
        try:
            self.write(b"\xe0\0")
            self.flush()
        except OSError as error:
            self.log(False, error)

    def close(self):
        self._raw.close()

    # -- what umqtt does to its socket

    def setblocking(self, _on):
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
        part = bytes(self._view[self._at : end])
        self._at = end
        return part

    # -- inside

    def _arrived(self):
        """True when a packet has arrived whole. One that is too long runs through the buffer, a bit at a time."""
        while self._have < self._need:
            at = self._have if self._need <= _IN else _HEAD
            n = self._raw.readinto(self._view[at : min(self._need, _IN, at + self._need - self._have)])
            if n is None:
                return False
            if not n:
                raise OSError(errno.ECONNRESET)
            self._have += n
            if not self._body and self._have == self._need:
                self._measure()
            if self._need > _IN:
                if self._have == self._need:
                    self.oversized = True
                    self._next()
                return False
        return True

    def _measure(self):
        """The packet's length follows its first byte: seven bits a byte, the last one below 128."""
        last = self._need - 1
        if self._view[last] & 0x80:
            if self._need == _HEAD:
                raise OSError(errno.EINVAL)
            self._need += 1
            return
        size = 0
        for i in range(last, 0, -1):
            size = size << 7 | self._view[i] & 0x7F
        self._body = True
        self._need += size

    def _next(self):
        self._have = self._at = 0
        self._need = 2
        self._body = False  # True once the packet's length is known

    def _owe(self):
        if not self._owed:
            self._asked = time.ticks_ms()
        self._owed += 1
        self.pid = self.pid % 65535 + 1

    def _answered(self, first, now):
        """SUBACK, PUBACK or PINGRESP; whatever else there is makes no sense here."""
        self._owed = max(self._owed - 1, 0)
        self._asked = now
        if first == 0x40:
            self.acked = True
        elif first == 0x90:
            if self._view[self._need - 1] & 0x80:
                raise MqttError("refused", "the broker does not let this board subscribe to its commands")
        elif first != 0xD0:
            raise MqttError("protocol", "the broker sends what it must not")
