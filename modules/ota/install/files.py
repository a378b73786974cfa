"""Files on the board: digests, whole trees, free space. Generators yield after each block, so that the loop lives on.

Everything streams through one buffer that the caller owns: a ``memoryview`` of a bytearray.
"""

import errno
import hashlib
import os
import sys

import ota_boot
from micropython import const

from .. import phases
from ..bundle.lists import cell
from ..errors import OtaError

_FOLDER = const(0x4000)
NONE = (errno.ENOENT, 20)  # 20: ENOTDIR, which not every port names; a folder of the path is a file
_CROWDED = const(1500)  # bytes of names that leave room for some more in the one block that a folder's names may take
_HALF = const(800)  # bytes that a pair of blocks holds at least once littlefs has halved what was in it
_ENTRY = const(24)  # what littlefs has beside a name
_INLINE = 512 if sys.platform == "rp2" else 128  # so small a file lies there as well: four times what is programmed at once


def hashed(f, view):
    """A sha256 object that has seen an open file from here to its end. Generator."""
    running = hashlib.sha256()
    n = f.readinto(view)
    while n:
        running.update(view if n == len(view) else view[:n])
        yield
        n = f.readinto(view)
    return running


def same(path, size, wanted, view):
    """True when the file at `path` has exactly this size and digest, as an entry of a list has them. Generator.

    It is opened first and measured then: littlefs reads whole folders to find a path, hundreds of times from the flash.
    """
    try:
        f = open(path, "rb")
    except OSError as error:
        if error.errno in NONE or error.errno == errno.EISDIR:
            return False
        raise
    with f:
        if f.seek(0, 2) != size:
            return False
        f.seek(0)
        return (yield from hashed(f, view)).digest() == wanted


def is_folder(path):
    return ota_boot.exists(path) and os.stat(path)[0] & _FOLDER != 0


def listed(folder):
    """``{name: True for a folder}`` of what is in a folder; nothing where there is none. One look at the flash for all."""
    try:
        if hasattr(os, "ilistdir"):
            return {entry[0]: entry[1] & _FOLDER != 0 for entry in os.ilistdir(folder)}
        return {name: is_folder(folder + "/" + name) for name in os.listdir(folder)}
    except OSError as error:
        if error.errno in NONE:
            return {}
        raise


def missing(folder):
    """How many folders have to be made for `folder` to exist."""
    count = 0
    while folder and not ota_boot.exists(ota_boot.live(folder)):
        folder = folder.rpartition("/")[0]
        count += 1
    return count


def weight(folder):
    """``(bytes of a folder's names, bytes of the small files that lie beside them)``: what its blocks hold."""
    names = data = 0
    try:
        for entry in os.ilistdir(folder) if hasattr(os, "ilistdir") else ():
            names += _ENTRY + len(entry[0])
            data += entry[3] if len(entry) > 3 and entry[3] <= _INLINE else 0
    except OSError as error:
        if error.errno not in NONE:
            raise
    return names, data


def reserve():
    """Folders for the backups of ``journal.new``, and empty ones as a reserve: two blocks each that nothing else can take.

    New folders take space, and so may long ones, and small files that move with their names (docs/decisions.md, "The reserve
    is empty folders"). Generator.
    """
    made = gone = old = new = 0
    folder = part = before = None
    seen = {}  # folder: bytes of the names in it
    yield phases.alone
    ota_boot.make_parents(ota_boot.ota("backup/"))  # a step, as each folder: littlefs erases a block for it
    for n, put, _had, path in ota_boot.entries("journal.new"):
        backup = cell("backup", n)
        above, parent = backup.rpartition("/")[0], path.rpartition("/")[0]
        if above != folder:
            folder = above
            yield phases.alone
            ota_boot.make_parents(backup)
            yield
        above = cell("stage", n).rpartition("/")[0]
        if above != part:
            part = above
            new += weight(part)[1]
        if parent != before:
            gone += not put
            if parent not in seen:
                names, data = weight(ota_boot.live(parent))
                seen[parent] = names
                old += data
                made += names > _CROWDED
                gone += names > _CROWDED
            made += missing(parent) if put and not seen[parent] else 0  # where there are names the folder is there
        before = parent
        yield
    for kind, count in ("a", made + old // _HALF), ("u", gone + new // _HALF):
        for i in range(count):
            path = ota_boot.ota("reserve/%s%d" % (kind, i))
            yield phases.alone
            ota_boot.make_parents(path)
            yield phases.alone
            if not ota_boot.exists(path):
                os.mkdir(path)
            yield


def filled(folder):
    """What tells whether slot `n` of a folder below ``/.ota`` is filled: asked in order, it reads each part of it once."""
    part, names = "", {}

    def is_filled(n):
        nonlocal part, names
        path, _, name = cell(folder, n).rpartition("/")
        if path != part:
            part, names = path, listed(path)
        return name in names

    return is_filled


def exact(path):
    """True when a file has exactly this name: FAT also answers to the same name in another case."""
    folder, _, name = path.rpartition("/")
    return listed(folder or "/").get(name) is False


def asides(path):
    """Where a file of the user's may go, the first choice first: the name may be taken, or a folder of it be a file."""
    for n in range(1, 100):
        yield ota_boot.live("moved%s/%s" % (".%d" % n if n > 1 else "", path))


def move_aside(ota, source, path):
    """The user's file `source`, which has been at `path`, goes to the first of those places that is free."""
    for target in asides(path):
        try:
            if not ota_boot.exists(target):
                ota_boot.make_parents(target)
                os.rename(source, target)
                ota.warn("/%s was in the way of version %s: it is %s now" % (path, ota_boot.header["new"], target))
                return
        except OSError as error:
            if error.errno not in NONE:
                raise


def walk(path):
    """Every file below the folder `path` (of the tree, such as ``lib``), folders depth first. Generator of paths."""
    found = listed(ota_boot.live(path))
    for name in sorted(found):
        if found[name]:
            yield from walk(path + "/" + name)
        else:
            yield path + "/" + name


def remove_tree(path, folder=None):
    """Remove a file or a whole folder; nothing happens when there is none. Generator: one removal a step."""
    if folder is None:
        if not ota_boot.exists(path):
            return
        folder = is_folder(path)
    if folder:
        found = listed(path)
        for name in found:
            yield from remove_tree(path + "/" + name, found[name])
    yield phases.alone
    (os.rmdir if folder else os.remove)(path)
    yield


def space():
    """``(free bytes, bytes of a block)`` of the board's disk; tens of milliseconds on littlefs.

    littlefs counts what two files share twice: on a full one it says less than none.
    """
    status = os.statvfs(ota_boot.ROOT or "/")
    return max(status[0] * status[3], 0), status[0]


def make_room(ota, need, what, free):
    """Have `need` bytes of the disk free; for that the kept previous version goes. Generator; OtaError ``no_space``."""
    board = ota.platform.board
    if free < need:  # space() has said too little by littlefs' folders; to count them takes as long again
        free = board.disk_free()
        yield
    if free < need:
        yield from give_up_previous(ota)
        free = board.disk_free()
    ota.log("%s needs %d bytes, %d are free" % (what, need, free))
    if free < need:
        raise OtaError("no_space", "%s needs %d bytes, %d are free" % (what, need, free))


def give_up_previous(ota):
    previous = ota_boot.ota("previous")
    if ota_boot.exists(previous):
        ota.log("short of space: giving up the kept previous version")
        ota.module.previous = None
        yield from remove_tree(previous)


def blocks(size, block):
    """Blocks that a file of `size` bytes takes on littlefs, at least one: each but the first begins with pointers to others.

    Block n has as many as n has trailing zero bits, and one: this is littlefs' own sum of them (lfs_ctz_index).
    """
    size, room = max(size, 1) - 1, block - 8
    n = size // room
    if n:
        n = (size - 4 * (bin(n - 1).count("1") + 2)) // room
    return n + 1
