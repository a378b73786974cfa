"""The archive of the `latest` protocol of public-micropython-iot-platform: a tar.gz without a list of its files, and unsigned.

Nothing proves where it comes from, so this serves only boards that have no pinned key (see check). See archive for what it may
hold, latest for the line that announces it.
"""

import hashlib
import os

import ota_boot

from . import files
from .errors import OtaError, status_error

_SPARE = 4 * 4096


def download(ota, offer):
    """Bring the archive to ``ota.archive`` and check it as far as that is possible. Generator; a failure leaves nothing.

    It is never resumed: the protocol may not even say which file it is.
    """
    part = {"legacy": True, "version": offer.version, "size": offer.size, "sha256": offer.sha256}
    ota.discard()
    ota.frugal = True  # others' gzip may need a window of 32 KB, in one piece
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
    ota.frugal = True
    ota.forget()
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


def _receive(ota, offer):
    """The body to flash, hashed, within the announced size or else what fits on the disk. Generator."""
    from . import fetch, through_requests

    yield from fetch.check_space(ota, offer, 0)
    response = through_requests.Response(ota, ota.url(offer.file))
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
