"""The `latest` protocol of public-micropython-iot-platform: a line that says what is current, an unsigned tar.gz without a list.

Nothing proves where it comes from, so this serves only boards that have no pinned key (see job.look). A list like a bundle's is
made of the archive, so that from there on everything is as with a bundle: staged, journalled, on trial.

1. Members may come in any order, as ``x`` or ``./x``, with or without their folders; only regular files and folders.
2. Each path must be allowed in a release (see paths); none stands there twice, in another case, or as file and folder.
3. It has the loader and OTA, unless they lie beside the release that runs: without them no update would ever follow.
4. The file `version` must say what the server announced: otherwise the same archive would be installed for ever.

What the running version has and the archive has not is deleted, and what the new profile's ``ota.delete`` names.
Heap: 45 KB to unpack, unless the gzip header says that it needs a smaller window, and some 80 bytes a file.
"""

import gc
import hashlib
import io
import json
import os
import tarfile

import ota_boot
from micropython import const

from .. import check
from ..bundle.lists import DIGEST, LIST, RUNNING, entries
from ..errors import OtaError
from ..install import files, prepare
from ..install.stage import Stage
from ..release import manifest, paths
from ..release.fields import FORMAT, compare_versions, load_object

try:
    import deflate
except ImportError:  # CPython: only the pure parts are used there
    deflate = None

_MAX_FILES = const(200)
_MAX_TOTAL = const(16 * 1024 * 1024)
_MAX_TEXT = const(16 * 1024)  # bytes of `version` and of the profile


def decide(ota, line, force):
    """The offer (see check.decide), without `head`, that the fields of `latest` make to this board; or None."""
    version, file, _size_kb, size, sha256 = line
    ota.log("latest is %s, running %s" % (version, ota.local_version()))
    source = sha256 or "%s;%s" % (version, file)
    if not force:
        if compare_versions(version, ota.local_version()) <= 0:
            return None
        failure = check.failure(ota, 0)  # such a release has no sequence
        if failure and failure[0] == version:
            check.check_failed(ota, version, failure)
        check.check_refused(ota, version, source)
    return {"version": version, "source": source, "notes": "", "file": file, "size": size, "sha256": sha256}


def unpack(ota, offer):
    """Check the archive in ``ota.archive``, make a list of it and stage it. Generator."""
    notes = ota_boot.ota("members")
    try:
        ota.log("verifying")
        places, total, deletes = yield from _scan(ota, offer["version"], notes)
        yield from _write_list(ota, offer["version"], notes, places, total, deletes)
        with open(ota_boot.ota(LIST), "rb") as f:
            header = yield from manifest.check(f)  # duplicates, twins, a file that is also a folder
        yield from _stage(ota, notes, header, {at: n for n, at in enumerate(places)})
    finally:
        if ota_boot.exists(notes):
            os.remove(notes)


def _scan(ota, announced, notes):
    """Read the whole archive, and note every member's path, size and digest in the file `notes`. Generator.

    Returns where in the notes each of them is, in the order of a list, the sum of the sizes, and what is to be deleted.
    """
    missing = {"ota_boot.py", "modules/ota"}
    found, n = [None] * _MAX_FILES, 0  # one that grows needs 1 KiB in one piece: later there is none
    total, texts = 0, {"version": b"", "profile.json": b"{}"}
    ota_boot.make_parents(notes)
    with _Archive(ota.archive) as archive, open(notes, "wb") as out:
        for path, member in archive.members():
            total += member.size
            if n >= _MAX_FILES or total > _MAX_TOTAL:
                raise OtaError("too_large", "the archive has more than %d files or %d bytes" % (_MAX_FILES, _MAX_TOTAL))
            missing.discard("modules/ota" if path.startswith("modules/ota/") else path)
            found[n] = (paths.key(path), out.tell())
            n += 1
            digest, text = hashlib.sha256(), io.BytesIO() if path in texts else None
            if text and member.size > _MAX_TEXT:
                raise OtaError("bad_bundle", "%s is larger than %d bytes" % (path, _MAX_TEXT))
            yield from archive.copy(member, ota.view, digest, text)
            if text:
                texts[path] = text.getvalue()
            out.write(manifest.entry_line(path, member.size, 0))
            out.write(digest.digest())
    if texts["version"].strip() != announced.encode():
        raise OtaError("version_mismatch", "the archive is not version %s, which was announced" % announced)
    listed = [entry[0] == "ota_boot.py" for _n, entry in entries(RUNNING)]
    if missing and (any(listed) or not listed):
        raise OtaError("wrong_name", "of another platform: it has no " + missing.pop())
    del found[n:]
    found.sort()
    for n, entry in enumerate(found):
        found[n] = entry[1]
    return found, total, _deletes(ota, texts["profile.json"])


def _deletes(ota, profile):
    """What the new version's profile wants deleted: as the protocol's own installer does, after the new files are there."""
    kept = paths.excluded("profile.json", ota.excluded)
    settings = ota.cfg if kept else load_object(profile, "the new profile").get("ota")
    names = settings.get("delete", []) if isinstance(settings, dict) else []
    return [name.strip("/") if isinstance(name, str) else name for name in names] if isinstance(names, list) else names


def _write_list(ota, version, notes, places, total, deletes):
    """Make ``/.ota/list`` of the notes; sequence 0 raises no floor, and an empty `micropython` asks for none. Generator."""
    header = {
        "format": FORMAT, "name": ota.name_on_server, "version": version, "sequence": 0, "micropython": "", "mpy": 0,
        "created": 0, "expires": None, "notes": "", "files": len(places), "size": total, "delete": deletes,
    }  # fmt: skip
    with open(notes, "rb") as source, open(ota_boot.ota(LIST), "wb") as out:
        out.write(manifest.header_line(header))
        for n, at in enumerate(places):
            source.seek(at)
            path, size, _at = json.loads(source.readline())
            out.write(manifest.entry_line(path, size, n))
            yield
        for at in places:
            source.seek(at)
            source.readline()
            out.write(source.read(DIGEST))
            yield


def _stage(ota, notes, header, numbers):
    """Stage the archive. Generator; `numbers`: the number in the list of what stands somewhere in the notes."""
    with open(ota_boot.ota(LIST), "rb") as f:
        digest = yield from files.hashed(f, ota.view)
    target = Stage(ota, *(yield from prepare.plan(ota, header, digest.digest())))
    with _Archive(ota.archive) as archive, open(notes, "rb") as found:
        for path, member in archive.members():
            n, entry, wanted = numbers.get(found.tell()), json.loads(found.readline() or "[0]"), found.read(DIGEST)
            if n is None or entry[:2] != [path, member.size]:
                break
            if target.start(n, n) is not None:
                out, digest, _done = yield from target.open(n, path)
                with out:
                    yield from archive.copy(member, ota.view, digest, out)
                target.written(path, member.size, digest, wanted)
            else:
                yield from archive.copy(member, ota.view)
        else:
            if not found.read(1):
                return
    raise OtaError("bad_digest", "the archive changed while it was read")


class _Archive:
    """A tar.gz on flash, with every failure an OtaError. The window comes first, while there is a piece of memory that large."""

    def __init__(self, path):
        self._f = open(path, "rb")
        gc.collect()
        try:
            self._stream = deflate.DeflateIO(self._f, deflate.GZIP, self._window())
            self._tar = tarfile.TarFile(fileobj=self._stream)
        except Exception:
            self._f.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self._f.close()

    def members(self):
        """``(path, TarInfo)`` of each file, in the archive's order, if the paths are allowed."""
        while True:
            member = self._step(self._tar.next)
            if member is None:
                return
            path = member.name[2:] if member.name.startswith("./") else member.name
            if member.isdir():
                path = path.rstrip("/")
                if path and path != ".":
                    paths.check_member(path)
            elif not member.isreg():
                raise OtaError("bad_member", "%s is a link, a device or an extension" % path)
            elif member.size > manifest.MAX_FILE:
                raise OtaError("too_large", "%s has %d bytes" % (path, member.size))
            else:
                paths.check_member(path)
                yield path, member

    def copy(self, member, view, digest=None, out=None):
        """One block a step into the digest and the file `out`, if there are such. Generator."""
        source, left = self._tar.extractfile(member), member.size
        while left:
            part = view if left >= len(view) else view[:left]
            n = self._step(source.readinto, part)
            part = part if n == len(part) else part[:n]
            if digest:
                digest.update(part)
            if out:
                out.write(part)
            left -= n
            yield

    def _step(self, method, *args):
        try:
            return method(*args)
        except (OSError, EOFError):
            raise OtaError("bad_bundle", "the archive is damaged or cut short")
        except ValueError as error:
            raise OtaError("bad_bundle", str(error) or "the archive is damaged")
        except MemoryError:
            raise OtaError("no_memory", "too little memory to unpack the archive")

    def _window(self):
        """The window's bits from gzip's extra field ``WB`` (RFC 1952), or 15, the most that gzip can need."""
        start = self._f.read(17)
        self._f.seek(0)
        if start[:3] != b"\x1f\x8b\x08":
            raise OtaError("bad_bundle", "this is no gzip archive")
        if len(start) == 17 and start[3] & 4 and start[12:16] == b"WB\x01\x00" and 8 <= start[16] <= 15:
            return start[16]
        return 15
