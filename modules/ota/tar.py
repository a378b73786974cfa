"""The members of a tar archive, read in blocks, with every failure an OtaError."""

from .errors import OtaError

tarfile = None  # lib/tarfile, imported when it is first needed


def open_tar(stream):
    """The members of an archive: lib/tarfile's TarFile."""
    global tarfile
    if tarfile is None:
        import tarfile as found

        tarfile = found
    return tarfile.TarFile(fileobj=stream)


def step(method, *args):
    """The result of one of lib/tarfile's methods; its TarError is an OtaError."""
    try:
        return method(*args)
    except ValueError as error:
        raise OtaError("bad_bundle", str(error))


def following(tar):
    """The next member, or None at the end of the archive."""
    return step(tar.next)


def regular(member):
    return member.type == tarfile.REGTYPE


def copy(tar, member, view, digest=None, out=None):
    """One block a step from the archive into the digest and the file `out`, if there are such."""
    source = tar.extractfile(member)
    left = member.size
    while left:
        part = view if left >= len(view) else view[:left]
        n = step(source.readinto, part)
        part = part if n == len(part) else part[:n]
        if digest:
            digest.update(part)
        if out:
            out.write(part)
        left -= n
        yield
