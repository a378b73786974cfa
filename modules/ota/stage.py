"""Staging: everything an update needs lies on flash, checked, before one rename commits it.

    /.ota/stage/id                 SHA-256 of the `.release` that the stage belongs to; another release clears it
    /.ota/stage/<n//16>/<n%16>     entry n of the list, if it differs from what is on disk; the list itself comes after the files
    /.ota/loader                   a new ota_boot.py: put in place after the confirmation
    /.ota/journal.new              the journal until it is committed

The old version runs on meanwhile and is not touched. What an interrupted staging has left is used again, once its digest
has been checked.
"""

import binascii
import hashlib
import json
import os

import ota_boot

from . import bundle, files, paths, sign
from .errors import OtaError

RUNNING = "release"  # the kept list of what runs, below /.ota
_METADATA = 8  # blocks that the journal, the state and folder splits may take beside the stage
_MAX_PROFILE = 16 * 1024


class Stage:
    """The stage of one release, and the visitor that fills it from a bundle (bundle.read)."""

    def __init__(self, keys, excluded, view, log, on_space=None):
        self.keys = keys
        self.excluded = excluded
        self.view = view
        self.log = log
        self.on_space = on_space  # generator function that frees what may be freed when space is short
        self.header = None
        self._wanted = None

    def begin(self, header, digest, signature):
        """Clear another release's stage, find out which files must be written, and whether there is space. Generator."""
        self.header, self._digest, self._signature = header, digest, signature
        yield from self._claim(binascii.hexlify(digest).decode())
        need = yield from self._plan()
        yield from self._check_space(need)

    def writer(self, n, entry):
        """A file to write entry `n` into, or None when it is not needed."""
        if not self._wants(n):
            return None
        path = self._target(n, entry)
        ota_boot.make_parents(path)
        return open(path, "wb")

    def written(self, n, entry):
        """Read back what has been written. Generator."""
        good = yield from files.same(self._target(n, entry), entry["size"], entry["sha256"], self.view)
        if not good:
            raise OtaError("flash_error", "%s does not read back as it was written" % entry["path"])
        self.log("staged", entry["path"], entry["size"], "bytes")

    def commit(self, old, journal):
        """Write the journal of everything staged and commit it. Generator.

        :param old: the running version, for the journal's header.
        :param journal: more of that header: attempts, timeout_s, ran, checked (see ota_boot).
        """
        self._check_profile()
        yield from self._stage_list()
        yield from self._check_stage()
        writer = Journal(dict(journal, old=old, new=self.header["version"], sequence=self.header["sequence"]))
        try:
            yield from self._write_puts(writer)
            yield from self._write_deletes(writer)
            if not writer.count:
                raise OtaError("no_update", "the board already has exactly these files")
            yield from writer.finish()
        finally:
            writer.close()

    # -- planning

    def _claim(self, digest):
        stage = ota_boot.ota("stage")
        if files.read_text(stage + "/id") != digest:
            yield from files.remove_tree(stage)
            yield from files.remove_tree(ota_boot.ota("loader"))
            files.write_text(stage + "/id", digest)

    def _plan(self):
        """Mark the entries that must be written; returns the blocks that this takes. Generator."""
        wanted = self._wanted = bytearray(self.header["files"] // 8 + 1)
        need = _METADATA + files.blocks(os.stat(ota_boot.ota(bundle.LIST))[6])
        folder = -1
        for n, entry in bundle.entries():
            if not self._skips(entry["path"]):
                if not (yield from self._have(n, entry)):
                    wanted[n // 8] |= 1 << n % 8
                    need += files.blocks(entry["size"])
                    need += 4 if n // 16 != folder else 0  # a folder of the stage and one of the backup
                    folder = n // 16
            yield
        return need

    def _have(self, n, entry):
        """True when the file is on disk, or lies in the stage already. Generator."""
        if (yield from files.same(ota_boot.live(entry["path"]), entry["size"], entry["sha256"], self.view)):
            staged = self._target(n, entry)
            if ota_boot.exists(staged):
                os.remove(staged)  # from a staging that was interrupted before the file on disk became right
            return True
        return (yield from files.same(self._target(n, entry), entry["size"], entry["sha256"], self.view))

    def _check_space(self, need):
        if need > files.free_bytes() // files.block_size() and self.on_space:
            yield from self.on_space()
        free = files.free_bytes()
        need *= files.block_size()
        self.log("stage needs", need, "bytes, free disk", free)
        if need > free:
            raise OtaError("no_space", "the update needs %d bytes more, %d are free" % (need, free))

    def _skips(self, path):
        return path == "boot.py" or paths.excluded(path, self.excluded)

    def _wants(self, n):
        return self._wanted[n // 8] >> n % 8 & 1

    def _target(self, n, entry):
        return ota_boot.ota("loader") if entry["path"] == "ota_boot.py" else ota_boot.slot("stage", n)

    # -- before the commit

    def _check_profile(self):
        """Where keys are pinned, the new profile must pin one that verifies this very release: no lock-out, no take-over."""
        if not self.keys or paths.excluded("profile.json", self.excluded):
            return
        keys = self._new_profile().get("ota", {}).get("public_keys") or []
        if not isinstance(keys, list) or not 0 < len(keys) <= sign.MAX_KEYS:
            raise OtaError("bad_key", "the new profile pins no key")
        if not sign.verify_any(self._digest, self._signature, keys):
            raise OtaError("bad_key", "the new profile's keys do not verify this release")

    def _new_profile(self):
        for n, entry in bundle.entries():
            if entry["path"] == "profile.json":
                staged = ota_boot.slot("stage", n)
                path = staged if ota_boot.exists(staged) else ota_boot.live("profile.json")
                return _load_profile(path, entry["size"])
        raise OtaError("bad_key", "the release has no profile.json, so it pins no key")

    def _stage_list(self):
        """The list that will be kept, with the excluded entries marked, staged like a file of the tree. Generator."""
        target = ota_boot.slot("stage", self.header["files"])
        ota_boot.make_parents(target)
        with open(target, "wb") as out, open(ota_boot.ota(bundle.LIST), "rb") as source:
            out.write(source.readline())
            for line in source:
                entry = json.loads(line)
                if paths.excluded(entry["path"], self.excluded):
                    entry["excluded"] = True
                    line = json.dumps(entry).encode() + b"\n"
                out.write(line)
                yield

    def _check_stage(self):
        """Hash every staged file once more: what is committed is the stage. Generator."""
        for n, entry in bundle.entries():
            if self._wants(n) or ota_boot.exists(self._target(n, entry)):
                if not (yield from files.same(self._target(n, entry), entry["size"], entry["sha256"], self.view)):
                    raise OtaError("flash_error", "%s changed on flash after it had been staged" % entry["path"])
            yield

    def _write_puts(self, writer):
        for n, entry in bundle.entries():
            if ota_boot.exists(ota_boot.slot("stage", n)):
                yield from writer.put(n, entry["path"], self.excluded)
            yield
        yield from writer.put(self.header["files"], ".ota/" + RUNNING, ())

    def _write_deletes(self, writer):
        writer.next = self.header["files"] + 1
        yield from writer.removals(self.excluded)
        yield from writer.twins(self.excluded)
        for name in self.header["delete"]:
            yield from writer.delete_tree(name, self.excluded)


class Journal:
    """Writes ``/.ota/journal.new``: which file each entry replaces, and what is deleted. See ota_boot for the format."""

    def __init__(self, header):
        self.count = 0  # entries that change the tree
        self.next = 0  # the number of the next delete
        self._f = open(ota_boot.ota("journal.new"), "w")
        self._f.write(json.dumps(dict(header, format=ota_boot.FORMAT)) + "\n")

    def put(self, n, path, excluded):
        """Entry `n` of the stage goes to `path`. Whatever is in its way there is deleted. Generator."""
        if files.is_folder(ota_boot.live(path)):
            yield from self._clear_folder(path, excluded)
        yield from self._clear_parents(path)
        self._entry(n, "+", files.exact(ota_boot.live(path)), path)

    def removals(self, excluded):
        """What the old list has and the new one has not. Both are sorted: one walk through them. Generator."""
        new = bundle.entries()
        mine = next(new, None)
        for _n, old in bundle.entries(RUNNING):
            while mine and paths.key(mine[1]["path"]) < paths.key(old["path"]):
                mine = next(new, None)
                yield
            listed = mine and mine[1]["path"] == old["path"]
            if not listed and not old.get("excluded") and not _keep(old["path"], excluded):
                self._delete(old["path"])
            yield

    def twins(self, excluded):
        """An unlisted ``m.py`` or folder ``m/`` would be imported in place of the listed ``m.mpy``. Generator."""
        for _n, entry in bundle.entries():
            stem, _dot, suffix = entry["path"].rpartition(".")
            if suffix == "mpy":
                yield from self.delete_tree(stem + ".py", excluded)
            if suffix in ("py", "mpy") and files.is_folder(ota_boot.live(stem)):
                yield from self.delete_tree(stem, excluded)
                _remove_empty(stem)
            yield

    def delete_tree(self, path, excluded):
        """Everything at or below `path` goes, but for what the release lists, what is excluded or protected. Generator."""
        target = ota_boot.live(path)
        if not ota_boot.exists(target):
            return
        for name in files.walk(path) if files.is_folder(target) else (path,):
            if not _keep(name, excluded):
                self._delete_unlisted(name)
            yield

    def finish(self):
        """Seal and commit. Generator."""
        self._f.close()
        yield from seal()

    def close(self):
        self._f.close()

    def _entry(self, n, kind, had, path):
        self._f.write("%d %s%d %s\n" % (n, kind, had, path))
        self.count += path[:5] != ".ota/"

    def _delete(self, path):
        if files.exact(ota_boot.live(path)):
            self._entry(self.next, "-", True, path)
            self.next += 1

    def _delete_unlisted(self, path):
        """Delete what neither list has; what only the old one has is a removal anyway. No path may stand here twice."""
        if _listed(bundle.LIST, path) or _listed(RUNNING, path):
            return
        self._f.flush()
        if not any(path.lower() == other.lower() for _n, _put, _had, other in ota_boot.entries("journal.new")):
            self._delete(path)

    def _clear_folder(self, path, excluded):
        """The files of a folder that becomes a file."""
        for name in files.walk(path):
            if _keep(name, excluded):
                raise OtaError("bad_member", "%s must become a file, but %s below it has to stay" % (path, name))
            self._delete_unlisted(name)
            yield
        _remove_empty(path)

    def _clear_parents(self, path):
        """A file where the new version has a folder."""
        while "/" in path:
            path = path[: path.rindex("/")]
            if files.file_size(ota_boot.live(path)) is not None:
                self._delete_unlisted(path)
            yield


def seal():
    """Keep blocks free for the loader, prepare the backup's folders, end ``journal.new`` and commit it. Generator."""
    yield from _prepare_folders()
    _guard_boot()
    digest = hashlib.sha256()
    with open(ota_boot.ota("journal.new"), "rb") as f:
        for line in f:
            digest.update(line)
            yield
    with open(ota_boot.ota("journal.new"), "a") as f:
        f.write("end %s\n" % files.hexdigest(digest))
    if ota_boot.read_header("journal.new") is None:
        raise OtaError("flash_error", "the journal does not read back as it was written")
    ota_boot.commit()


def _prepare_folders():
    """Folders for the backups, and empty folders as a reserve: two blocks each that nothing else can take. Generator."""
    folders = 0
    for n, _put, _had, _path in ota_boot.entries("journal.new"):
        slot = ota_boot.slot("backup", n)
        if not ota_boot.exists(slot[: slot.rindex("/")]):
            ota_boot.make_parents(slot)
            folders += 1
        yield
    for kind in "au":
        for i in range(2 + folders):
            path = ota_boot.ota("reserve/%s%d" % (kind, i))
            ota_boot.make_parents(path)
            if not ota_boot.exists(path):
                os.mkdir(path)
            yield


def _guard_boot():
    """Keep an entry between ``boot.py`` and a file of the root that moves and sorts before it.

    After a power cut within a rename littlefs hides the entry that follows the moved one until the next change (measured in
    MicroPython 1.26). boot.py makes that change; so boot.py itself must never be the one that is hidden.
    """
    moves = any("/" not in path and path < "boot.py" for _n, _put, _had, path in ota_boot.entries("journal.new"))
    if moves and not ota_boot.exists(ota_boot.live(paths.GUARD)):
        files.write_text(ota_boot.live(paths.GUARD), "")


def _keep(path, excluded):
    """What no journal may delete."""
    loader = path.lower() in ("boot.py", "ota_boot.py", "ota_boot_old.py", paths.GUARD)
    return loader or paths.protected(path) or paths.excluded(path, excluded)


def _listed(name, path):
    path = path.lower()
    return any(path == entry["path"].lower() for _n, entry in bundle.entries(name))


def _remove_empty(path):
    """An empty folder shadows a module too, and no file in it can tell the loader to remove it."""
    target = ota_boot.live(path)
    if not os.listdir(target):
        os.rmdir(target)


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
