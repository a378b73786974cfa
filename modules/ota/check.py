"""Asking the server what is current, and deciding whether this board wants it.

The channel file decides. `If-None-Match` goes out only if the last answer led to nothing to do, and never when forced.
Where there is no channel file, a board without a pinned key that never installed a bundle speaks the `latest` protocol.
"""

from .offer import Offer


def look(ota, force):
    """Ask the server. Generator; returns an Offer, or None when there is nothing to do.

    OtaError when the server cannot be asked, gives an answer that is refused, or offers what failed or was refused here.
    """
    answer = yield from _ask(ota, force)
    ota.forget()
    if answer is None:
        return None
    raw, etag = answer
    if raw is None:
        return (yield from _look_legacy(ota, force))
    answer = None
    raw = bytes(raw)  # out of the job's buffer: see ask
    yield  # what lies on the stack still keeps what the answer was read with
    offer = _decide(ota, raw, etag, force)
    yield  # likewise the numbers of the signature: then the room is whole again
    return offer


def _ask(ota, force):
    from . import ask

    return (yield from ask.ask(ota, force))


def _decide(ota, raw, etag, force):
    from . import decide

    return decide.decide(ota, raw, etag, force)


def _look_legacy(ota, force):
    """The `latest` protocol. Generator."""
    ota.warn("no channel file and no pinned key: using the unsigned `latest` protocol")
    line = yield from _latest(ota)
    ota.forget()
    return _decide_legacy(ota, force, *line)


def _latest(ota):
    from . import latest

    return (yield from latest.latest(ota))


def _decide_legacy(ota, force, version, file, size_kb, size, sha256):
    from . import decide, versions

    ota.log("latest is %s, running %s" % (version, ota.local_version()))
    source = sha256 or "%s;%s" % (version, file)
    if not force:
        if versions.compare(version, ota.local_version()) <= 0:
            return None
        failure = ota.store.failure(0)  # such a release has no sequence
        if failure and failure[0] == version:
            decide.check_failed(ota, version, failure)
        decide.check_refused(ota, version, source)
    return Offer(version, None, file, size, sha256, (size_kb or 0) * 1024, legacy=True, source=source)
