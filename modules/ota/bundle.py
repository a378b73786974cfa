"""Reading a bundle: everything that a release must be is checked here, in one pass and in constant memory.

A bundle is a gzip-compressed ustar archive: ``.release``, ``.release.sig``, then the files in the order of the list.

1. ``.release`` is copied to ``/.ota/list`` while it is hashed; nothing of it is believed before its signature is right.
2. The header must be for this board (policy), the entries in order, their ``tree`` digest as announced.
3. Each member must be the regular file that the list has in that place, with its size and its digest.
4. After the last file there is the end of the archive, and nothing else.

A `visitor` sees what is being read and may write it: see stage.Stage.
"""

import hashlib

import ota_boot

from . import files, policy, release, sign
from .errors import OtaError
from .kept import LIST, entries

tarfile = None  # lib/tarfile, imported when it is first needed
_MAX_LIST = 1024 * 1024
_PIECE = 256


def read(stream, rules, view, visitor=None):
    """Check the whole bundle that `stream` decompresses, and let `visitor` take from it. Generator; returns the header.

    :param stream: see inflate.
    :param rules: policy.Rules, what this board accepts.
    """
    tar = open_tar(stream)
    digest = yield from _save_list(tar, view)
    member = _next(tar)
    signature = _signature(tar, member, rules, digest)
    if signature is not None:
        member = _next(tar)
    header = yield from check_list(rules)
    if visitor:
        yield from visitor.begin(header, digest, signature)
    yield from _read_files(tar, member, header, view, visitor)
    return header


def open_tar(stream):
    """The members of an archive: lib/tarfile's TarFile."""
    global tarfile
    if tarfile is None:
        import tarfile as found

        tarfile = found
    return tarfile.TarFile(fileobj=stream)


def check_list(rules=None):
    """Check ``/.ota/list``: header, entries, their order, count, sizes and tree digest. Generator; returns the header."""
    tree = hashlib.sha256()
    total = count = 0
    previous = None
    with open(ota_boot.ota(LIST), "rb") as f:
        header = release.parse_header(_line(f, release.MAX_HEADER))
        if rules:
            policy.check_header(header, rules)
        line = _line(f, release.MAX_LINE)
        while line:
            entry = release.parse_entry(line, previous)
            if "excluded" in entry:
                raise OtaError("bad_bundle", "an entry of the release has an unknown key")
            previous = entry["path"]
            count += 1
            total += entry["size"]
            tree.update(release.tree_line(entry))
            yield
            line = _line(f, release.MAX_LINE)
    if count != header["files"] or total != header["size"]:
        raise OtaError("bad_bundle", "the release announces another number or size of files than it lists")
    if files.hexdigest(tree) != header["tree"]:
        raise OtaError("bad_digest", "the list of files does not match its own digest")
    return header


def _line(f, most):
    """The next line without its end, 1 to `most` bytes; empty at the end of the file."""
    line = piece = f.readline(_PIECE)  # readline() takes as much memory as it may return: so in pieces
    while len(piece) == _PIECE and piece[-1] != 10 and len(line) <= most:
        piece = f.readline(_PIECE)
        line += piece
    if line and (line[-1] != 10 or not 1 < len(line) <= most + 1):  # an empty one would look like the end, and hide the rest
        raise OtaError("bad_bundle", "a line of the release is empty, too long or not ended")
    return line[:-1]


def _save_list(tar, view):
    """Copy ``.release`` to flash and return its SHA-256, a hash object. Generator."""
    member = _next(tar)
    if member is None or member.name != ".release" or not _regular(member):
        raise OtaError("bad_bundle", "the archive does not begin with .release")
    if member.size > _MAX_LIST:
        raise OtaError("too_large", "the list of files has %d bytes" % member.size)
    if files.blocks(member.size) * files.block_size() > files.free_bytes():
        raise OtaError("no_space", "no space for the list of files")
    digest = hashlib.sha256()
    ota_boot.make_parents(ota_boot.ota(LIST))
    with open(ota_boot.ota(LIST), "wb") as f:
        yield from copy(tar, member, view, digest, f)
    return digest.digest()


def copy(tar, member, view, digest, out):
    """One block a step from the archive into the digest and, if there is one, the file `out`."""
    source = tar.extractfile(member)
    left = member.size
    while left:
        part = view if left >= len(view) else view[:left]
        n = _step(source.readinto, part)
        part = part if n == len(part) else part[:n]
        digest.update(part)
        if out:
            out.write(part)
        left -= n
        yield


def _signature(tar, member, rules, digest):
    """The raw signature if the archive carries one; refused unless a pinned key made it."""
    if member is None or member.name != ".release.sig":
        if rules.keys:
            raise OtaError("no_signature", "the release is not signed, but this board has a key")
        return None
    if not _regular(member) or member.size != sign.KEY_BYTES:
        raise OtaError("bad_signature", "the signature has not %d bytes" % sign.KEY_BYTES)
    signature = _step(tar.extractfile(member).read, sign.KEY_BYTES)
    if rules.keys and not sign.verify_any(digest, signature, rules.keys):
        raise OtaError("bad_signature", "no pinned key signed this release")
    return signature


def _read_files(tar, member, header, view, visitor):
    for n, entry in entries():
        if member is None or member.name != entry["path"] or not _regular(member):
            raise OtaError("bad_member", "the archive has not %s in its place" % entry["path"])
        if member.size != entry["size"]:
            raise OtaError("bad_size", "%s has another size than announced" % entry["path"])
        yield from read_file(tar, member, n, entry, view, visitor)
        member = _next(tar)
    if member is not None:
        raise OtaError("bad_member", "the archive contains what the release does not list")


def read_file(tar, member, n, entry, view, visitor):
    out = visitor.writer(n, entry) if visitor else None
    digest = hashlib.sha256()
    try:
        yield from copy(tar, member, view, digest, out)
    finally:
        if out:
            out.close()
    if files.hexdigest(digest) != entry["sha256"]:
        raise OtaError("bad_digest", "%s is not what was announced" % entry["path"])
    if out:
        yield from visitor.written(n, entry)


def _next(tar):
    """The next member, or None at the end of the archive."""
    return _step(tar.next)


def _step(method, *args):
    """The result of one of lib/tarfile's methods; its TarError is an OtaError."""
    try:
        return method(*args)
    except ValueError as error:
        raise OtaError("bad_bundle", str(error))


def _regular(member):
    return member.type == tarfile.REGTYPE
