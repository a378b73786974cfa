"""An archive without a list of its files: an unsigned tar.gz that holds the whole tree of a new version.

A list like a bundle's is made of it, so that from there on everything is as with a bundle: staged, journalled, on trial.

1. Members may come in any order, as ``x`` or ``./x``, with or without their folders; only regular files and folders.
2. Each path must be allowed in a release (see paths); none stands there twice, in another case, or as file and folder.
3. The file `version` must say what the server announced: otherwise the same archive would be installed for ever.
4. At most 200 files, 8 MiB each, 16 MiB in all.

What the running version has and the archive has not is deleted, and what the new profile's ``ota.delete`` names.
Heap: 45 KB to unpack, unless the gzip header says that it needs a smaller window, and some 80 bytes a file.
"""

import hashlib
import json

import ota_boot

from . import files, paths, release, tar
from .checks import FORMAT, load_object
from .errors import OtaError
from .kept import LIST, entries
from .lines import tree_line

_MAX_FILES = 200
_MAX_TOTAL = 16 * 1024 * 1024
_MAX_PROFILE = 16 * 1024


def read(ota, stream, notes, announced):
    """Read the whole archive, and note every member's path, size and digest in the file `notes`. Generator.

    :param stream: inflate.Gzip.
    :param announced: the version that it must have.
    Returns what write_list needs: the paths, where in the notes each of them is, and the sum of the sizes.
    """
    names, offsets, total = [], [], 0
    version = _Beginning()
    ota_boot.make_parents(notes)
    with open(notes, "wb") as out:
        archive = tar.open_tar(stream)
        for path, member in members(archive):
            total += member.size
            if len(names) >= _MAX_FILES or total > _MAX_TOTAL:
                raise OtaError("too_large", "the archive holds more than %d files or %d bytes" % (_MAX_FILES, _MAX_TOTAL))
            names.append(path)
            offsets.append(out.tell())
            digest = hashlib.sha256()
            yield from tar.copy(archive, member, ota.view, digest, version if path == "version" else None)
            entry = {"path": path, "size": member.size, "sha256": files.hexdigest(digest)}
            out.write(json.dumps(entry).encode() + b"\n")
    if version.data.strip() != announced.encode():
        raise OtaError("version_mismatch", "the archive is not version %s, which was announced" % announced)
    return names, offsets, total


def write_list(notes, name, version, names, offsets, total):
    """Make ``/.ota/list`` of the notes. Generator; returns its header, and for each member its place in the list."""
    order = sorted(range(len(names)), key=lambda i: paths.key(names[i]))
    yield from _write_list(notes, _header(name, version, len(names), total), order, offsets)
    from . import listing

    header = yield from listing.check()  # duplicates, twins, a file that is also a folder
    places = order[:]
    for n, i in enumerate(order):
        places[i] = n
    return header, places


def unpack(ota, stream, notes, header, places, target):
    """Stage the archive, with what read() and write_list() have found out. Generator."""
    from .members import read_file

    with open(ota_boot.ota(LIST), "rb") as f:
        digest = yield from files.hashed(f, ota.view)
    yield from target.begin(header, digest.digest(), None)
    with open(notes, "rb") as found:
        archive = tar.open_tar(stream)
        for place in places:
            entry = json.loads(found.readline())
            path, member = next(members(archive), (None, None))
            if path != entry["path"] or member.size != entry["size"]:
                raise OtaError("bad_digest", "the archive changed while it was read")
            yield from read_file(archive, member, place, entry, ota.view, target)
    from .header import parse_header

    target.header = parse_header(json.dumps(dict(header, delete=_deletes())))


def members(archive):
    """``(path, TarInfo)`` of each file, in the archive's order, if the paths are allowed. Folders need no member of their own."""
    while True:
        member = tar.following(archive)
        if member is None:
            return
        path = _normal(member)
        if member.isdir():
            if path and path != ".":
                paths.check_member(path)
        elif not member.isreg():
            raise OtaError("bad_member", "%s is a link, a device or an extension" % path)
        elif member.size > release.MAX_FILE:
            raise OtaError("too_large", "%s has %d bytes" % (path, member.size))
        else:
            paths.check_member(path)
            yield path, member


def _header(name, version, count, total):
    """A header for what has none: sequence 0 raises no floor, and an empty `micropython` asks for none."""
    return {
        "format": FORMAT, "name": name, "version": version, "sequence": 0, "base": None, "tree": "", "micropython": "",
        "mpy": 0, "created": 0, "expires": None, "notes": "", "files": count, "size": total, "delete": [],
    }  # fmt: skip


def _write_list(notes, header, order, offsets):
    tree = hashlib.sha256()
    with open(notes, "rb") as source:
        for i in order:
            source.seek(offsets[i])
            tree.update(tree_line(json.loads(source.readline())))
            yield
        header["tree"] = files.hexdigest(tree)
        with open(ota_boot.ota(LIST), "wb") as out:
            out.write(json.dumps(header).encode() + b"\n")
            for i in order:
                source.seek(offsets[i])
                out.write(source.readline())
                yield


def _deletes():
    """What the new version's profile wants deleted: as the protocol's own installer does, after the new files are there."""
    for n, entry in entries():
        if entry["path"] == "profile.json":
            staged = ota_boot.slot("stage", n)
            path = staged if ota_boot.exists(staged) else ota_boot.live("profile.json")
            break
    else:
        return []
    if files.file_size(path) > _MAX_PROFILE:
        raise OtaError("bad_bundle", "the new profile is larger than %d bytes" % _MAX_PROFILE)
    with open(path, "rb") as f:
        profile = load_object(f.read(), "the new profile")
    settings = profile.get("ota")
    names = settings.get("delete", []) if isinstance(settings, dict) else []
    return [name.strip("/") if isinstance(name, str) else name for name in names] if isinstance(names, list) else names


class _Beginning:
    """Keeps the beginning of what is copied into it."""

    data = b""

    def write(self, data):
        if len(self.data) < 64:
            self.data += bytes(data[:64])


def _normal(member):
    name = member.name[2:] if member.name.startswith("./") else member.name
    return name[:-1] if member.isdir() and name.endswith("/") else name
