"""umqtt's robust client over a wire that never waits: a packet is read when it is there whole, and written when it can be.

Reconnecting is a state of the module, not a loop in here: what umqtt would wait for, or try again for ever, is an OSError.
"""

import errno
import time

from umqtt import robust, simple

_IN = 512  # bytes of the longest packet that is read; longer ones are thrown away
_OUT = 2048  # bytes that may wait to be sent
_ENDLESS = ("connect", "subscribe")  # of umqtt.simple: they wait for the broker, so they are replaced, and their memory is used

for _name in _ENDLESS:
    if hasattr(simple.MQTTClient, _name):
        delattr(simple.MQTTClient, _name)


class MqttError(Exception):
    """Why there is no connection.

    :param reason: one word: dns connect timeout tls connection_lost refused protocol.
    :param message: a sentence for a person.
    """

    def __init__(self, reason, message):
        super().__init__(message)
        self.reason = reason


class Wire:
    """What umqtt takes for its socket: writes go to a bounded queue, reads come out of one packet that is there already."""

    def __init__(self, sock):
        self._sock = sock
        self._view = memoryview(bytearray(_IN))
        self._out = bytearray()
        self._sending = b""  # TLS wants the same bytes again after a write that would have blocked
        self._skip = 0
        self.oversized = False  # True once a packet was too long
        self.next()

    @property
    def idle(self):
        """True when all has been sent."""
        return not self._out and not self._sending

    def setblocking(self, _on):
        """It never blocks."""

    def write(self, data, n=None):
        if len(self._out) + len(data) > _OUT:
            raise OSError(errno.ENOBUFS, "too much to send")
        self._out.extend(data if n is None else data[:n])

    def flush(self):
        """Send what can be sent now."""
        if not self._sending:
            if not self._out:
                return
            self._sending, self._out = self._out, bytearray()
        n = self._sock.write(self._sending)
        if n:
            self._sending = self._sending[n:]

    def read(self, n):
        """`n` bytes of the packet; OSError where it has no more."""
        end = self._at + n
        if n < 0 or end > self._need:
            raise OSError(errno.EINVAL, "a malformed packet")
        part = bytes(self._view[self._at : end])
        self._at = end
        return part

    def packet(self):
        """The first byte of the packet that has arrived whole, or None. next() makes room for the following one."""
        if self._skip:
            self._throw_away()
            return None
        while self._have < self._need:
            n = self._sock.readinto(self._view[self._have : self._need])
            if n is None:
                return None
            if not n:
                raise OSError(errno.ECONNRESET, "closed by the broker")
            self._have += n
            if self._have == self._need and not self._known:
                self._measure()
        return None if self._skip else self._view[0]

    def next(self):
        self._have = self._at = 0
        self._need = 2
        self._known = False

    def close(self):
        self._sock.close()

    def _measure(self):
        """The packet's length follows its first byte: seven bits a byte, the last one below 128."""
        last = self._need - 1
        if self._view[last] & 0x80:
            if last == 4:
                raise OSError(errno.EINVAL, "a malformed packet")
            self._need += 1
            return
        size = 0
        for i in range(last, 0, -1):
            size = size << 7 | self._view[i] & 0x7F
        self._known = True
        self._need += size
        if self._need > _IN:
            self._skip = size
            self._have = self._need = 0

    def _throw_away(self):
        n = self._sock.readinto(self._view[: min(self._skip, _IN)])
        if n is not None:
            if not n:
                raise OSError(errno.ECONNRESET, "closed by the broker")
            self._skip -= n
            if not self._skip:
                self.oversized = True
                self.next()


class Client(robust.MQTTClient):
    """One connection: as many of these as the board has connections, one after the other."""

    def open(self, sock):
        """Take over a connection on which the broker has said yes."""
        self.sock = Wire(sock)
        self.acked = True  # False while a message of QoS 1 is on its way
        self.owed = 0  # answers that the broker owes
        self.heard = self.asked = time.ticks_ms()

    def reconnect(self):
        """umqtt would try for ever here."""
        raise OSError(errno.ENOTCONN, "not connected")

    def subscribe(self, topic, qos=0):
        """Ask for a topic; the broker's answer comes later."""
        self._owe()
        self.sock.write(bytes((0x82, 5 + len(topic), self.pid >> 8, self.pid & 0xFF)))
        self._send_str(topic)
        self.sock.write(bytes((qos,)))

    def ping(self):
        self._owe()
        super().ping()

    def publish_surely(self, topic, data):
        """Publish with QoS 1; `acked` is True again when the broker has it."""
        self._owe()
        self.acked = False
        size = 4 + len(topic) + len(data)
        self.sock.write(bytes((0x32, size) if size < 128 else (0x32, size & 0x7F | 0x80, size >> 7)))
        self._send_str(topic)
        self.sock.write(bytes((self.pid >> 8, self.pid & 0xFF)))
        self.sock.write(data)

    def work(self, timeout_ms):
        """Send and receive what can be now. True when there may be more; what arrives goes to the callback.

        OSError or MqttError: the connection is of no use any more.
        """
        self.sock.flush()
        first = self.sock.packet()
        now = time.ticks_ms()
        if first is None:
            if self.owed and time.ticks_diff(now, self.asked) > timeout_ms:
                raise MqttError("timeout", "the broker has not answered for %d s" % (timeout_ms // 1000))
            if not self.owed and time.ticks_diff(now, self.heard) > self.keepalive * 500:
                self.ping()
            return False
        self.heard = now
        kind = first & 0xF0
        if kind == 0x30:
            self.retained = first & 1
            if not first & 6:  # nothing else was asked for
                self.wait_msg()
        else:
            self._answered(kind, now)
        self.sock.next()
        return True

    def _owe(self):
        if not self.owed:
            self.asked = time.ticks_ms()
        self.owed += 1
        self.pid = self.pid % 65535 + 1

    def _answered(self, kind, now):
        self.owed = max(self.owed - 1, 0)
        self.asked = now
        self.sock.read(1 + 1)
        if kind == 0x40:
            self.acked = True
        elif kind == 0x90:
            self.sock.read(2)
            if self.sock.read(1)[0] & 0x80:
                raise MqttError("refused", "the broker does not let this board subscribe to its commands")
        elif kind != 0xD0:
            raise MqttError("protocol", "the broker sends what it must not")
