"""A bundle from the browser: through one buffer into ``ota.archive``, then verified and installed like any other.

Nothing of the upload is believed here: the updater reads the file and refuses what it would refuse from a server. An upload and
a job of the updater exclude each other. One that fails leaves no file.
"""

import os

from .refused import Refused
from .updates import ota_of, started

_MOST = 16 * 1024 * 1024
_SPARE = 24 * 1024  # bytes of the disk that stay free
_SLOWEST = 1024  # bytes a second
_FIRST_S = 60


async def upload(server, request):
    connection, size = request.sock[0], request.content_length
    ota = ota_of(server)
    force = connection.query == "force=1"
    if not 0 < size <= _MOST:
        raise Refused(413, "too_large", "a bundle has at most %d bytes, and at least one" % _MOST)
    claim = ota.begin_upload()
    if not claim:
        raise Refused(409, "busy", "another job of the updater is running")
    done = False
    try:
        claim.discard()
        if size + _SPARE > server.web.platform.board.disk_free():
            raise Refused(507, "no_space", "the disk has too little room for %d bytes" % size)
        server.web.platform.log("web: an upload of %d bytes from" % size, connection.address)
        connection.limit((_FIRST_S + size // _SLOWEST) * 1000)
        await _receive(ota, claim, connection, request)
        done = True
    except EOFError:
        raise Refused(400, "incomplete", "the upload stopped %d bytes before its end" % connection.left)
    except OSError as error:
        if error.errno == 28:  # ENOSPC
            raise Refused(507, "no_space", "the disk is full")
        raise Refused(400, "incomplete", "the upload failed: %s" % error)
    finally:
        ota.end_upload(claim)
        if not done:
            claim.discard()
    return started(ota.request_install(force))


async def _receive(ota, claim, connection, request):
    with open(ota.archive, "wb") as f:
        if request.body:  # a short one has been read already
            f.write(request.body)
        view = claim.view
        while connection.left > 0:
            n = await connection.readinto(view)
            if not ota.uploading(claim):
                raise Refused(409, "cancelled", "the upload was cancelled")
            f.write(view if n == len(view) else view[:n])
    if os.stat(ota.archive)[6] != request.content_length:
        raise Refused(400, "incomplete", "the file does not have the announced size")


HANDLERS = {"POST /api/ota/upload": upload}
