"""Before the stage is filled: which files must be written; is there space? And before it is committed: is it still right?

What an interrupted staging has left is used again, once its digest has been checked; another release clears it.
"""

import gc
import hashlib
import json
import os

import ota_boot
from micropython import const

from .. import phases
from ..bundle.lists import LIST, beside_running, cell, entries, read_header, target
from ..errors import OtaError
from ..release import signature
from ..release.paths import excluded, skips
from . import files

_METADATA = const(8)  # blocks that the journal, the state, the backup and the reserve may take beside the stage
_INLINE = const(128)  # so small a file littlefs keeps beside its name, on every port: see files
_MAX_PROFILE = const(16 * 1024)
_ID = const(32)


def plan(ota, header, digest):
    """Clear another release's stage, mark the entries that must be written, and see whether there is space. Generator.

    Returns a bit for each entry, and how many bytes must be written.
    """
    stage = ota_boot.ota("stage")
    if _read()[0] != digest:
        ota.store.set("part", None)
        ota.store.save()  # no power cut leaves it beside what is staged now
        yield from files.remove_tree(stage)
        yield from files.remove_tree(ota_boot.ota("loader"))
        yield from _write(stage + "/id", digest)
    yield phases.alone
    free, block = files.space()  # littlefs reads all of its folders for that
    yield
    wanted = bytearray(header["files"] // 8 + 1)
    part, staged = ota.store.get("part"), files.filled("stage")
    need, total, folders = _METADATA * 8, 0, [stage, ota_boot.ota("backup")]
    told, version = None, header["version"].encode() + b"\n"
    for n, entry, runs in beside_running():
        if entry and not skips(entry[0], ota.excluded):
            if not (yield from _have(ota, n, entry, runs, staged(n) or entry[0] == "ota_boot.py")):
                rest = entry[1] - (part[1] if part and part[0] == n else 0)
                need += _eighths(n, rest, block, folders)
                if entry[0] == "version" and hashlib.sha256(version).digest() == entry[2]:
                    told = n  # the header says what is in it: not worth a request of its own
                else:
                    wanted[n // 8] |= 1 << n % 8
                    total += rest
        yield
    yield from files.make_room(ota, need // 8 * block, "the update", free)
    if told is not None:
        yield from _write(target(told, "version"), version)
    ota.log("staging", total, "bytes")
    return wanted, total


def _eighths(n, size, block, folders):
    """Eighths of a block that entry `n` takes, for small files share one; with its folders, if they are not the last one's."""
    need = files.blocks(size, block) * 8 if size > _INLINE else 1
    for i, name in enumerate(("stage", "backup")):
        above = cell(name, n).rpartition("/")[0]
        if above != folders[i]:
            folders[i] = above
            need += 16
    return need


def _write(path, data):
    yield phases.alone
    ota_boot.make_parents(path)
    yield phases.alone
    with open(path, "wb") as f:
        f.write(data)
    yield


def _have(ota, n, entry, runs, staged):
    """True when the file is on disk, or lies in the stage already. Generator.

    :param runs: what the running version's list has for it: a file that is another one there is not even read.
    """
    path, size, digest, _at = entry
    if runs is None or runs[2] in (b"", digest):
        there = yield from files.same(ota_boot.live(path), size, digest, ota.view)
        if there and (runs or files.exact(ota_boot.live(path))):
            if staged and ota_boot.exists(target(n, path)):
                yield phases.alone
                os.remove(target(n, path))  # from a staging that was interrupted before the file on disk became right
            return True
    return staged and (yield from files.same(target(n, path), size, digest, ota.view))


def recheck(ota, compare):
    """Just before the commit: what is committed is the stage, so it is read back once. Generator; returns the list's header.

    :param compare: True when some time has passed since it was filled: the tree is compared once more as well.

    1. The list on flash is the one that was checked, signed by a pinned key (not asked again in the same job), and every staged
       file has its digest.
    2. Where keys are pinned, the new profile pins one that verifies this very release, and some for channel files: no lock-out,
       no take-over.
    """
    (digest, sig), header = _read(), read_header(LIST)
    if not digest or not header:
        raise OtaError("no_update", "what was staged is not there any more")
    with open(ota_boot.ota(LIST), "rb") as f:
        if (yield from files.hashed(f, ota.view)).digest() != digest:
            raise OtaError("flash_error", "the list of files changed on flash after it had been checked")
    if ota.verified and ota.verified[0] == digest:
        sig = ota.verified[1]
    elif ota.keys:
        yield from signature.checking(digest, sig, ota.keys)
    profile, filled = None, files.filled("stage")
    for n, (path, size, wanted, _at) in entries():
        staged = target(n, path)
        if filled(n) or (path == "ota_boot.py" and ota_boot.exists(staged)):
            if not (yield from files.same(staged, size, wanted, ota.view)):
                raise OtaError("flash_error", "%s changed on flash after it had been staged" % path)
        elif not skips(path, ota.excluded):
            staged = ota_boot.live(path)
            if compare and not (yield from files.same(staged, size, wanted, ota.view)):
                raise OtaError("no_update", "%s is not what it was when the update was staged" % path)
        if path == "profile.json":
            profile = staged, size
        yield
    if ota.keys and not excluded("profile.json", ota.excluded):
        yield from _check(ota.keys, profile, digest, sig)
    return header


def _read():
    """``(digest, signature or None)`` of what the stage belongs to; ``(None, None)`` when there is none."""
    try:
        with open(ota_boot.ota("stage/id"), "rb") as f:
            found = f.read(_ID + signature.KEY_BYTES + 1)
    except OSError:
        return None, None
    return found[:_ID], found[_ID:] or None


def _check(known, profile, digest, sig):
    """:param known: keys of which one has verified this release already: the same ones need not be asked again."""
    if not profile:
        raise OtaError("bad_key", "the release has no profile.json, so it pins no key")
    ota = _load(*profile).get("ota", {})
    for role in ("channel", "release"):
        keys = signature.pinned(ota, role)
        if not isinstance(keys, list) or not 0 < len(keys) <= signature.MAX_KEYS:
            raise OtaError("bad_key", "the new profile pins no %s key" % role)
    if keys != known and not (yield from signature.verifying_any(digest, sig, keys)):
        raise OtaError("bad_key", "the new profile's keys do not verify this release")


def _load(path, size):
    if size > _MAX_PROFILE:
        raise OtaError("bad_key", "the new profile is larger than %d bytes" % _MAX_PROFILE)
    with open(path) as f:
        try:
            profile = json.load(f)
        except (ValueError, RuntimeError):  # RuntimeError: nested too deeply for the stack
            profile = None
        except MemoryError:
            gc.collect()
            if gc.mem_free() < _MAX_PROFILE:
                raise  # memory was short before: it may be good
            profile = None
    if not isinstance(profile, dict) or not isinstance(profile.get("ota", {}), dict):
        raise OtaError("bad_key", "the new profile is not a profile, so it pins no key")
    return profile
