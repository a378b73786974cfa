"""Making patches (docs/formats.md, "Patches"): the new file as copies from the old one and new bytes.

The old file is indexed by short pieces; the new one is read once from its beginning to its end. At each place the copy that goes
on where the last one would have gone on is tried first, then the places where the next bytes stand in the old file. The longest
copy is taken and extended backwards. So the time grows with the sizes of the files, whatever is in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_PIECE = 4  # bytes that must be equal for a place to be looked at
_LARGE = 512 * 1024  # bytes: of a larger old file only every n-th piece of n bytes is indexed
_LARGE_PIECE = 16
_PLACES = 6  # that are looked at for one piece
_WORTH = 6  # bytes: a shorter copy from some other place costs as much as its bytes


def make(old: bytes, new: bytes) -> bytes:
    """A patch that makes `new` of `old`."""
    out = bytearray()
    end = 0  # of the last copy, in the old file
    for start, at, length in _commands(old, new):
        if at < 0:
            out += _number(length << 1) + new[start : start + length]
        else:
            out += _number(length << 1 | 1) + _number(_zigzag(at - end))
            end = at + length
    return bytes(out)


def _commands(old: bytes, new: bytes) -> Iterator[tuple[int, int, int]]:
    """``(start in new, start in old or -1, length)``, one after the other, all of `new`."""
    piece = _PIECE if len(old) <= _LARGE else _LARGE_PIECE
    index = _index(old, piece, 1 if len(old) <= _LARGE else piece)
    position = done = 0  # where we look; up to where commands have been given
    end = 0  # of the last copy in the old file: `end + position - done` goes on with it
    while position < len(new):
        at, length = _best(old, new, position, index.get(new[position : position + piece], ()), end + position - done)
        if not length:
            position += 1
            continue
        back = 0
        while position - back > done and at - back > 0 and old[at - back - 1] == new[position - back - 1]:
            back += 1
        position, at, length = position - back, at - back, length + back
        if position > done:
            yield done, -1, position - done
        yield position, at, length
        position = done = position + length
        end = at + length
    if position > done:
        yield done, -1, position - done


def _index(old: bytes, piece: int, step: int) -> dict[bytes, list[int]]:
    index: dict[bytes, list[int]] = {}
    for at in range(0, len(old) - piece + 1, step):
        places = index.setdefault(old[at : at + piece], [])
        if len(places) < _PLACES:
            places.append(at)
    return index


def _best(old: bytes, new: bytes, position: int, places: Sequence[int], expected: int) -> tuple[int, int]:
    """Where in the old file the longest copy for this place begins, and its length; 0 when there is none worth it."""
    best, length = expected, _equal(old, expected, new, position)
    if length >= 4 * _WORTH:
        return best, length
    for at in places:
        found = _equal(old, at, new, position)
        if found >= _WORTH and found > length + 3:  # another place costs some bytes to name
            best, length = at, found
    return best, length if length >= _PIECE else 0


def _equal(old: bytes, at: int, new: bytes, position: int) -> int:
    """How many bytes are the same from there on."""
    most = min(len(old) - at, len(new) - position)
    same, piece = 0, 32
    while same < most:
        take = min(piece, most - same)
        if old[at + same : at + same + take] == new[position + same : position + same + take]:
            same += take
            piece *= 2
        elif take == 1:
            break
        else:
            piece = max(1, take // 2)
            most = min(most, same + take)
    return max(same, 0)


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else -value * 2 - 1


def _number(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
