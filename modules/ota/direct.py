"""Straight from the network into the stage, for a disk that has no room for the archive beside it.

The list comes first and its signature is checked, then each file goes into the stage, and counts when its digest is right.
Nothing of it is in force before all of it lies there and has been hashed once more: the commit is that of any update (journal).
A stage that the network left unfinished is used by the next try: what is right in it is not written again.
"""

import time

import ota_boot

from . import bundle, files
from .errors import OtaError, status_error

_IDLE_MS = 5_000
_TOTAL_MS = 120_000  # and two seconds more for each KiB


def stream(ota, offer, rules):
    """Fill the stage from the network. Generator."""
    from .obtain import verified
    from .reading import discard

    target = _stage(ota)
    try:
        if not (yield from _whole(ota, offer, rules, target)):
            _begin(ota, offer)
            header = yield from bundle.read(lambda: open_stream(ota, offer), rules, ota.view, target, ota.forget)
            verified(ota, header)
    except OtaError as error:
        if error.kind != "transport" and error.reason != "no_memory":
            yield from discard(ota)
        raise
    ota.store.set("part", {"staged": offer.sha256, "done": True})


def _begin(ota, offer):
    """Note what fills the stage: after a power cut it is not taken for a leftover then."""
    ota.discard()
    ota.store.set("part", {"staged": offer.sha256})
    ota.store.save()


def again(ota, rules, target):
    """Check a stage once more that stream() has filled. Generator; returns the header."""
    header = yield from bundle.again(rules, ota.view, target, ota.forget)
    if not target.whole():
        raise OtaError("no_update", "what was staged is not there any more")
    return header


def open_stream(ota, offer):
    """The decompressor of a new request. It waits for the server's answer."""
    total_ms = _TOTAL_MS + 2 * offer.size
    body = _ask(ota, offer, total_ms)
    ota.forget()
    from . import inflate
    from .stream import Source

    return inflate.Gzip(Source(ota, offer, body, total_ms), ota.room)


def _ask(ota, offer, total_ms):
    """The body of the answer: see http.Response.detach."""
    for name in ("connection", "http", "ask"):  # imports within imports take a board's stack
        __import__("modules.ota." + name)
    from .ask import http

    response = _wait(ota, http(ota).get(ota.url(offer.file), max_body=offer.size, idle_ms=_IDLE_MS, total_ms=total_ms))
    try:
        if response.status != 200:
            raise status_error(response, offer.file)
        if response.content_length != offer.size:
            raise OtaError("bad_response", "the server has another file under this name now")
        return response.detach()
    finally:
        response.close()


def _wait(ota, job):
    """Run it to its end, which its own deadlines bring."""
    while True:
        try:
            next(job)
        except StopIteration as stop:
            return stop.value
        ota.platform.board.feed()
        time.sleep_ms(1)


def _whole(ota, offer, rules, target):
    """True when an earlier try has staged all of it. Generator."""
    part = ota.store.get("part") or {}
    if part.get("staged") != offer.sha256 or not part.get("done") or files.file_size(ota_boot.ota("list")) is None:
        return False
    yield from bundle.again(rules, ota.view, target, ota.forget)
    return target.whole()


def _stage(ota):
    from .stage import Stage

    return Stage(ota.excluded, ota.view, ota.log, ota.give_up_previous, True)
