"""Staging: everything an update needs lies on flash, checked, before one rename commits it.

    /.ota/stage/id                 SHA-256 of the `.release` that the stage belongs to, then its signature if it has one
    /.ota/stage/<n//16>/<n%16>     entry n of the list, if it differs from what is on disk; the list itself comes after the files
    /.ota/loader                   a new ota_boot.py: put in place after the confirmation

The old version runs on meanwhile and is not touched. What an interrupted staging has left is used again, once its digest
has been checked; another release clears it. The commit follows in journal.
"""

import binascii
import hashlib
import json
import os

import ota_boot

from ..bundle.lists import LIST, entries, target
from ..errors import OtaError
from ..release import signature
from ..release.paths import excluded, skips
from . import files

_METADATA = 16  # blocks that the journal, the state, folder splits and the reserve may take beside the stage
_MAX_PROFILE = 16 * 1024
_ID = 32


class Stage:
    """The stage of one release, and the visitor that fills it from a bundle (bundle.reader).

    :param ota: job.Job: its buffer, log and store are used, and its kept version is given up where space is short.
    """

    def __init__(self, ota, quiet=False):
        self._ota = ota
        self._quiet = quiet
        self._total = self._done = 0  # bytes to be written, and written
        self._wanted = None  # a bit for each entry that must be written

    # -- what bundle.reader asks for

    def begin(self, header, digest, sig):
        """Clear another release's stage, find out which files must be written, and whether there is space. Generator."""
        stage = ota_boot.ota("stage")
        if _read_id() != (digest, sig):
            self._ota.store.set("part", None)
            yield from files.remove_tree(stage)
            yield from files.remove_tree(ota_boot.ota("loader"))
            ota_boot.make_parents(stage + "/id")
            with open(stage + "/id", "wb") as f:
                f.write(digest + (sig or b""))
        need = yield from self._plan(header)
        yield from self._check_space(need)
        self._say("staging", self._total, "bytes")

    def start(self, n, entry):
        """Where in the bundle the bytes begin that are wanted of a file; None when it lies in its place already."""
        if not self._wanted[n // 8] >> n % 8 & 1:
            return None
        part = self._ota.store.get("part")
        return part[2] if part and part[0] == n else entry["at"]

    def open(self, n, entry):
        """``(file, digest, done)``: where to write, and what it has already of a large file. Generator."""
        path = target(n, entry)
        ota_boot.make_parents(path)
        part, digest = self._ota.store.get("part"), hashlib.sha256()
        if not part or part[0] != n:
            return open(path, "wb"), digest, 0
        out = open(path, "r+b")
        while out.tell() < part[1]:
            n = out.readinto(self._ota.view[: part[1] - out.tell()])
            if not n:
                out.close()
                raise OtaError("flash_error", "%s is shorter on flash than it was" % entry["path"])
            digest.update(self._ota.view[:n])
            yield
        return out, digest, part[1]

    def wrote(self, size):
        """So many bytes more."""
        self._done += size
        self._ota.progress(self._done, self._total)

    def checkpoint(self, n, out, done, at):
        """So much of a large file has arrived; a power cut takes only what comes now. The rest begins at `at`."""
        out.flush()
        self._ota.store.set("part", [n, done, at])
        self._ota.store.save()

    def written(self, entry, digest):
        """The file is there: it must be the one that the list has."""
        self._ota.store.set("part", None)
        if files.hexdigest(digest) != entry["sha256"]:
            raise OtaError("bad_digest", "%s is not what was announced" % entry["path"])
        self._say("staged", entry["path"], entry["size"], "bytes")

    # -- inside

    def _plan(self, header):
        """Mark the entries that must be written; returns the blocks that they take. Generator."""
        self._wanted = bytearray(header["files"] // 8 + 1)
        part = self._ota.store.get("part")
        need = _METADATA
        folder = -1
        for n, entry in entries():
            if not skips(entry["path"], self._ota.excluded):
                if not (yield from self._have(n, entry)):
                    self._wanted[n // 8] |= 1 << n % 8
                    rest = entry["size"] - (part[1] if part and part[0] == n else 0)
                    self._total += rest
                    need += files.blocks(rest)
                    need += 4 if n // 16 != folder else 0  # folders of the stage and the backup
                    folder = n // 16
            yield
        return need

    def _have(self, n, entry):
        """True when the file is on disk, or lies in the stage already. Generator."""
        view, staged = self._ota.view, target(n, entry)
        if (yield from files.same(ota_boot.live(entry["path"]), entry["size"], entry["sha256"], view)):
            if ota_boot.exists(staged):
                os.remove(staged)  # from a staging that was interrupted before the file on disk became right
            return True
        return (yield from files.same(staged, entry["size"], entry["sha256"], view))

    def _check_space(self, need):
        need *= files.block_size()
        free = files.free_bytes()
        if need > free:
            yield from self._ota.give_up_previous()
            free = files.free_bytes()
        self._say("stage needs", need, "bytes, free disk", free)
        if need > free:
            raise OtaError("no_space", "the update needs %d bytes more, %d are free" % (need, free))

    def _say(self, *parts):
        if not self._quiet:
            self._ota.log(*parts)


def exists():
    """True when a stage has been begun."""
    return ota_boot.exists(ota_boot.ota("stage/id"))


def check(ota, compare):
    """Just before the commit: what is committed is the stage, so it is read back once. Generator.

    :param compare: True when some time has passed since it was filled: the tree is compared once more as well.

    1. The list on flash is the one that was checked, signed by a pinned key, and every staged file has its digest.
    2. Where keys are pinned, the new profile pins one that verifies this very release: no lock-out, no take-over.
    """
    digest, sig = _read_id()
    if (yield from files.digest(ota_boot.ota(LIST), ota.view)) != binascii.hexlify(digest).decode():
        raise OtaError("flash_error", "the list of files changed on flash after it had been checked")
    if ota.keys:
        signature.check(digest, sig, ota.keys)
        yield
    profile = None
    for n, entry in entries():
        staged = target(n, entry)
        if ota_boot.exists(staged):
            if not (yield from files.same(staged, entry["size"], entry["sha256"], ota.view)):
                raise OtaError("flash_error", "%s changed on flash after it had been staged" % entry["path"])
        elif not skips(entry["path"], ota.excluded):
            staged = ota_boot.live(entry["path"])
            if compare and not (yield from files.same(staged, entry["size"], entry["sha256"], ota.view)):
                raise OtaError("no_update", "%s is not what it was when the update was staged" % entry["path"])
        if entry["path"] == "profile.json":
            profile = staged, entry["size"]
        yield
    if ota.keys and not excluded("profile.json", ota.excluded):
        _check_profile(profile, digest, sig)


def _read_id():
    """``(digest, signature or None)`` of what the stage belongs to; ``(None, None)`` when there is none."""
    try:
        with open(ota_boot.ota("stage/id"), "rb") as f:
            found = f.read(_ID + signature.KEY_BYTES + 1)
    except OSError:
        return None, None
    return found[:_ID], found[_ID:] or None


def _check_profile(profile, digest, sig):
    if not profile:
        raise OtaError("bad_key", "the release has no profile.json, so it pins no key")
    keys = _load_profile(*profile).get("ota", {}).get("public_keys") or []
    if not isinstance(keys, list) or not 0 < len(keys) <= signature.MAX_KEYS:
        raise OtaError("bad_key", "the new profile pins no key")
    if not signature.verify_any(digest, sig, keys):
        raise OtaError("bad_key", "the new profile's keys do not verify this release")


def _load_profile(path, size):
    if size > _MAX_PROFILE:
        raise OtaError("bad_key", "the new profile is larger than %d bytes" % _MAX_PROFILE)
    with open(path) as f:
        try:
            profile = json.load(f)
        except ValueError:
            profile = None
    if not isinstance(profile, dict) or not isinstance(profile.get("ota", {}), dict):
        raise OtaError("bad_key", "the new profile is not a profile, so it pins no key")
    return profile
