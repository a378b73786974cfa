"""The `latest` protocol of public-micropython-iot-platform: one unsigned line, and an archive without a list of its files.

    <url>/<shortName in lower case>/latest     ->  1.4.0;firmware.tar.gz;120;43210;<sha256>;

Fields from the third on may be missing (older servers give ``version;file;`` or ``version;file;kb;sha256``). The archive holds
the whole tree of the new version, `version` included; what the running version has and it has not, goes. From it a list like a
bundle's is made, and from there on everything is as with a bundle: the same rules for paths, staged, journalled, on trial.

Nothing here proves where an archive comes from, so this serves boards without a pinned key only (see check). The requests
go through `requests`, because that is what the protocol's servers know: each step may block for as long as its timeout.
It would pass a token on to another host with a redirect, so it gets none of the profile's headers.
"""

import errno
import hashlib
import json
import os

import ota_boot

from . import bundle, check, fetch, files, packages, paths, release, versions
from .connection import ticks_diff, ticks_ms
from .errors import OtaError

_MAX_LATEST = 256
_TIMEOUT_S = 5  # less than the watchdog's 8
_IDLE_MS = 15_000
_TOTAL_MS = 900_000
_SPARE = 4 * 4096
_MAX_FILES = 300
_MAX_TOTAL = 16 * 1024 * 1024
_MAX_PROFILE = 16 * 1024
_MEMBERS = "members"  # the entries in the archive's order, below /.ota


def parse_latest(text):
    """``(version, file, size_kb, size, sha256)`` of a `latest` line, None for what it does not say; OtaError ``bad_channel``."""
    fields = text.strip().split(";")
    if fields[-1] == "":
        fields.pop()
    if not 2 <= len(fields) <= 5 or "\n" in text.strip():
        raise _bad_line("it has not two to five fields")
    version, file = fields[:2]
    if not versions.valid(version):
        raise _bad_line("its version is none")
    if not release.name_ok(file):
        raise _bad_line("its file name is not a plain one")
    if len(fields) == 4 and len(fields[3]) == 64:
        fields.insert(3, "")
    size_kb, size, sha256 = fields[2:] + [""] * (5 - len(fields))
    sha256 = sha256.lower()
    if sha256 and not release.is_digest(sha256):
        raise _bad_line("its digest is none")
    return version, file, _number(size_kb), _number(size), sha256 or None


def latest(ota):
    """Ask for the `latest` line. Generator; returns what parse_latest does."""
    response = Response(ota, ota.url("latest"))
    try:
        if response.status != 200:
            raise check.status_error(response, "latest")
        body = yield from check.read_body(response, _MAX_LATEST)
    finally:
        ota.count(response)
        response.close()
    try:
        return parse_latest(body.decode())
    except UnicodeError:
        raise _bad_line("it is not text")


def download(ota, offer):
    """Bring the archive to ``ota.archive`` and check it as far as that is possible. Generator; a failure leaves nothing."""
    fetch.discard(ota, ota.archive)
    fetch.check_space(offer, 0)
    part = {"legacy": True, "version": offer.version, "size": offer.size, "sha256": offer.sha256}
    ota.store.set("part", part)
    try:
        yield from _receive(ota, offer)
        yield from _scan(ota, part)
    except OtaError:
        fetch.discard(ota, ota.archive)
        raise
    finally:
        _forget()
    part["done"] = True
    ota.store.save()


def unpack(ota, part, target):
    """Stage the archive in ``ota.archive``. Generator.

    :param part: what download() has noted about it.
    :param target: stage.Stage.
    """
    try:
        ranks = yield from _scan(ota, part)
        header = yield from bundle.check_list()
        digest = yield from _list_digest(ota.view)
        yield from target.begin(header, digest, None)
        with open(ota.archive, "rb") as f, open(ota_boot.ota(_MEMBERS), "rb") as lines:
            tar = bundle.open_tar(f)
            for path, member in members(tar):
                entry = json.loads(lines.readline() or b"{}")
                if entry.get("path") != path or entry["size"] != member.size:
                    raise OtaError("bad_digest", "the archive changed while it was read")
                yield from bundle._read_file(tar, member, ranks.pop(0), entry, ota.view, target)
        if ranks:
            raise OtaError("bad_digest", "the archive changed while it was read")
        target.header = release.parse_header(json.dumps(dict(header, delete=_deletes())))
    finally:
        _forget()


def members(tar):
    """``(path, TarInfo)`` of each file, in the archive's order, if the paths are allowed. Folders need no member of their own."""
    while True:
        try:
            member = tar.next()
        except ValueError as error:  # lib/tarfile's TarError
            raise OtaError("bad_bundle", str(error))
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


class Response:
    """An answer that `requests` has got, with the interface of http.Response as far as it is used here."""

    def __init__(self, ota, url):
        requests = packages.ensure("requests", ota.cfg, ota.log)
        self.wire_in = self.wire_out = 0  # bodies only: requests does not count
        self.retry_after = None
        self._began = ticks_ms()
        self._response = _get(requests, url)
        self.status = self._response.status_code
        self._raw = self._response.raw
        if hasattr(self._raw, "setblocking"):
            self._raw.setblocking(False)

    @property
    def length(self):
        """The body's length if the server says so, else None."""
        for name, value in (getattr(self._response, "headers", None) or {}).items():
            if name.lower() == "content-length":
                return _number(value)
        return None

    def read_into(self, view):
        """The next bytes; their number, 0 at the end. Generator."""
        since = ticks_ms()
        while True:
            n = self._try(view)
            yield
            if n is not None:
                self.wire_in += n
                return n
            now = ticks_ms()
            if ticks_diff(now, since) > _IDLE_MS or ticks_diff(now, self._began) > _TOTAL_MS:
                raise OtaError("timeout", "the server is too slow")

    def close(self):
        self._response.close()

    def _try(self, view):
        try:
            return self._raw.readinto(view)
        except OSError as error:
            if error.errno == errno.EAGAIN:
                return None
            raise OtaError("connection_lost", "the connection was lost: %s" % error)


def _get(requests, url):
    try:
        return requests.get(url, timeout=_TIMEOUT_S)
    except OSError as error:
        raise OtaError("timeout" if error.errno == errno.ETIMEDOUT else "connect", "no answer from the server: %s" % error)
    except NotImplementedError as error:  # is a RuntimeError on both interpreters
        raise OtaError("redirect", "a redirect that cannot be followed: %s" % error)
    except RuntimeError:  # requests follows redirects by calling itself
        raise OtaError("redirect", "too many redirects")
    except (ValueError, TypeError, IndexError) as error:
        raise OtaError("bad_response", "the server's answer is not understood: %s" % error)


def _receive(ota, offer):
    """The body to flash, hashed, within the announced size or else what fits on the disk. Generator."""
    response = Response(ota, ota.url(offer.file))
    try:
        if response.status != 200:
            raise check.status_error(response, offer.file)
        size, sha256 = yield from _write(ota, response, offer.size or response.length or 0)
        if size < (offer.size or response.length or 1):
            raise OtaError("connection_lost", "the server sent only %d bytes" % size)
        if offer.sha256 and sha256 != offer.sha256:
            raise OtaError("bad_digest", "the download is not the file that was announced")
    finally:
        ota.count(response)
        response.close()


def _write(ota, response, total):
    most = total or files.free_bytes() - _SPARE
    running = hashlib.sha256()
    held = 0
    ota_boot.make_parents(ota.archive)
    with open(ota.archive, "wb") as f:
        while True:
            n = yield from response.read_into(ota.view)
            if not n:
                return held, files.hexdigest(running)
            held += n
            if held > most:
                raise OtaError("too_large", "the server sends more than %d bytes" % most)
            part = ota.view if n == len(ota.view) else ota.view[:n]
            f.write(part)
            running.update(part)
            ota.progress(held, total)


def _scan(ota, part):
    """Read the whole archive and make ``/.ota/list`` of it. Generator; returns each member's place in that list."""
    names, offsets, total = [], [], 0
    with open(ota.archive, "rb") as f, open(ota_boot.ota(_MEMBERS), "wb") as out:
        tar = bundle.open_tar(f)
        version = None
        for path, member in members(tar):
            total += member.size
            if len(names) >= _MAX_FILES or total > _MAX_TOTAL:
                raise OtaError("too_large", "the archive holds more than %d files or %d bytes" % (_MAX_FILES, _MAX_TOTAL))
            names.append(path)
            offsets.append(out.tell())
            digest = hashlib.sha256()
            content = _Beginning()
            yield from bundle._copy(tar, member, ota.view, digest, content if path == "version" else None)
            version = content.text if path == "version" else version
            entry = {"path": path, "size": member.size, "sha256": files.hexdigest(digest)}
            out.write(json.dumps(entry).encode() + b"\n")
    if version != part["version"]:
        raise OtaError("version_mismatch", "the archive is version %s, not %s as announced" % (version, part["version"]))
    order = sorted(range(len(names)), key=lambda i: paths.key(names[i]))
    header = release_header(ota.name_on_server, part["version"], len(names), total)
    yield from _write_list(header, order, offsets)
    yield from bundle.check_list()  # duplicates, twins, a file that is also a folder
    ranks = order[:]
    for n, i in enumerate(order):
        ranks[i] = n
    return ranks


def release_header(name, version, count, total):
    """A header for what has none: sequence 0 raises no floor, and an empty `micropython` asks for none."""
    return {
        "format": release.FORMAT, "name": name, "version": version, "sequence": 0, "base": None, "tree": "", "micropython": "",
        "mpy": 0, "created": 0, "expires": None, "notes": "", "files": count, "size": total, "delete": [],
    }  # fmt: skip


def _write_list(header, order, offsets):
    tree = hashlib.sha256()
    with open(ota_boot.ota(_MEMBERS), "rb") as source:
        for i in order:
            source.seek(offsets[i])
            tree.update(release.tree_line(json.loads(source.readline())))
            yield
        header["tree"] = files.hexdigest(tree)
        with open(ota_boot.ota(bundle.LIST), "wb") as out:
            out.write(json.dumps(header).encode() + b"\n")
            for i in order:
                source.seek(offsets[i])
                out.write(source.readline())
                yield


def _list_digest(view):
    running = hashlib.sha256()
    with open(ota_boot.ota(bundle.LIST), "rb") as f:
        n = f.readinto(view)
        while n:
            running.update(view[:n])
            yield
            n = f.readinto(view)
    return running.digest()


def _deletes():
    """What the new version's profile wants deleted: as the protocol's own installer does, after the new files are there."""
    for n, entry in bundle.entries():
        if entry["path"] == "profile.json":
            staged = ota_boot.slot("stage", n)
            path = staged if ota_boot.exists(staged) else ota_boot.live("profile.json")
            break
    else:
        return []
    if files.file_size(path) > _MAX_PROFILE:
        raise OtaError("bad_bundle", "the new profile is larger than %d bytes" % _MAX_PROFILE)
    with open(path, "rb") as f:
        profile = release.load_object(f.read(), "the new profile")
    settings = profile.get("ota")
    names = settings.get("delete", []) if isinstance(settings, dict) else []
    return [name.strip("/") if isinstance(name, str) else name for name in names] if isinstance(names, list) else names


class _Beginning:
    """Takes the short text of a file as it is copied."""

    def __init__(self):
        self.text = ""

    def write(self, data):
        try:
            self.text = (self.text + bytes(data[:64]).decode()).strip()[:64]
        except UnicodeError:
            raise OtaError("bad_bundle", "the archive's version is not text")


def _forget():
    if ota_boot.exists(ota_boot.ota(_MEMBERS)):
        os.remove(ota_boot.ota(_MEMBERS))


def _normal(member):
    name = member.name[2:] if member.name.startswith("./") else member.name
    return name[:-1] if member.isdir() and name.endswith("/") else name


def _number(text):
    """A field's whole number, None when it is empty; OtaError when it is something else."""
    if not text:
        return None
    if len(text) > 9 or not all("0" <= c <= "9" for c in text):
        raise _bad_line("a size is not a number")
    return int(text)


def _bad_line(what):
    return OtaError("bad_channel", "the server's `latest` is not right: " + what)
