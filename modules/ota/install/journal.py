"""The commit: the journal of everything staged, sealed and renamed into force.

    /.ota/journal.new              the journal until it is committed; its format is ota_boot's
"""

import hashlib
import json
import os

import ota_boot

from . import files, paths
from .errors import OtaError
from .kept import CHANGES, LIST, RUNNING, entries
from .lines import key


def commit(stage, old, header):
    """Write the journal of a filled stage.Stage, which recheck has checked, and commit it. Generator.

    :param old: the running version, for the journal's header.
    :param header: more of that header: attempts, timeout_s, ran, checked (see ota_boot).
    """
    journal = Journal(dict(header, old=old, new=stage.header["version"], sequence=stage.header["sequence"]))
    try:
        yield from _write(journal, stage)
    finally:
        journal.close()
    if not journal.count and not ota_boot.exists(ota_boot.ota("loader")):
        raise OtaError("no_update", "the board already has exactly these files")
    if stage.header["base"] is None:
        yield from _stage_list(stage)
    yield from seal()


def _write(journal, stage):
    for n, entry in entries():
        if ota_boot.exists(ota_boot.slot("stage", n)):
            yield from journal.put(n, entry["path"], stage.excluded)
        yield
    yield from journal.put(stage.header["files"], stage.list_path, ())
    journal.next = stage.header["files"] + 1
    if stage.list_path != ".ota/" + CHANGES:
        journal.delete(".ota/" + CHANGES)
    yield from journal.removals(stage.complete(), stage.excluded)
    yield from journal.twins(stage.excluded)
    for name in stage.header["delete"]:
        yield from journal.delete_tree(name, stage.excluded)


def _stage_list(stage):
    """The list that will be kept, with the excluded entries marked, staged like a file of the tree. Generator.

    Where there is nothing to mark it is not written again, but moved: nobody reads it in its old place any more.
    """
    path = ota_boot.slot("stage", stage.header["files"])
    ota_boot.make_parents(path)
    if not any(paths.excluded(entry["path"], stage.excluded) for _n, entry in entries()):
        os.rename(ota_boot.ota(LIST), path)
        return
    with open(path, "wb") as out, open(ota_boot.ota(LIST), "rb") as source:
        out.write(source.readline())
        for line in source:
            entry = json.loads(line)
            if paths.excluded(entry["path"], stage.excluded):
                entry["excluded"] = True
                line = json.dumps(entry).encode() + b"\n"
            out.write(line)
            yield


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

    def removals(self, new, excluded):
        """What the old list has and the new one has not. Both are sorted: one walk through them. Generator."""
        mine = next(new, None)
        for _n, old in entries(RUNNING):
            while mine and key(mine["path"]) < key(old["path"]):
                mine = next(new, None)
                yield
            listed = mine and mine["path"] == old["path"]
            if not listed and not old.get("excluded") and not _keep(old["path"], excluded):
                self.delete(old["path"])
            yield

    def twins(self, excluded):
        """An unlisted ``m.py`` or folder ``m/`` would be imported in place of the listed ``m.mpy``. Generator."""
        for _n, entry in entries():
            stem, _dot, suffix = entry["path"].rpartition(".")
            if entry["size"] is None:  # a delta's word for a file that goes
                continue
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

    def close(self):
        self._f.close()

    def _entry(self, n, kind, had, path):
        self._f.write("%d %s%d %s\n" % (n, kind, had, path))
        self.count += path[:5] != ".ota/"

    def delete(self, path):
        """A file goes, if it is there."""
        if files.exact(ota_boot.live(path)):
            self._entry(self.next, "-", True, path)
            self.next += 1

    def _delete_unlisted(self, path):
        """Delete what neither list has; what only the old one has is a removal anyway. No path may stand here twice."""
        if _listed(LIST, path) or _listed(RUNNING, path):
            return
        self._f.flush()
        if not any(path.lower() == other.lower() for _n, _put, _had, other in ota_boot.entries("journal.new")):
            self.delete(path)

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
    return any(path == entry["path"].lower() for _n, entry in entries(name))


def _remove_empty(path):
    """An empty folder shadows a module too, and no file in it can tell the loader to remove it."""
    target = ota_boot.live(path)
    if not os.listdir(target):
        os.rmdir(target)
