"""Small PNG files for the documentation: at most 256 colours, without a library.

>>> small = shrink(Path("page.png").read_bytes())

A picture of a page has a few hundred colours, most of them shades at the edge of a letter: the rare ones become their nearest
common one.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOURS = 256
_COMMON = 192  # of them by their number of pixels
_ALIKE = 300  # squared


def shrink(data: bytes) -> bytes:
    """The same picture with a palette. ValueError for what is no PNG of 8-bit RGB or RGBA as Chromium writes it."""
    width, height, pixels = _decode(data)
    palette, index = _palette(Counter(pixels))
    rows = (bytes(index[pixel] for pixel in pixels[at : at + width]) for at in range(0, width * height, width))
    body = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    colours = b"".join(struct.pack(">I", pixel)[1:] for pixel in palette)
    head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"PLTE", colours) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _palette(counts: Counter[int]) -> tuple[list[int], dict[int, int]]:
    """The colours that stay, and the number of the nearest of them for each colour that there is."""
    palette = [pixel for pixel, _count in counts.most_common(_COMMON)]
    rest = sorted(counts.keys() - set(palette), key=lambda pixel: (-_off(palette, pixel), pixel))
    for pixel in rest:  # what is unlike all the others stays too, however small it is
        if len(palette) < _COLOURS and _off(palette[_COMMON:], pixel) > _ALIKE:
            palette.append(pixel)
    index = {pixel: number for number, pixel in enumerate(palette)}
    for pixel in counts.keys() - index.keys():
        index[pixel] = min(range(len(palette)), key=lambda number: _distance(palette[number], pixel))
    return palette, index


def _off(palette: list[int], pixel: int) -> int:
    """How far the nearest colour is."""
    return min((_distance(known, pixel) for known in palette), default=_ALIKE + 1)


def _distance(one: int, other: int) -> int:
    return sum(((one >> shift & 255) - (other >> shift & 255)) ** 2 for shift in (0, 8, 16))


def _decode(data: bytes) -> tuple[int, int, list[int]]:
    """Width, height, and the pixels as 0xRRGGBB."""
    chunks = list(_chunks(data))
    width, height, depth, kind, _compression, _filter, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    if depth != 8 or kind not in (2, 6) or interlaced:
        raise ValueError("only 8-bit RGB and RGBA without interlacing")
    size = 3 if kind == 2 else 4
    raw = zlib.decompress(b"".join(content for name, content in chunks if name == b"IDAT"))
    pixels: list[int] = []
    above = bytearray(width * size)
    for at in range(0, len(raw), width * size + 1):
        above = _unfilter(raw[at], bytearray(raw[at + 1 : at + 1 + width * size]), above, size)
        pixels.extend(r << 16 | g << 8 | b for r, g, b in zip(above[0::size], above[1::size], above[2::size], strict=True))
    return width, height, pixels


def _unfilter(kind: int, row: bytearray, above: bytearray, size: int) -> bytearray:
    for at in range(len(row)) if kind else ():
        left = row[at - size] if at >= size else 0
        corner = above[at - size] if at >= size else 0
        row[at] = (row[at] + (left, above[at], (left + above[at]) // 2, _paeth(left, above[at], corner))[kind - 1]) & 255
    return row


def _paeth(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    return min((left, above, corner), key=lambda value: abs(guess - value))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not data.startswith(_SIGNATURE):
        raise ValueError("this is no PNG file")
    at = len(_SIGNATURE)
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
