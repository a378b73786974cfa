"""An archive straight from the network, for a board without room for it on flash: what the decompressor reads is waited for.

A decompressor cannot go on after a read that would have blocked. So here, and only here, a step of the update waits: at most
_IDLE_MS for the next bytes. The watchdog is fed meanwhile. The socket is read without the code of HTTP, whose memory is needed.
"""

import errno
import hashlib
import io
import time

from .errors import OtaError

_IDLE_MS = 5_000
_CHUNK = 512
_PEEK = 17  # bytes that may be read twice: see inflate


class Source(io.IOBase):
    """The body of an answer as a file: ``read(n)``, ``readinto(buffer)``, and ``seek(0)`` as long as nothing else was read.

    :param body: what http.Response.detach() returns.
    :param total_ms: how long all of it may take.
    """

    def __init__(self, ota, offer, body, total_ms):
        self._ota = ota
        self._offer = offer
        self._sock, held, self.wire_in, self.wire_out = body
        self._received = len(held)
        self._digest = hashlib.sha256(held)
        self._began = time.ticks_ms()
        self._total_ms = total_ms
        self._next = memoryview(bytearray(_CHUNK))
        while len(held) < _PEEK:
            n = self._receive()
            if not n:
                break
            held += bytes(self._next[:n])
        self._buffer = memoryview(held)
        self._start, self._end = 0, len(held)

    def read(self, n):
        data = bytearray(n)
        return bytes(data[: self.readinto(memoryview(data))])

    def readinto(self, buffer):
        if self._start == self._end:
            self._fill()
        n = min(len(buffer), self._end - self._start)
        buffer[:n] = self._buffer[self._start : self._start + n]
        self._start += n
        return n

    def seek(self, offset):
        if offset or self._buffer is self._next:
            raise OSError(errno.EINVAL, "only back to the beginning")
        self._start = 0

    def finish(self):
        """Read to the end: it must have been exactly what was announced."""
        while self._fill():
            pass
        if "".join("%02x" % byte for byte in self._digest.digest()) != self._offer.sha256:
            raise OtaError("bad_digest", "the download is not the file that was announced")

    def close(self):
        if self._sock:
            self._ota.count(self)
            self._sock.close()
            self._sock = None

    def _fill(self):
        self._buffer = self._next
        self._start, self._end = 0, self._receive()
        self._ota.progress(self._received, self._offer.size)
        return self._end

    def _receive(self):
        """The next bytes into the buffer, waiting for them; 0 at the end of the archive."""
        left = self._offer.size - self._received
        if not left:
            return 0
        view = self._next if left >= _CHUNK else self._next[:left]
        since = time.ticks_ms()
        n = self._try(view)
        while n is None:
            now = time.ticks_ms()
            if time.ticks_diff(now, since) > _IDLE_MS or time.ticks_diff(now, self._began) > self._total_ms:
                raise OtaError("timeout", "the server is too slow")
            self._ota.platform.board.feed()
            time.sleep_ms(1)
            n = self._try(view)
        if not n:
            raise OtaError("connection_lost", "the server sent %d of %d bytes" % (self._received, self._offer.size))
        self._digest.update(view[:n])
        self._received += n
        self.wire_in += n
        return n

    def _try(self, view):
        """The number of bytes, None when there are none yet."""
        try:
            return self._sock.readinto(view)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return None
            raise OtaError("connection_lost", "the connection was lost: %s" % error)
