"""What the `latest` protocol asks: its line, and its archive, by HTTP through `requests`, bounded.

By itself `requests` waits for each byte anew, after a redirect without any timeout, and keeps every header that is sent. So while
it asks, it gets our own connection for its socket: looking up names, connecting, all redirects and the head of the answer have
one deadline together, and each head a bound; relative redirects, which it cannot follow, are made whole. Still it waits within
its calls, and what TLS computes comes on top. Below TLS only what is encrypted can be counted: there the bound has room for the
certificates. It follows redirects by its own rules, token and all, so it gets none of the profile's headers.
"""

import binascii
import hashlib
import io
import socket

import ota_boot
from iot_platform.module import name_ok
from iot_platform.sockets import ticks_ms
from micropython import const

from ..errors import OtaError
from ..install import files
from ..release.fields import is_digest, is_version
from ..transport import urls
from ..transport.connection import LINE, Connection
from ..transport.http import Response
from ..transport.urls import bad
from . import packages

_IDLE_MS = const(15_000)
_TOTAL_MS = const(900_000)
_LATEST_MS = const(60_000)
_MAX_LATEST = const(256)
_SPARE = const(4 * 4096)  # bytes of the disk that stay free
_ANSWER_MS = const(5_000)  # less than the watchdog's 8 s
_MAX_REDIRECTS = const(5)
_HEAD = const(5 * 1024)  # bytes, with what of the body has come along
_TLS_HEAD = const(16 * 1024)
_CLOSE = const(4)  # what a stream's ioctl() is told then


def ask(ota):
    """The fields of the server's `latest`, see parse_latest. Generator."""
    ota.warn("no channel file and no pinned key: using the unsigned `latest` protocol")
    response = _get(ota, "latest", _MAX_LATEST, _LATEST_MS)
    try:
        line = yield from response.read_all(_MAX_LATEST)
    finally:
        response.close()
    try:
        return parse_latest(line.decode())
    except UnicodeError:
        raise _bad_line("it is not text")


def parse_latest(text):
    """``(version, file, size_kb, size, sha256)`` of a `latest` line, None for what it does not say; OtaError ``bad_channel``."""
    fields = text.strip().split(";")
    if fields[-1] == "":
        fields.pop()
    if not 2 <= len(fields) <= 5 or "\n" in text.strip():
        raise _bad_line("it has not two to five fields")
    version, file = fields[:2]
    if not is_version(version):
        raise _bad_line("its version is none")
    if not name_ok(file):
        raise _bad_line("its file name is not a plain one")
    if len(fields) == 4 and len(fields[3]) == 64:
        fields.insert(3, "")
    size_kb, size, sha256 = fields[2:] + [""] * (5 - len(fields))
    sha256 = sha256.lower()
    if sha256 and not is_digest(sha256):
        raise _bad_line("its digest is none")
    return version, file, _number(size_kb), _number(size), sha256 or None


def _number(text):
    """A field's whole number, None when it is empty; OtaError when it is something else."""
    if not text:
        return None
    if len(text) > 9 or not all("0" <= c <= "9" for c in text):
        raise _bad_line("a size is not a number")
    return int(text)


def _bad_line(what):
    return OtaError("bad_channel", "the server's `latest` is not right: " + what)


def receive(ota, offer):
    """An archive to ``ota.archive``, hashed, within the announced size or else what fits on the disk. Generator.

    It is never resumed: the protocol may not even say which file it is.
    """
    announced = offer["size"] or 0
    free, block = files.space()
    yield from files.make_room(ota, files.blocks(announced, block) * block + 2 * _SPARE, "the download", free)
    response = _get(ota, offer["file"], announced or files.space()[0] - _SPARE, _TOTAL_MS)
    try:
        size, digest = yield from _write(ota, response, announced or response.content_length)
    finally:
        response.close()
    if size < (announced or 1):
        raise OtaError("connection_lost", "the server sent only %d bytes" % size)
    if offer["sha256"] and binascii.hexlify(digest.digest()).decode() != offer["sha256"]:
        raise OtaError("bad_digest", "the download is not the file that was announced")


def _write(ota, response, total):
    digest = hashlib.sha256()
    held = 0
    ota_boot.make_parents(ota.archive)
    with open(ota.archive, "wb") as f:
        while n := (yield from response.read_into(ota.view)):
            part = ota.view if n == len(ota.view) else ota.view[:n]
            f.write(part)
            digest.update(part)
            held += n
            if total:
                ota.progress(held, total)
    return held, digest


def _get(ota, file, most, total_ms):
    """The answer that `requests` has got, if it is a 200, as a transport.http.Response. Blocks until its body begins."""
    requests = packages.ensure("requests", ota.cfg, ota.log)
    name = "socket" if hasattr(requests, "socket") else "usocket"  # what it is called up to 1.23
    before, stream = getattr(requests, name), _Stream(ota.cfg, ota.url(file))
    setattr(requests, name, stream)
    try:
        found = _answer(requests, stream.url)
        response = Response(_Body(ota, stream, found.raw, total_ms), max_body=most)
        response.status = found.status_code
        for key, value in (getattr(found, "headers", None) or {}).items():
            if key.lower() == "content-length" and value.isdigit() and len(value) < 10:
                response.content_length = response.left = int(value)
        if response.status != 200:
            raise response.error(file)
        stream = None
        return response
    finally:
        setattr(requests, name, before)
        if stream:
            stream.close()


def _answer(requests, url):
    try:
        return requests.get(url)
    except NotImplementedError as error:  # is a RuntimeError on both interpreters
        raise OtaError("redirect", "a redirect that cannot be followed: %s" % error)
    except RuntimeError:  # requests follows redirects by calling itself
        raise OtaError("redirect", "too many redirects")
    except OSError as error:
        raise OtaError("connect", "no answer from the server: %s" % error)
    except (ValueError, TypeError, IndexError) as error:
        raise bad(str(error))


class _Body:
    """What a Response takes for its connection: what `requests` has left of the answer."""

    def __init__(self, ota, stream, raw, total_ms):
        self._spent = ota.spent
        self._raw = raw  # the stream, or TLS above it
        self._stream = stream
        stream.connection.limit(_IDLE_MS, total_ms)
        stream.most = None

    def take(self, view):
        return self._stream.connection.wait(self._raw.readinto, view)

    def close(self):
        self._raw.close()
        self._spent(self._stream.connection.wire_in + self._stream.connection.wire_out)


class _Stream(io.IOBase):
    """What `requests` uses of the module `socket`, and at the same time its socket: it has never two.

    `most` is the number of bytes that may have arrived, with this head; None when the body has begun: then nothing waits.
    """

    SOCK_STREAM = socket.SOCK_STREAM

    def __init__(self, cfg, url):
        self.url = url  # where it is at present
        self.connection = Connection()
        self.connection.limit(_ANSWER_MS, _ANSWER_MS)
        self._cfg = cfg
        self._hops = 0

    def getaddrinfo(self, host, port, *_):
        return ((0, 0, 0, "", ("http", host, port)),)

    def socket(self, *_):
        if self._hops > _MAX_REDIRECTS:
            raise OtaError("redirect", "more than %d redirects" % _MAX_REDIRECTS)
        self._hops += 1
        self.most = self.connection.wire_in + _TLS_HEAD
        return self

    def connect(self, origin):
        urls.check_host(origin[1], urls.split(self._cfg["url"])[1], self._cfg.get("redirect_hosts", ()))
        packages.run(self._open(origin))

    def _open(self, origin):
        for wait in self.connection.open(origin, None):
            self.connection.check(ticks_ms())  # a name's time counts too
            yield wait

    def write(self, data):
        packages.run(self.connection.send(data))
        return len(data)

    def readinto(self, buffer):
        n = packages.run(self.connection.take(memoryview(buffer)), self.most is not None)
        self._count()
        return n

    def readline(self):
        self.most = min(self.most, self.connection.wire_in + _HEAD)
        line = packages.run(self.connection.line(LINE))
        self._count()
        if line[:9].lower() == b"location:":
            self.url = urls.join(self.url, urls.short_text(line[9:].strip(), LINE) or "")
            line = b"Location: " + self.url.encode()
        return line + b"\r\n"

    def ioctl(self, request, _argument):
        if request == _CLOSE:
            self.close()
        return 0

    def close(self):
        self.connection.close()

    def _count(self):
        if self.most is not None and self.connection.wire_in > self.most:
            raise OtaError("bad_response", "the head of the server's answer is too long")
