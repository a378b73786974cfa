"""The `latest` protocol of public-micropython-iot-platform: one unsigned line, and an archive without a list of its files.

    <url>/<shortName in lower case>/latest     ->  1.4.0;firmware.tar.gz;120;43210;<sha256>;

Fields from the third on may be missing: older servers give ``version;file;`` or ``version;file;kb;sha256``. The archive is an
unsigned tar.gz, see archive. Nothing proves where it comes from, so this serves only boards that have no pinned key (see check).

This goes through `requests`. It may block for its timeout at each of its own reads, up to the end of the headers; bodies are read
without blocking, bounded. It follows redirects by its own rules, token and all, so it gets none of the profile's headers.
"""

import errno
import hashlib
import os
import time

import ota_boot

from . import files, versions
from .errors import OtaError, status_error

_MAX_LATEST = 256
_TIMEOUT_S = 5  # less than the watchdog's 8
_IDLE_MS = 15_000
_TOTAL_MS = 900_000
_SPARE = 4 * 4096


def parse_latest(text):
    """``(version, file, size_kb, size, sha256)`` of a `latest` line, None for what it does not say; OtaError ``bad_channel``."""
    from . import release  # not at the top: the unpacking, which follows, needs the memory

    fields = text.strip().split(";")
    if fields[-1] == "":
        fields.pop()
    if not 2 <= len(fields) <= 5 or "\n" in text.strip():
        raise _bad_line("it has not two to five fields")
    version, file = fields[:2]
    if not versions.valid(version):
        raise _bad_line("its version is none")
    if not release.name_ok(file):
        raise _bad_line("its file name is not a plain one")
    if len(fields) == 4 and len(fields[3]) == 64:
        fields.insert(3, "")
    size_kb, size, sha256 = fields[2:] + [""] * (5 - len(fields))
    sha256 = sha256.lower()
    if sha256 and not release.is_digest(sha256):
        raise _bad_line("its digest is none")
    return version, file, _number(size_kb), _number(size), sha256 or None


def latest(ota):
    """Ask for the `latest` line. Generator; returns what parse_latest does."""
    from .ask import read_body

    response = Response(ota, ota.url("latest"))
    try:
        if response.status != 200:
            raise status_error(response, "latest")
        body = yield from read_body(response, _MAX_LATEST)
    finally:
        ota.count(response)
        response.close()
    try:
        return parse_latest(body.decode())
    except UnicodeError:
        raise _bad_line("it is not text")


def download(ota, offer):
    """Bring the archive to ``ota.archive`` and check it as far as that is possible. Generator; a failure leaves nothing.

    It is never resumed: the protocol may not even say which file it is.
    """
    part = {"legacy": True, "version": offer.version, "size": offer.size, "sha256": offer.sha256}
    ota.discard()
    ota.store.set("part", part)
    try:
        yield from _receive(ota, offer)
        ota.forget()
        ota.log("verifying")
        yield from _scan(ota, part)
        part["done"] = True
    finally:
        _clear()
        if not part.get("done"):
            ota.discard()
    ota.store.save()


def unpack(ota, part, target):
    """Stage what download() has brought. Generator.

    :param target: stage.Stage.
    """
    try:
        header, places = yield from _scan(ota, part)
        ota.forget()
        with _open(ota) as stream:
            from . import archive

            yield from archive.unpack(ota, stream, _notes(), header, places, target)
    finally:
        _clear()


def _scan(ota, part):
    """Check the whole archive and make a list of it. Generator; returns the list's header and each member's place in it."""
    with _open(ota) as stream:
        from . import archive

        found = yield from archive.read(ota, stream, _notes(), part["version"])
    return (yield from archive.write_list(_notes(), ota.name_on_server, part["version"], *found))


def _open(ota):
    """The window (32 KB, if the gzip header does not say less) comes first, while there still is a piece of memory that large."""
    from . import inflate

    ota.room.give_all()
    return inflate.Gzip(ota.archive, ota.room)


def _notes():
    return ota_boot.ota("members")


def _clear():
    if ota_boot.exists(_notes()):
        os.remove(_notes())


class Response:
    """An answer that `requests` has got, with the interface of http.Response as far as it is used here."""

    def __init__(self, ota, url):
        from . import packages

        requests = packages.ensure("requests", ota.cfg, ota.log)
        self.wire_in = self.wire_out = 0  # bodies only: requests does not count
        self.retry_after = None
        self._began = time.ticks_ms()
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
            if time.ticks_diff(now, since) > _IDLE_MS or time.ticks_diff(now, self._began) > _TOTAL_MS:
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
    try:
        return requests.get(url, timeout=_TIMEOUT_S)
    except OSError as error:
        raise OtaError("timeout" if error.errno == errno.ETIMEDOUT else "connect", "no answer from the server: %s" % error)
    except NotImplementedError as error:  # is a RuntimeError on both interpreters
        raise OtaError("redirect", "a redirect that cannot be followed: %s" % error)
    except RuntimeError:  # requests follows redirects by calling itself
        raise OtaError("redirect", "too many redirects")
    except (ValueError, TypeError, IndexError) as error:
        raise OtaError("bad_response", "the server's answer is not understood: %s" % error)


def _receive(ota, offer):
    """The body to flash, hashed, within the announced size or else what fits on the disk. Generator."""
    from . import fetch

    yield from fetch.check_space(ota, offer, 0)
    response = Response(ota, ota.url(offer.file))
    try:
        if response.status != 200:
            raise status_error(response, offer.file)
        size, sha256 = yield from _write(ota, response, offer.size or response.content_length or 0)
        if size < (offer.size or response.content_length or 1):
            raise OtaError("connection_lost", "the server sent only %d bytes" % size)
        if offer.sha256 and sha256 != offer.sha256:
            raise OtaError("bad_digest", "the download is not the file that was announced")
    finally:
        ota.count(response)
        response.close()


def _write(ota, response, total):
    most = total or files.free_bytes() - _SPARE
    running = hashlib.sha256()
    held = 0
    ota_boot.make_parents(ota.archive)
    with open(ota.archive, "wb") as f:
        while True:
            n = yield from response.read_into(ota.view)
            if not n:
                return held, files.hexdigest(running)
            held += n
            if held > most:
                raise OtaError("too_large", "the server sends more than %d bytes" % most)
            part = ota.view if n == len(ota.view) else ota.view[:n]
            f.write(part)
            running.update(part)
            ota.progress(held, total)


def _number(text):
    """A field's whole number, None when it is empty; OtaError when it is something else."""
    if not text:
        return None
    if len(text) > 9 or not all("0" <= c <= "9" for c in text):
        raise _bad_line("a size is not a number")
    return int(text)


def _bad_line(what):
    return OtaError("bad_channel", "the server's `latest` is not right: " + what)
