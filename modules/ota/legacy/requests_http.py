"""HTTP through `requests`, for the `latest` protocol.

It waits within its calls up to the end of the headers, for five seconds in all: see bounded. Bodies are read without blocking. It
follows redirects by its own rules, token and all, so it gets none of the profile's headers.
"""

import errno
import time

from .errors import OtaError

_IDLE_MS = 15_000
_TOTAL_MS = 900_000
_LATE = (errno.ETIMEDOUT, errno.EINPROGRESS, errno.EAGAIN)  # the last two: what connecting says on some ports


class Response:
    """An answer that `requests` has got, with the interface of http.Response as far as it is used here.

    :param total_ms: how long all of it may take.
    """

    def __init__(self, ota, url, total_ms=_TOTAL_MS):
        from . import packages

        requests = packages.ensure("requests", ota.cfg, ota.log)
        self.wire_in = self.wire_out = 0  # bodies only: requests does not count
        self.retry_after = None
        self._began = time.ticks_ms()
        self._total_ms = total_ms
        self._response = _get(requests, url)
        self.status = self._response.status_code
        self._raw = self._response.raw
        if hasattr(self._raw, "setblocking"):
            self._raw.setblocking(False)

    @property
    def content_length(self):
        """The body's length if the server says so, else None."""
        for name, value in (getattr(self._response, "headers", None) or {}).items():
            if name.lower() == "content-length" and value.isdigit() and len(value) < 10:
                return int(value)
        return None

    def read_into(self, view):
        """The next bytes; their number, 0 at the end. Generator."""
        since = time.ticks_ms()
        while True:
            n = self._try(view)
            yield
            if n is not None:
                self.wire_in += n
                return n
            now = time.ticks_ms()
            if time.ticks_diff(now, since) > _IDLE_MS or time.ticks_diff(now, self._began) > self._total_ms:
                raise OtaError("timeout", "the server is too slow")

    def close(self):
        self._response.close()

    def _try(self, view):
        try:
            return self._raw.readinto(view)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return None
            raise OtaError("connection_lost", "the connection was lost: %s" % error)


def _get(requests, url):
    from .bounded import Sockets

    sockets, before, response = Sockets(), requests.socket, None
    requests.socket = sockets
    try:
        response = _answer(requests, url)
        return response
    finally:
        requests.socket = before
        if sockets.connection and not response:
            sockets.connection.close()


def _answer(requests, url):
    try:
        return requests.get(url)
    except OSError as error:
        raise OtaError("timeout" if error.errno in _LATE else "connect", "no answer from the server: %s" % error)
    except NotImplementedError as error:  # is a RuntimeError on both interpreters
        raise OtaError("redirect", "a redirect that cannot be followed: %s" % error)
    except RuntimeError:  # requests follows redirects by calling itself
        raise OtaError("redirect", "too many redirects")
    except (ValueError, TypeError, IndexError) as error:
        raise OtaError("bad_response", "the server's answer is not understood: %s" % error)
