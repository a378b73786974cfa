"""Bringing a release into the stage: from the server, what this board needs of it, or from a file that was brought by hand."""

from .bundle import reader
from .install.stage import Stage
from .release.policy import Rules
from .transport.ranges import FromServer


def from_server(ota, offer, force):
    """Stage what is offered. Generator."""
    source = FromServer(ota.http(), ota.url(offer["file"]), offer["head"], offer["size"], ota.log)
    yield from _read(ota, source, force, (offer["version"], offer["sequence"]))


def from_file(ota, force):
    """Stage the bundle that lies in ``ota.archive``. Generator."""
    yield from _read(ota, reader.FromFile(ota.archive), force, None)


def rules(ota, force, expect):
    """What this board accepts now."""
    return Rules(ota.name_on_server, ota.keys, ota.floor, bool(force), ota.platform.board.now(), expect, ota.excluded)


def _read(ota, source, force, expect):
    try:
        header = yield from reader.read(source, rules(ota, force, expect), ota.view, Stage(ota))
    finally:
        source.close()
    ota.module.notes = header["notes"]
    ota.log("verified:", header["files"], "files,", "signed" if ota.keys else "not signed: no key is pinned")
