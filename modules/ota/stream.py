"""An archive straight from the network, for a board without room for it on flash.

A decompressor cannot go on after a read that would have blocked. So before each step the buffer is filled, without blocking, with
more than the step can need of an honest archive: see direct.run. What one that was made for it still waits for within a step is
bounded. The socket is read without the code of HTTP, whose memory is needed.
"""

import errno
import hashlib
import io
import time

from .errors import OtaError

_IDLE_MS = 20_000
_STEP_MS = 3_000  # that one step may take which asks for more than the buffer: less than the watchdog's 8 s
_SOON = 2  # sockets.SOON, without the code of sockets
_ROOM = 1024  # bytes of the buffer: twice what a step takes out of the decompressor; at least connection.LINE


class Source(io.IOBase):
    """The body of an answer as a file: ``read(n)``, ``readinto(buffer)``, and ``seek(0)`` as long as it is in the buffer.

    :param body: what http.Response.detach() returns.
    :param total_ms: how long all of it may take.
    """

    def __init__(self, ota, offer, body, total_ms):
        self._ota = ota
        self._offer = offer
        self._sock, held, self.wire_in, self.wire_out = body
        held = held[: offer.size]
        self._digest = hashlib.sha256(held)
        self._ring = memoryview(bytearray(_ROOM))  # byte n of the archive lies at n % _ROOM
        self._ring[: len(held)] = held
        self._received, self._taken = len(held), 0
        self._total_ms = total_ms
        self._began = self._heard = self._step = time.ticks_ms()

    def fill(self):
        """Wait until the buffer is full, or has the archive's end: then a step may begin. Generator."""
        self._heard = time.ticks_ms()
        while self._sock and self._received < min(self._taken + _ROOM, self._offer.size):
            if not self._receive():
                yield _SOON
        self._step = time.ticks_ms()

    def read(self, n):
        data = bytearray(n)
        return bytes(data[: self.readinto(data)])

    def readinto(self, buffer):
        if self._taken == self._received:
            self._wait()
        at = self._taken % _ROOM
        n = min(len(buffer), self._received - self._taken, _ROOM - at)
        buffer[:n] = self._ring[at : at + n]
        self._taken += n
        return n

    def seek(self, offset):
        if offset or self._received > _ROOM:
            raise OSError(errno.EINVAL, "only back to the beginning")
        self._taken = 0

    def finish(self):
        """Read to the end: it must have been exactly what was announced. Generator."""
        while self._received < self._offer.size:
            self._taken = self._received
            yield from self.fill()
            yield
        if "".join("%02x" % byte for byte in self._digest.digest()) != self._offer.sha256:
            raise OtaError("bad_digest", "the download is not the file that was announced")

    def close(self):
        if self._sock:
            self._ota.count(self)
            self._sock.close()
            self._sock = self._ring = None

    def _wait(self):
        """More bytes within a step; none at the end of the archive."""
        while self._received < self._offer.size:
            if time.ticks_diff(time.ticks_ms(), self._step) > _STEP_MS:
                raise OtaError("timeout", "the server is too slow for what it sends")
            self._ota.platform.board.feed()
            if self._receive():
                return
            time.sleep_ms(1)

    def _receive(self):
        """Read what there is and has room; False when nothing has arrived yet."""
        at = self._received % _ROOM
        end = min(_ROOM, at + self._offer.size - self._received, at + _ROOM - self._received + self._taken)
        view = self._ring[at:end]
        n = self._try(view)
        now = time.ticks_ms()
        if n is None:
            if time.ticks_diff(now, self._heard) > _IDLE_MS or time.ticks_diff(now, self._began) > self._total_ms:
                raise OtaError("timeout", "the server is too slow")
            return False
        if not n:
            raise OtaError("connection_lost", "the server sent %d of %d bytes" % (self._received, self._offer.size))
        self._heard = now
        self._digest.update(view[:n])
        self._received += n
        self.wire_in += n
        self._ota.progress(self._received, self._offer.size)
        return True

    def _try(self, view):
        """The number of bytes, None when there are none yet."""
        try:
            return self._sock.readinto(view)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return None
            raise OtaError("connection_lost", "the connection was lost: %s" % error)
