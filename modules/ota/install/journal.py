"""The commit: the journal of everything staged, sealed and renamed into force."""

import binascii
import hashlib
import json
import os

import ota_boot
from micropython import const

from .. import phases
from ..bundle.lists import DIGEST, LIST, PREVIOUS, RUNNING, beside_running, cell, entries, read_header
from ..errors import OtaError
from ..release import paths
from . import files

_ASIDE = const("m")  # behind an entry's kind: the user's own, not deleted when the update is confirmed, but moved: see cleanup


def commit(ota, header):
    """Write the journal of the filled stage, which prepare has checked once more, and commit it. Generator."""
    running, new = ota.local_version(), header["version"]
    repair = new == running and (yield from _runs())
    journal = Journal(dict(_header(ota), old=running, new=new, sequence=header["sequence"], repair=repair))
    with journal.f:
        named, number = yield from _fill(journal, header["files"], header["delete"], ota.excluded)
        journal.end()
    yield
    if not journal.count and not ota_boot.exists(ota_boot.ota("loader")):
        raise OtaError("no_update", "the board already has exactly these files")
    yield from _save_list(number, named)
    yield from _commit()


def commit_previous(ota):
    """Commit the way back to the kept version. Generator; OtaError ``no_update`` when there is none.

    ``/.ota/previous`` holds what the last update replaced, and that update's journal. Read backwards it is a journal again:
    what had replaced a file is replaced by it, what had been new is deleted.
    """
    running, kept = ota.local_version(), PREVIOUS + "/journal"
    header = ota_boot.read_header(kept)
    if not header or header.get("new") != running:
        raise OtaError("no_update", "no previous version is kept on this board")
    journal = Journal(dict(_header(ota), old=running, new=header["old"], stage=PREVIOUS, hold=header.get("sequence")))
    with journal.f:
        for n, put, had, path in ota_boot.entries(kept):
            if had and not ota_boot.exists(cell(PREVIOUS, n)):
                if not any(ota_boot.exists(aside) for aside in files.asides(path)):
                    raise OtaError("no_update", "of the kept version %s is missing" % path)
                had = False  # the user's: it stays where it was moved to
            if (had or put) and not paths.excluded(path, ota.excluded):
                there = journal.look(path) is False
                journal.entry(n, "+" if had else "-", there, path, "" if put else _ASIDE)
            yield
        journal.end()
    yield from _commit()


def _header(ota):
    """What the loader and the trial need to know of the old version."""
    return {
        "attempts": ota.cfg.get("max_boot_attempts", 3) + ota.cfg.get("confirm_wakes", 1) - 1,
        "timeout_s": ota.cfg.get("confirm_timeout_s", 300),
        "ran": ota.store.get("ran", []) if ota.platform.update_boot else sorted(ota.platform.modules),
        "checked": bool(ota.store.get("checked")),
    }


def _runs():
    """True when the new list is the one of what runs: the update puts right what was damaged. Generator."""
    for _n, entry, old in beside_running():
        if not entry or not old or old[2] not in (b"", entry[2]):
            return False
        yield
    return True


def _fill(journal, count, delete, names):
    """All of its entries; what goes comes behind what is new. Generator; returns the numbers of those that `names` exclude, and
    the number of the list itself: of the first entry that is not staged, for a folder of its own would cost more flash.
    """
    staged, aside = files.filled("stage"), _ASIDE if read_header(RUNNING) else ""
    named, goes, number = [], False, None
    journal.next = count + 1
    for n, entry, old in beside_running():
        if entry:
            if paths.excluded(entry[0], names):  # perhaps only since it was staged
                named.append(n)
            elif staged(n):
                yield from journal.put(n, entry[0], names, "" if old else aside)
            elif number is None:
                number = n
        goes = goes or not entry or bool(journal.twins(entry[0]))
        yield
    if number is None or named:  # a copy, should power fail now, must not lie where an entry is looked for
        number = count
    yield from journal.put(number, ".ota/" + RUNNING, ())
    for _n, entry, old in beside_running() if goes else ():
        if entry:
            for twin in journal.twins(entry[0]):
                yield from journal.remove_tree(twin, names, _ASIDE)
        elif old[2] and not _kept(old[0], names):
            journal.delete(old[0])
        yield
    for name in delete:
        yield from journal.remove_tree(name, names)
    return named, number


def _save_list(number, named):
    """The list that will be kept, `named` entries without their digest, staged like a file of the tree. Generator.

    Where there is nothing to mark it is not written again, but moved: nobody reads it in its old place any more.
    """
    path = cell("stage", number)
    ota_boot.make_parents(path)
    if not named:
        os.rename(ota_boot.ota(LIST), path)
        return
    with open(path, "wb") as out, open(ota_boot.ota(LIST), "rb") as source:
        for _n in range(number + 1):  # all lines: here it has the number of entries
            out.write(source.readline())
            yield
        for n in range(number):
            digest = source.read(DIGEST)
            out.write(bytes(DIGEST) if n in named else digest)
            yield


class Journal:
    """Writes ``/.ota/journal.new``: which file each entry replaces, and what is deleted. See ota_boot for the format."""

    def __init__(self, header):
        self.count = 0  # entries that change the tree
        self.next = 0  # the number of the next delete
        self.folder = self._names = None  # see look
        self._digest = hashlib.sha256()
        self.f = open(ota_boot.ota("journal.new"), "w")
        self._line(json.dumps(dict(header, format=ota_boot.FORMAT)))

    def put(self, n, path, excluded, aside=""):
        """Entry `n` of the stage goes to `path`. Whatever is in its way there is deleted, or goes aside. Generator."""
        there = self.look(path)
        if there:
            yield from self.remove_tree(path, excluded, _ASIDE, whole=True)
        elif there is None and (other := self._other_case(path)):
            if not _have(RUNNING, other):
                self.delete(other, _ASIDE)
        elif there is None and not self._names:
            yield from self._clear_parents(path)
        self.entry(n, "+", there is False, path, aside)

    def twins(self, path):
        """What would be imported in place of a listed ``m.mpy``: ``m.py``, or a folder ``m/``."""
        stem, _dot, suffix = path.rpartition(".")
        source = stem + ".py"
        source = source if self.look(source) is not None else self._other_case(source)
        found = [source] if suffix == "mpy" and source else []
        if suffix in ("py", "mpy") and _is_imported(stem) and self.look(stem):
            found.append(stem)
        return found

    def remove_tree(self, path, excluded, aside="", whole=False):
        """Everything at or below `path` goes, but for what the release lists, what is excluded or protected. Generator.

        `whole`: it becomes a file, so an OtaError ``bad_member`` where something has to stay.
        """
        target = ota_boot.live(path)
        if not ota_boot.exists(target):
            return
        folder = files.is_folder(target)
        for name in files.walk(path) if folder else (path,):
            if not _kept(name, excluded):
                self._remove(name, aside)
            elif whole:
                raise OtaError("bad_member", "%s must become a file, but %s below it has to stay" % (path, name))
            yield
        if folder and aside:
            self.folder = None
            if not os.listdir(target):  # an empty folder shadows a module too, and no file in it can tell the loader to remove it
                os.rmdir(target)

    def end(self):
        self.f.write("end %s\n" % binascii.hexlify(self._digest.digest()).decode())

    def entry(self, n, kind, had, path, aside=""):
        self._line("%d %s%d%s %s" % (n, kind, had, aside if had else "", path))
        self.count += path[:5] != ".ota/"

    def delete(self, path, aside=""):
        """A file goes, if it is there."""
        if self.look(path) is False:
            self.entry(self.next, "-", True, path, aside)
            self.next += 1

    def _line(self, text):
        text += "\n"
        self.f.write(text)
        self._digest.update(text.encode())

    def look(self, path):
        """True for a folder, False for a file of exactly this name (FAT answers to others as well), None for nothing.

        What is in a folder is asked once for all that come in a row: littlefs reads all of it for each.
        """
        folder, _, name = path.rpartition("/")
        if folder != self.folder:
            self.folder, self._names = folder, files.listed(ota_boot.live(folder))
        return self._names.get(name)

    def _other_case(self, path):
        """The file that FAT has under this name in another case, or None: a rename would replace it."""
        folder, slash, name = path.rpartition("/")
        for other in self._names if self.look(path) is None else ():
            if len(other) == len(name) and other.lower() == name.lower() and ota_boot.exists(ota_boot.live(path)):
                return folder + slash + other
        return None

    def _remove(self, path, aside=_ASIDE):
        """Delete what neither list has; what only the old one has is a removal anyway. No path may stand here twice."""
        if _have(LIST, path) or _have(RUNNING, path):
            return
        self.f.flush()
        if not any(path.lower() == other.lower() for _n, _put, _had, other in ota_boot.entries("journal.new")):
            self.delete(path, aside)

    def _clear_parents(self, path):
        """A file where the new version has a folder."""
        while "/" in path:
            path = path[: path.rindex("/")]
            if self.look(path) is False:
                self._remove(path)
            yield


def _commit():
    """Keep blocks free for the loader, prepare the backup's folders, and commit ``journal.new``. Generator."""
    yield from files.reserve()
    yield phases.alone
    _guard()
    yield phases.alone
    if ota_boot.read_header("journal.new") is None:
        raise OtaError("flash_error", "the journal does not read back as it was written")
    yield phases.alone
    ota_boot.commit()


def _guard():
    """Keep an entry between ``boot.py`` and a file of the root that moves and sorts before it: a cut rename would hide boot.py
    (docs/decisions.md, "boot.py makes littlefs end a rename").
    """
    moves = any("/" not in path and path < "boot.py" for _n, _put, _had, path in ota_boot.entries("journal.new"))
    if moves and not ota_boot.exists(ota_boot.live(paths.GUARD)):
        open(ota_boot.live(paths.GUARD), "w").close()


def _kept(path, excluded):
    """What no journal may delete."""
    loader = path.lower() in ("boot.py", "ota_boot.py", "ota_boot_old.py", paths.GUARD)
    return loader or paths.protected(path) or paths.excluded(path, excluded)


def _is_imported(path):
    """False for what is run, not imported, or has no module's name: a folder beside it is in nobody's way."""
    name = path.rpartition("/")[2]
    return path not in ("main", "boot") and name != "__init__" and not ("." in name or "-" in name)


def _have(name, path):
    path = path.lower()
    return any(path == entry[0].lower() for _n, entry in entries(name))
