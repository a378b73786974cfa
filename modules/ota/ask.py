"""Asking the server for the channel file."""

from .errors import OtaError, status_error
from .http import Http

MAX_BYTES = 4096  # of a channel file
_IDLE_MS = 15_000
_TOTAL_MS = 60_000


def ask(ota, force):
    """``(bytes, etag)`` of the channel file, ``(None, None)`` when there is none, None when it has not changed. Generator.

    The bytes may be a part of the job's buffer, and are to be used before anything else is.
    """
    known = ota.store.get("etag")
    etag = known[1] if known and known[0] == ota.channel and not force else None
    response = yield from http(ota).get(
        ota.url(ota.channel + ".json"), etag=etag, max_body=MAX_BYTES, idle_ms=_IDLE_MS, total_ms=_TOTAL_MS
    )
    try:
        if response.status == 304 and etag:
            return None
        if response.status in (404, 410) and _may_use_latest(ota):
            return (None, None)
        if response.status != 200:
            raise status_error(response, "the channel file")
        view = ota.view if (response.content_length or MAX_BYTES) < len(ota.view) else None
        return ((yield from read_body(response, MAX_BYTES, view)), response.etag)
    finally:
        ota.count(response)
        response.close()


def read_body(response, most, view=None):
    """A short body: the part of `view` that it takes. Generator; OtaError ``too_large`` beyond `most` bytes."""
    if view is None:
        expected = response.content_length
        view = memoryview(bytearray(min(most, most if expected is None else expected) + 1))
    length = 0
    while length < len(view):
        n = yield from response.read_into(view[length:])
        if not n:
            return view[:length]
        length += n
    raise OtaError("too_large", "the answer has more than %d bytes" % most)


def _may_use_latest(ota):
    return not ota.keys and not ota.store.get("bundled")


def http(ota):
    """The server that the profile names, with the profile's headers and certificate."""
    return Http(ota.cfg["url"], ota.cfg.get("headers"), ota.cfg.get("ca"), ota.drop)
