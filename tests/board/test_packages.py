"""Installing a missing library, on a board, from an index on a real HTTP server."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sim.board import Board
from tests.support.driver import device_files, run

_ENSURE = """
from modules.ota.legacy import packages
lines = []
found = packages.ensure(VALUES["name"], VALUES["cfg"], lambda *parts: lines.append(" ".join(str(p) for p in parts)))
return [found.__file__, lines]
"""
_WITHOUT_FROZEN_REQUESTS = "import sys\nsys.path.remove('.frozen')\n"  # and without mip, which imports it
_CODE = b"def get(url):\n    return 'from the index: ' + url\n"


class Index:
    """A package index in a folder, served over HTTP."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/pi"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def add(self, name: str, files: dict[str, bytes], deps: Any = (), **more: Any) -> None:
        hashes = []
        for path, content in files.items():
            short = hashlib.sha256(content).hexdigest()[:8]
            self._write(f"file/{short[:2]}/{short}", content)
            hashes.append([path, short])
        self._write(
            f"package/6/{name}/latest.json",
            json.dumps({"v": 1, "version": "1.0", "hashes": hashes, "deps": deps, **more}).encode(),
        )

    def raw(self, name: str, content: bytes) -> None:
        self._write(f"package/6/{name}/latest.json", content)

    def _write(self, path: str, content: bytes) -> None:
        target = self.folder / "pi" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index(tmp_path / "index")
    yield index
    index.close()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board that has everything but lib/tarfile."""
    board = Board(tmp_path_factory.mktemp("packages") / "board.img")
    board.format()
    board.write({path: content for path, content in device_files().items() if not path.startswith("lib/")})
    return board.image


@pytest.fixture
def board(image: Path, tmp_path: Path) -> Board:
    board = Board(tmp_path / "board.img")
    board.restore(image)
    return board


def ensure(board: Board, name: str, prelude: str = "", **cfg: Any) -> Any:
    return run(board, prelude + _ENSURE, name=name, cfg=cfg)


def live(board: Board) -> dict[str, bytes]:
    """The board's files without the test's own and the update's state."""
    return {path: content for path, content in board.read().files.items() if path != "main.py"}


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_library_that_is_there_is_imported(board: Board) -> None:
    assert ensure(board, "requests")[1] == []


def test_installs_requests_where_no_key_is_pinned(board: Board, index: Index) -> None:
    index.add("requests", {"requests/__init__.py": _CODE, "requests/more.py": b"x = 1\n"}, deps=[["helper", "latest"]])
    index.add("helper", {"helper.py": b"y = 2\n"})
    file, lines = ensure(board, "requests", _WITHOUT_FROZEN_REQUESTS, mip={"index": index.url + "/"})
    assert file == "/lib/requests/__init__.py"
    assert "installed lib/helper.py" in lines
    after = live(board)
    assert after["lib/requests/__init__.py"] == _CODE
    assert after["lib/helper.py"] == b"y = 2\n"
    assert not [path for path in after if path.startswith(".ota/mip")]
    assert ensure(board, "requests", _WITHOUT_FROZEN_REQUESTS)[1] == []  # from now on it is there


def test_installs_tarfile_against_the_digests_of_a_signed_profile(board: Board, index: Index) -> None:
    code = next(content for path, content in device_files().items() if path == "lib/tarfile.mpy")
    index.add("tarfile", {"tarfile.mpy": code})
    cfg: dict[str, Any] = {"public_keys": [{}], "mip": {"index": index.url, "sha256": {"lib/tarfile.mpy": sha(code)}}}
    assert ensure(board, "tarfile", **cfg)[0] == "/lib/tarfile.mpy"
    assert live(board)["lib/tarfile.mpy"] == code


def refused(board: Board, name: str = "requests", **cfg: Any) -> str:
    before = live(board)
    result = ensure(board, name, _WITHOUT_FROZEN_REQUESTS, **cfg)
    assert isinstance(result, dict), "it was installed"
    assert live(board) == before, "something was left behind"
    return f"{result['error']}: {result['message']}"


def test_with_a_pinned_key_only_against_digests(board: Board, index: Index) -> None:
    index.add("requests", {"requests.py": _CODE, "extra.py": b""})
    digests = {"lib/requests.py": sha(_CODE)}
    assert "no_package" in refused(board, public_keys=[{}], mip={"index": index.url})
    assert "bad_digest" in refused(board, public_keys=[{}], mip={"index": index.url, "sha256": digests})  # extra.py is not listed
    index.add("requests", {"requests.py": _CODE + b"#"})
    assert "bad_digest" in refused(board, public_keys=[{}], mip={"index": index.url, "sha256": digests})
    assert "bad_digest" in refused(board, mip={"index": index.url, "sha256": digests})


@pytest.mark.parametrize(
    "path",
    ["../../boot.py", "../boot.py", "/boot.py", "a/../../main.py", "..", "requests/../os.py", "a//b.py", "a\\b.py", "x" * 200],
)
def test_a_path_that_escapes_is_refused(board: Board, index: Index, path: str) -> None:
    index.raw("requests", json.dumps({"hashes": [[path, "12345678"]], "deps": []}).encode())
    assert "bad_path" in refused(board, mip={"index": index.url})


def test_a_built_in_modules_name_is_refused(board: Board, index: Index) -> None:
    index.add("requests", {"requests.py": _CODE, "os.py": b"evil = 1\n"})
    assert "protected_path" in refused(board, mip={"index": index.url})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"hashes": 5}',
        b'{"hashes": [5]}',
        b'{"hashes": [["a"]]}',
        b'{"hashes": [["a.py", "../x"]]}',
        b'{"hashes": [["a.py", 5]]}',
        b'{"deps": [["../x", "latest"]]}',
        b'{"deps": [["http://127.0.0.1:1/x", "latest"]]}',
        b'{"deps": [["requests", "latest"]]}',  # for ever
        b'{"urls": [["a.py", "http://127.0.0.1:1/a.py"]]}',
        b'{"hashes": []}',
        b'{"x": "' + b"y" * 5000 + b'"}',
    ],
)
def test_an_index_that_answers_wrongly_is_refused(board: Board, index: Index, content: bytes) -> None:
    index.raw("requests", content)
    assert "no_package" in refused(board, mip={"index": index.url})


def test_a_file_that_is_too_large_is_refused(board: Board, index: Index) -> None:
    index.add("requests", {"requests.py": b"#" * 70_000})
    assert "no_package" in refused(board, mip={"index": index.url})


def test_an_index_without_the_library(board: Board, index: Index) -> None:
    assert "404" in refused(board, mip={"index": index.url})


def test_without_a_network_or_an_index_it_says_so_in_one_sentence(board: Board, index: Index) -> None:
    assert refused(board) == "no_package: requests is missing, and the profile names no index to fetch it from (ota.mip.index)"
    index.close()
    message = refused(board, mip={"index": index.url})
    assert message.startswith("no_package: requests is missing, and it cannot be fetched: ")
