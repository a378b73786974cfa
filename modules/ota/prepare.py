"""Before a stage is filled: clear another release's, find out which files must be written, and whether there is space."""

import binascii
import os

import ota_boot

from . import files
from .errors import OtaError
from .excluded import skips
from .kept import LIST, RUNNING, SIGNATURE, entries, target

_METADATA = 16  # blocks that the journal, the state, folder splits and the reserve may take beside the stage


def prepare(stage):
    """Make the stage ready for its release. Generator; returns a bit for each entry that must be written.

    What an interrupted staging of the same release has left, and is right, need not be. OtaError ``no_space``.
    """
    yield from _claim(binascii.hexlify(stage.digest).decode())
    wanted, need = yield from _plan(stage)
    yield from _check_space(stage, need)
    if stage.header["base"] is not None:
        yield from _stage_list(stage)
    if stage.keep and stage.signature:
        with open(ota_boot.ota(SIGNATURE), "wb") as f:
            f.write(stage.signature)
    return wanted


def _claim(digest):
    stage = ota_boot.ota("stage")
    if files.read_text(stage + "/id") != digest:
        yield from files.remove_tree(stage)
        yield from files.remove_tree(ota_boot.ota("loader"))
        files.write_text(stage + "/id", digest)


def _plan(stage):
    """Mark the entries that must be written; returns them and the blocks that they take. Generator."""
    wanted = bytearray(stage.header["files"] // 8 + 1)
    size = os.stat(ota_boot.ota(LIST))[6]
    if stage.header["base"] is not None:
        size += os.stat(ota_boot.ota(RUNNING))[6]
    need = _METADATA + files.blocks(size)
    folder = -1
    for n, entry in entries():
        if entry["size"] is not None and not skips(entry["path"], stage.excluded):
            if not (yield from _have(stage, n, entry)):
                wanted[n // 8] |= 1 << n % 8
                need += files.blocks(entry["size"])
                need += 8 if n // 16 != folder else 0  # folders of the stage, the backup, and the reserve for apply and undo
                folder = n // 16
        yield
    return wanted, need


def _have(stage, n, entry):
    """True when the file is on disk, or lies in the stage already. Generator."""
    if (yield from files.same(ota_boot.live(entry["path"]), entry["size"], entry["sha256"], stage.view)):
        staged = target(n, entry)
        if ota_boot.exists(staged):
            os.remove(staged)  # from a staging that was interrupted before the file on disk became right
        return True
    return (yield from files.same(target(n, entry), entry["size"], entry["sha256"], stage.view))


def _check_space(stage, need):
    need *= files.block_size()
    free = files.free_bytes()
    if need > free and stage.on_space:
        yield from stage.on_space()
        free = files.free_bytes()
    stage.log("stage needs", need, "bytes, free disk", free)
    if need > free:
        raise OtaError("no_space", "the update needs %d bytes more, %d are free" % (need, free))


def _stage_list(stage):
    from . import changes

    yield from changes.stage_list(stage)
