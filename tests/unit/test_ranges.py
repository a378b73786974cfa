"""What of a bundle is fetched, in which requests, and what the reader makes of it: any tree, any part of it that is wanted."""

from __future__ import annotations

import hashlib
import io
import os
import random
import tempfile
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import ota_boot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotctl import archive, bundle
from iotctl.archive import Entry
from modules.ota.bundle import lists, reader
from modules.ota.release.manifest import PIECE
from modules.ota.transport.http import Http
from modules.ota.transport.ranges import GAP, FromServer, runs
from tests.support.scripted_server import KEEP, Route, ScriptedServer, always, answer, proper

NAMES = [f"{letter}/{n}" for letter in "abc" for n in range(6)] + ["version", "main.py", "z.txt"]
SIZES = (0, 1, 511, 512, 513, 3_000, archive.GROUP - 512, archive.GROUP, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 70_001)


@st.composite
def trees(draw: st.DrawFn) -> tuple[dict[str, bytes], set[str]]:
    """Files of any size, some of which do not compress; and which of them are wanted."""
    paths = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    files = {}
    for n, path in enumerate(sorted(paths)):
        size = draw(st.one_of(st.sampled_from(SIZES), st.integers(0, 5_000)))
        files[path] = random.Random(n).randbytes(size) if draw(st.booleans()) else bytes(size)
    return files, set(draw(st.lists(st.sampled_from(sorted(paths)), unique=True)))


class Source:
    """Bytes in memory, and which of them were asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)
        self.asked: list[tuple[int, int]] = []
        self._at = self._end = 0

    def go(self, begin: int, end: int) -> Iterator[None]:
        self.asked.append((begin, end))
        self._at, self._end = begin, end
        yield

    def read_into(self, view: memoryview) -> Generator[None, None, int]:
        part = self._data[self._at : min(self._end, self._at + len(view), self._at + 700)]
        view[: len(part)] = part
        self._at += len(part)
        yield
        return len(part)


class Wants:
    """A visitor that takes some files, and has them afterwards."""

    def __init__(self, wanted: set[str]) -> None:
        self._wanted = wanted
        self.files: dict[str, bytes] = {}
        self.pieces: dict[tuple[int, int], int] = {}  # where in the bundle a large file goes on

    def start(self, n: int, at: int) -> int | None:
        listed: list[Any] = next(entry for m, entry in lists.entries() if m == n)
        return at if listed[0] in self._wanted else None

    def open(self, _n: int, path: str) -> Generator[None, None, tuple[io.BytesIO, Any, int]]:
        yield
        return _Kept(self.files, path), hashlib.sha256(), 0

    def wrote(self, _size: int) -> None:
        """The progress is of no interest."""

    def checkpoint(self, n: int, _out: io.BytesIO, done: int, at: int) -> None:
        self.pieces[n, done] = at

    def written(self, _path: str, _size: int, digest: Any, wanted: bytes) -> None:
        assert digest.digest() == wanted


class _Kept(io.BytesIO):
    def __init__(self, files: dict[str, bytes], path: str) -> None:
        super().__init__()
        self._files, self._path = files, path

    def close(self) -> None:
        self._files[self._path] = self.getvalue()
        super().close()


def finish(job: Iterable[Any]) -> None:
    for _step in job:
        pass


HEAD = b"the head is somebody else's business"


@pytest.fixture(scope="module", autouse=True)
def board() -> Iterator[None]:
    """A folder in which the list lies, as on a board's flash."""
    loader: Any = ota_boot
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(loader, "ROOT", folder)
        patch.setattr(loader, "os", os, raising=False)
        (Path(folder) / ".ota").mkdir()
        yield


def put_list(files: dict[str, bytes]) -> tuple[list[Entry], bytes]:
    """Leave the list of these files on flash; returns its entries, and the whole bundle."""
    lines, packed = bundle._pack_files(files)
    Path(ota_boot.ota(lists.LIST)).write_bytes(b'{"sequence":1,"files":%d}\n' % len(files) + lines)
    return [Entry(*entry) for _n, entry in lists.entries()], HEAD + packed


def groups(entries: list[Entry], whole: int, wanted: set[str]) -> list[tuple[int, int]]:
    """Where the groups with wanted files are in the bundle; whoever wants the last one reads on to the end of the archive."""
    places = sorted({entry.at for entry in entries})
    ends = dict(zip(places, [*(len(HEAD) + at for at in places[1:]), whole], strict=True))
    return [(len(HEAD) + at, ends[at]) for at in places if any(e.at == at and e.path in wanted for e in entries)]


@given(trees())
@settings(max_examples=150)
def test_exactly_the_wanted_files_come_out_and_nothing_else_is_asked_for(tree: tuple[dict[str, bytes], set[str]]) -> None:
    files, wanted = tree
    entries, data = put_list(files)
    source, visitor = Source(data), Wants(wanted)
    finish(reader.read_files(source, len(HEAD), memoryview(bytearray(1024)), visitor))
    assert visitor.files == {path: files[path] for path in wanted}
    needed = groups(entries, len(data), wanted)
    joined: list[tuple[int, int]] = []
    for begin, end in needed:
        if joined and begin - joined[-1][1] <= GAP:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    assert source.asked == joined, "each wanted group, joined with its neighbour over at most a small gap"


@given(trees())
@settings(max_examples=150)
def test_a_large_file_may_begin_at_any_of_its_pieces(tree: tuple[dict[str, bytes], set[str]]) -> None:
    """Where it goes on is where the piece before ended, and what is asked for begins there."""
    files, _wanted = tree
    entries, data = put_list(files)
    visitor = Wants(set(files))
    finish(reader.read_files(Source(data), len(HEAD), memoryview(bytearray(1024)), visitor))
    assert set(visitor.pieces) == {(n, done) for n, entry in enumerate(entries) for done in range(PIECE, entry.size, PIECE)}
    for (n, done), at in visitor.pieces.items():
        again, path = Source(data), entries[n].path
        rest = Resumes(n, at, files[path][:done])
        finish(reader.read_files(again, len(HEAD), memoryview(bytearray(1024)), rest))
        assert rest.files == {path: files[path]}
        assert again.asked[0][0] == len(HEAD) + at


class Resumes(Wants):
    """Wants one file, of which it has the beginning."""

    def __init__(self, n: int, at: int, held: bytes) -> None:
        super().__init__(set())
        self._n, self._at, self._held = n, at, held

    def start(self, n: int, _at: int) -> int | None:
        return self._at if n == self._n else None

    def open(self, _n: int, path: str) -> Generator[None, None, tuple[io.BytesIO, Any, int]]:
        yield
        out = _Kept(self.files, path)
        out.write(self._held)
        return out, hashlib.sha256(self._held), len(self._held)


@given(trees())
@settings(max_examples=40)
def test_a_server_gives_the_same_in_parts_and_in_sequence(tree: tuple[dict[str, bytes], set[str]]) -> None:
    files, wanted = tree
    _entries, data = put_list(files)
    joined = list(runs(lists.entries(), Wants(wanted).start, len(data) - len(HEAD)))
    whole: Route = always(answer(data), KEEP)
    for route, most in ((proper(data), len(joined)), (whole, 1)):
        with ScriptedServer() as server:
            server.routes["/bundle"] = route
            http = Http(server.url)
            source, visitor = FromServer(http, "/bundle", len(HEAD), len(data), lambda *_parts: None), Wants(wanted)
            finish(reader.read_files(source, len(HEAD), memoryview(bytearray(1024)), visitor))
            source.close()
            http.close()
        assert visitor.files == {path: files[path] for path in wanted}
        assert len(server.requests) == (most if wanted else 0)
        assert server.connections <= 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3_000)), max_size=40), st.sets(st.integers(0, 60)))
def test_runs_cover_what_is_wanted_and_lie_apart(shape: list[tuple[int, int]], wanted: set[int]) -> None:
    """Groups of several files each, of any length: by the list alone."""
    entries: list[Entry] = []
    at = 0
    for more, length in shape:
        entries += [Entry(str(n), 0, b"", at) for n in range(more + 1)]
        at += length
    listed = list(enumerate(entries))
    found = list(runs(listed, lambda n, at: at if n in wanted else None, at))
    assert [last for _b, _e, last in found] == sorted(last for _b, _e, last in found)
    for (_b, end, _l), (begin, _e, _last) in zip(found, found[1:], strict=False):
        assert begin - end > GAP
    for n, entry in listed:
        if n in wanted:
            following = next((later.at for later in entries if later.at > entry.at), at)
            assert any(begin <= entry.at and following <= end and n <= last for begin, end, last in found)
    assert found or not any(n in wanted for n, _entry in listed)
