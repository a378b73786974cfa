"""A small HTTP/1.1 reader that a hostile, slow or broken server can neither block nor fill up.

    response = yield from Http("http://host/", headers={"Authorization": "..."}).get("board/stable.json", max_body=4096)
    n = yield from response.read_into(view)        # 0 at the end of the body
    response.close()

Everything is a generator that yields instead of waiting, and once per read: the caller's loop goes on. Only the name lookup
blocks, as long as the firmware's resolver does. An answer is either right or an OtaError:

1. Status line and headers have at most 4096 bytes, a line 1024 and a body `max_body`; one buffer is used for all of them.
2. Every wait has an idle deadline, the whole of it (connect, redirects, headers, body) a total one.
3. A length must be plain digits and stand there once; chunks are counted; a body that ends early is ``connection_lost``.
4. At most 5 redirects, none from https to http. `headers` go to the origin of the base URL, and never after a redirect.
5. A 206 must begin exactly where it was asked to; a 200 to such a request is the whole file again.

With `ca` (a file, PEM or DER) the server's certificate must be signed by it, for which the board must know the time. Without,
TLS hides what is sent but proves nothing: that an update is genuine is shown by its signature, not by its server.

A request goes through request, dial, answer and response, one after the other: a board has only one of them in memory.
"""

from .connection import LINE, Connection
from .errors import OtaError

_MAX_REDIRECTS = 5


class Http:
    """Requests to one server. One answer is read at a time: they share a buffer.

    :param base_url: its scheme, host and port are the origin that `headers` belong to; relative URLs are joined to it.
    :param headers: dict of more request headers, such as an access token.
    :param ca: path of a certificate, or None.
    :param drop: called with the names of the parts that have done their work, to give back their memory.
    """

    def __init__(self, base_url, headers=None, ca=None, drop=None):
        self._base = base_url
        self._origin, self._private = _request().origin(base_url, headers)
        self._ca = ca
        self._drop = drop or _keep
        self._buffer = bytearray(LINE)

    def get(self, url, etag=None, offset=0, if_range=None, max_body=65536, idle_ms=15_000, total_ms=60_000):
        """Ask for `url`. Generator; returns a Response of whatever status is not a redirect.

        :param etag: for ``If-None-Match``: the answer may be a 304.
        :param offset: ask for the rest from this byte on, if the file still has the strong etag `if_range`.
        :param max_body: bytes of the body of a 200 or 206 beyond which it is ``too_large``.
        """
        extra = _request().conditions(etag, offset, if_range)
        url, origin = _request().absolute(self._base, url)
        private = self._private if origin == self._origin else ""
        connection = Connection(self._buffer, idle_ms, total_ms)
        for _hop in range(_MAX_REDIRECTS + 1):
            response = yield from self._ask(connection, url, private + extra, offset, max_body)
            if response.location is None:
                return response
            url, origin = _request().follow(url, response.location, origin[0])
            private = ""
        raise OtaError("redirect", "more than %d redirects" % _MAX_REDIRECTS)

    def _ask(self, connection, url, extra, offset, max_body):
        """One request and the head of its answer. Generator."""
        scheme, host, port, text = _request().message(url, extra)
        self._drop("request", "urls")
        response = None
        try:
            yield from connection.open(scheme, host, port, self._ca)
            self._drop("dial")
            yield from connection.send(text)
            head = _response(connection, max_body)
            yield from _read_head(head, offset)
            self._drop("answer")
            if head.location is None:
                response = head
            return head
        finally:
            if response is None:  # a failure, a redirect, or a caller that gave up
                connection.close()


def _request():
    from . import request

    return request


def _response(connection, max_body):
    from .response import Response

    return Response(connection, max_body)


def _read_head(response, offset):
    from .answer import read_head

    return read_head(response, offset)


def _keep(*_names):
    """Where memory is no question."""
