"""lib/tarfile.py against archives of CPython's tarfile, and against damaged ones."""

import importlib.util
import io
import tarfile as standard
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

_PATH = Path(__file__).parents[2] / "lib" / "tarfile.py"
_SPEC = importlib.util.spec_from_file_location("board_tarfile", _PATH)  # the standard library owns the name
assert _SPEC and _SPEC.loader
tarfile: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tarfile)

_NAME = st.text("abc._-é/", min_size=1, max_size=240)
_FILES = st.lists(st.tuples(_NAME, st.binary(max_size=2000)), max_size=6)


def archive(members: Iterable[tuple[str | standard.TarInfo, bytes]], form: int = standard.USTAR_FORMAT) -> bytes:
    """A tar archive of ``(name or TarInfo, content)``."""
    out = io.BytesIO()
    with standard.open(fileobj=out, mode="w", format=form, encoding="utf-8") as tar:
        for info, content in members:
            info = standard.TarInfo(info) if isinstance(info, str) else info
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def read(data: bytes) -> list[Any]:
    """What our reader makes of an archive: ``(name, type, content)``."""
    tar = tarfile.TarFile(fileobj=io.BytesIO(data))
    return [(m.name, m.type, tar.extractfile(m).read()) for m in tar]


def fix_checksum(header: bytearray) -> None:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)


def patched(offset: int, value: bytes, data: bytes | None = None) -> bytes:
    """A one-file archive with bytes of its header replaced, the checksum made right again."""
    whole = bytearray(data or archive([("file", b"content")]))
    header = whole[:512]
    header[offset : offset + len(value)] = value
    fix_checksum(header)
    return bytes(header + whole[512:])


def _fits(name: str) -> bool:
    try:
        archive([(name, b"")])
    except ValueError:
        return False
    return name.strip("/") != ""


@given(_FILES)
def test_reads_what_the_standard_library_writes(files: list[tuple[str, bytes]]) -> None:
    files = [(name.rstrip("/"), content) for name, content in files if _fits(name)]
    assert read(archive(files)) == [(name, "file", content) for name, content in files]


@given(_FILES, st.integers(1, 700))
def test_members_can_be_skipped_and_read_in_pieces(files: list[tuple[str, bytes]], step: int) -> None:
    files = [(name.rstrip("/"), content) for name, content in files if _fits(name)]
    tar = tarfile.TarFile(fileobj=io.BytesIO(archive(files)))
    for i, member in enumerate(tar):
        if i % 2:
            continue
        section, found = tar.extractfile(member), b""
        buffer = bytearray(step)
        while n := section.readinto(buffer):
            found += buffer[:n]
        assert found == files[i][1]
        assert section.read() == b""


def test_gnu_archives_are_read() -> None:
    assert read(archive([("a", b"1"), ("b", b"")], standard.GNU_FORMAT)) == [("a", "file", b"1"), ("b", "file", b"")]


@pytest.mark.parametrize(
    ("flag", "kind"),
    [(b"0", "file"), (b"\0", "file"), (b"1", "a hard link"), (b"2", "a symbolic link"), (b"3", "a character device"),
     (b"4", "a block device"), (b"5", "dir"), (b"6", "a named pipe"), (b"x", "an extension"), (b"g", "an extension"),
     (b"L", "an extension"), (b"K", "an extension"), (b"7", "of an unknown type"), (b"S", "of an unknown type"),
     (b"\xff", "of an unknown type")],
)  # fmt: skip
def test_each_type_is_surfaced(flag: bytes, kind: str) -> None:
    assert [m[1] for m in read(patched(156, flag, archive([("file", b"")])))] == [kind]


def test_a_name_with_a_slash_at_its_end_is_a_folder() -> None:
    assert read(patched(0, b"folder/", archive([("x", b"")]))) == [("folder/", "dir", b"")]


def test_names_are_given_out_as_they_are() -> None:
    assert [m[0] for m in read(archive([("../boot.py", b""), ("/boot.py", b""), ("./a", b"")]))] == [
        "../boot.py",
        "/boot.py",
        "./a",
    ]


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (124, b"-0000000001\0"),  # a negative size
        (124, b"\x80" + b"\0" * 10 + b"\7"),  # base 256
        (124, b"\xff" * 12),
        (124, b"77777777777\0"),  # 8 GiB
        (124, b"0x000000007\0"),
        (124, b" 0000000007\0"),
        (124, b"0000000 007\0"),
        (124, b"\0" * 12),
        (124, b" " * 12),
        (124, b"00000000_07\0"),
        (100, b"999\0"),
        (108, b"\x80\0\0\0\0\0\0\1"),
        (136, b"later\0"),
        (257, b"nustar"),
        (257, b"\0" * 8),
        (263, b"99"),
        (0, b"\0name"),  # no name
        (0, b"name\0more"),
        (0, b"\xff\xfe\0\0"),  # no UTF-8
        (345, b"pre\0fix"),
        (156, b"5"),  # a folder, a link and a device with content
        (156, b"2"),
        (156, b"3"),
    ],
)
def test_refuses_a_bad_header(offset: int, value: bytes) -> None:
    with pytest.raises(tarfile.TarError):
        read(patched(offset, value))


def test_every_flipped_bit_of_a_header_is_noticed() -> None:
    data = archive([("file", b"content")])
    for i in range(512):
        for bit in (1, 0x80):
            damaged = bytearray(data)
            damaged[i] ^= bit
            with pytest.raises(tarfile.TarError):
                read(bytes(damaged))


def test_every_truncation_is_noticed() -> None:
    data = archive([("a", b"x" * 600), ("b", b"y")])
    end = data.rindex(b"y") + 511 + 512  # one zero block has to follow
    for length in range(0, end, 7):
        with pytest.raises(tarfile.TarError):
            read(data[:length])
    assert len(read(data[: end + 1])) == 2


@pytest.mark.parametrize("tail", [b"x", b"\0" * 511 + b"x", b"\0" * 512 * 70])
def test_refuses_what_stands_behind_the_end(tail: bytes) -> None:
    with pytest.raises(tarfile.TarError):
        read(archive([("a", b"")]).rstrip(b"\0").ljust(512, b"\0") + b"\0" * 1024 + tail)


@given(st.binary(max_size=3000))
def test_garbage_is_a_tar_error_and_nothing_else(data: bytes) -> None:
    with pytest.raises(tarfile.TarError):
        read(data)


@given(st.data())
def test_a_damaged_archive_is_a_tar_error_or_readable(data: st.DataObject) -> None:
    content = bytearray(archive([("a", b"x" * 600), ("b/c", b"y" * 30)]))
    for position in data.draw(st.lists(st.integers(0, 2600), max_size=5)):
        content[position] = data.draw(st.integers(0, 255))
    try:
        read(bytes(content))
    except tarfile.TarError:
        return
