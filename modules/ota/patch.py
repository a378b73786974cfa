"""Patches: a changed file made of pieces of the old one and of new bytes, streamed through one buffer.

    patch    command after command, until the new file has its size; nothing follows
    command  number (length * 2 + 1), signed      copy `length` bytes of the old file; `signed` is the way from the end of the
                                                  last copy (from 0 for the first) to where this one begins
             number (length * 2), the bytes       `length` new bytes
    number   7 bits a byte, the lowest first; 0x80 on every byte but the last; at most 4 bytes
    signed   a number: 2 * n for n >= 0, -2 * n - 1 for n < 0

1. No command is empty, and none makes more than what is missing: so a patch ends.
2. A copy lies within the old file.
3. What the result is worth its digest has to show: that is the caller's business.

Everything else is an OtaError ``bad_patch``.
"""

from .errors import OtaError


def apply(wire, base, size, view, digest, out):
    """Make the new file: into `digest` and, if there is one, the file `out`. Generator: one piece a step.

    :param wire: the patch, a stream with ``readinto``.
    :param base: the old file, open for reading.
    :param size: bytes of the new file.
    """
    end = base.seek(0, 2)
    one = view[:1]
    at = 0
    while size:
        command = _number(wire, one)
        length, source = command >> 1, wire
        if not 0 < length <= size:
            raise OtaError("bad_patch", "a command of the patch is empty, or makes more than the file")
        if command & 1:
            source = base
            at += _signed(_number(wire, one))
            if at < 0 or at + length > end:
                raise OtaError("bad_patch", "the patch copies from outside of the old file")
            base.seek(at)
            at += length
        size -= length
        while length:
            part = view if length >= len(view) else view[:length]
            n = source.readinto(part)
            if not n:
                raise OtaError("bad_patch", "the patch is cut short")
            part = part if n == len(part) else part[:n]
            digest.update(part)
            if out:
                out.write(part)
            length -= n
            yield
    if wire.readinto(one):
        raise OtaError("bad_patch", "something follows the end of the patch")


def _number(wire, one):
    value = shift = 0
    while shift < 28:
        if not wire.readinto(one):
            raise OtaError("bad_patch", "the patch is cut short")
        value |= (one[0] & 0x7F) << shift
        if one[0] < 0x80:
            return value
        shift += 7
    raise OtaError("bad_patch", "a number of the patch is too large")


def _signed(value):
    return -(value >> 1) - 1 if value & 1 else value >> 1
