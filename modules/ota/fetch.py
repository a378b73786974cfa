"""Downloading an archive to flash: bounded, checked, and resumed where it was interrupted.

What the download file holds is noted in the store as ``part`` = {"sha256", "size", "etag", "done"}: a download goes on
with a Range request only if it is still the same file, and its digest is checked over the whole file at the end.
"""

import hashlib

import ota_boot

from . import files
from .errors import OtaError, status_error

_IDLE_MS = 20_000
_TOTAL_MS = 120_000  # and two seconds more for each KiB: a link that gives less than 512 bytes a second is given up
_SYNC = 32 * 1024  # bytes after which what has arrived is made to survive a power cut
_SPARE = 8  # blocks for the state and for the folders of the stage


def check_space(ota, offer, held):
    """OtaError ``no_space`` before the first byte is written, if archive and metadata do not fit. Generator.

    What the stage takes depends on which files differ: nobody knows before the list has been read, so that comes later (see
    stage). It is said now if a stage of everything, the most that can be needed, would not fit.
    """
    block = files.block_size()
    least = (files.blocks(offer.size or 0) + _SPARE) * block
    free = files.free_bytes() + held
    if free < least:
        yield from ota.give_up_previous()
        free = files.free_bytes() + held
    if free < least:
        raise OtaError("no_space", "the download needs %d bytes, %d are free" % (least, free))
    if free < least + (offer.unpacked or 0) * 5 // 4:
        ota.log("short of space: this fits only if not every file has changed")


def download(ota, offer, path, view):
    """Bring the offered archive to the file `path`. Generator.

    OtaError of kind transport leaves what has arrived for the next try; every other one leaves nothing.
    """
    part = ota.store.get("part") or {}
    if part.get("sha256") != offer.sha256 or part.get("size") != offer.size:
        ota.discard()
        part = {"sha256": offer.sha256, "size": offer.size}
    held = files.file_size(path) or 0
    if held > offer.size:
        ota.discard()
        held = 0
    yield from check_space(ota, offer, held)
    ota.store.set("part", part)
    try:
        yield from _transfer(ota, offer, path, view, held)
    except OtaError as error:
        if error.kind != "transport":
            ota.discard()
        raise
    except OSError:  # a full disk
        ota.discard()
        raise
    ota.store.set("part", dict(part, done=True))


def _transfer(ota, offer, path, view, held):
    running = hashlib.sha256()
    resumed = held
    if held:
        with open(path, "rb") as f:
            running = yield from files.hashed(f, view)
    if held < offer.size:
        held, running = yield from _receive(ota, offer, path, view, held, running)
    if held != offer.size:
        raise OtaError("connection_lost", "the server sent %d of %d bytes" % (held, offer.size))
    if files.hexdigest(running) != offer.sha256:
        if resumed:  # perhaps only the two parts do not belong together
            ota.discard()
            raise OtaError("bad_response", "the rest does not fit to what had arrived before: starting anew")
        raise OtaError("bad_digest", "the download is not the file that was announced")


def _receive(ota, offer, path, view, held, running):
    """Append what the server sends; returns the file's length and digest. Generator."""
    from .ask import http  # not at the top: imports that are nested too deeply take more stack than a board has

    part = ota.store.get("part")
    response = yield from http(ota).get(
        ota.url(offer.file),
        offset=held,
        if_range=part.get("etag"),
        max_body=offer.size,
        idle_ms=_IDLE_MS,
        total_ms=_TOTAL_MS + 2 * offer.size,
    )
    try:
        if response.status == 416 or (response.status == 206 and response.content_range[2] not in (None, offer.size)):
            ota.discard()
            raise OtaError("bad_response", "the server has another file under this name now")
        if response.status not in (200, 206):
            raise status_error(response, offer.file)
        if response.status == 200:
            held, running = 0, hashlib.sha256()  # the whole file again
        elif held:
            ota.log("resuming the download at", held, "of", offer.size)
        part["etag"] = response.etag
        held = yield from _write(ota, offer, response, path, view, held, running)
    finally:
        ota.count(response)
        response.close()
    return held, running


def _write(ota, offer, response, path, view, held, running):
    ota_boot.make_parents(path)
    synced = held
    with open(path, "ab" if held else "wb") as f:
        while True:
            n = yield from response.read_into(view)
            if not n:
                return held
            if held + n > offer.size:
                raise OtaError("too_large", "the server sends more than the announced %d bytes" % offer.size)
            part = view if n == len(view) else view[:n]
            f.write(part)
            running.update(part)
            held += n
            if held - synced >= _SYNC:
                f.flush()
                ota.store.save()  # only now is there something that a power cut leaves
                synced = held
            ota.progress(held, offer.size)
