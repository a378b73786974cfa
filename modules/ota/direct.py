"""Straight from the network into the stage, for a disk that has no room for the archive beside it.

The list comes first and its signature is checked, then each file goes into the stage, and counts when its digest is right.
Nothing of it is in force before all of it lies there and has been hashed once more: the commit is that of any update (journal).
A stage that the network left unfinished is used by the next try: what is right in it is not written again.
"""

import ota_boot

from . import bundle, files
from .errors import OtaError, status_error

_IDLE_MS = 20_000
_TOTAL_MS = 120_000  # and two seconds more for each KiB
_PIECE = 512  # bytes that a step takes out of the decompressor: see stream


def stream(ota, offer, rules):
    """Fill the stage from the network. Generator."""
    from .obtain import verified
    from .reading import discard

    target = _stage(ota)
    try:
        if not (yield from _whole(ota, offer, rules, target)):
            _begin(ota, offer)
            header = yield from run(ota, offer, lambda start, view: bundle.read(start, rules, view, target, ota.forget))
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


def run(ota, offer, read):
    """Run a generator of `bundle` on the archive as it arrives: all waiting for the network is between its steps. Generator.

    :param read: makes that generator, of what opens the archive (another request, each time) and a buffer.
    """
    source = None

    def start():
        nonlocal source
        source = yield from _source(ota, offer)
        yield  # it is filled
        from . import inflate

        return inflate.Gzip(source, ota.room)

    job = read(start, ota.view[:_PIECE])
    try:
        while True:
            if source:
                yield from source.fill()
            yield next(job)
    except StopIteration as stop:
        return stop.value
    finally:
        job.close()
        if source:
            source.close()


def _source(ota, offer):
    total_ms = _TOTAL_MS + 2 * offer.size
    body = yield from _ask(ota, offer, total_ms)
    ota.forget()
    from .stream import Source

    return Source(ota, offer, body, total_ms)


def _ask(ota, offer, total_ms):
    """The body of the answer: see http.Response.detach. Generator."""
    for name in ("connection", "http", "ask"):  # imports within imports take a board's stack
        __import__("modules.ota." + name)
    from .ask import http

    response = yield from http(ota).get(ota.url(offer.file), max_body=offer.size, idle_ms=_IDLE_MS, total_ms=total_ms)
    try:
        if response.status != 200:
            raise status_error(response, offer.file)
        if response.content_length != offer.size:
            raise OtaError("bad_response", "the server has another file under this name now")
        return response.detach()
    finally:
        response.close()


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
