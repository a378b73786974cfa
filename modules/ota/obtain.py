"""Bringing what is offered to this board, and checking it: as an archive on flash, or straight into the stage."""

from .errors import OtaError
from .reading import discard, read, translated


def fetch(ota, offer, force):
    """Download and verify; what is refused is deleted."""
    _check_firmware()
    ota.forget()
    ota.enter("downloading")
    ota.report_space()
    if offer.legacy:
        from . import legacy

        yield from legacy.download(ota, offer)
        return
    expect = [offer.version, offer.sequence]
    if offer.streamed or (ota.store.get("part") or {}).get("staged") == offer.sha256:
        offer.streamed = True
        yield from translated(_stream(ota, offer, ota.rules(force, expect)))
    else:
        yield from _download(ota, offer)
        ota.forget()
        yield  # what lies on the stack keeps some of it until the next step
        yield from verify(ota, ota.rules(force, expect))
    part = ota.store.get("part")
    part["expect"], part["forced"] = expect, force


def _check_firmware():
    from . import inflate

    inflate.check_firmware()


def _stream(ota, offer, rules):
    from . import direct

    yield from direct.stream(ota, offer, rules)


def _download(ota, offer):
    from . import fetch

    yield from translated(fetch.download(ota, offer, ota.archive, ota.view))


def verify(ota, rules):
    """Check the whole archive before anything is staged; what is refused is deleted."""
    ota.log("verifying")
    try:
        header, _none = yield from translated(read(ota, rules, None))
    except OtaError as error:
        if error.reason != "no_memory":  # the next try needs no download
            yield from discard(ota)
        raise
    verified(ota, header)


def verified(ota, header):
    ota.module.notes = header["notes"]
    ota.whole = header["tree"]
    ota.log("verified:", header["files"], "files,", "signed" if ota.keys else "not signed: no key is pinned")
