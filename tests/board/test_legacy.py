"""The `latest` protocol on a board: through the real `requests`, over real HTTP, into the real stage and journal."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import socket
import struct
import tarfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, count
from pathlib import Path
from typing import Any

import pytest

from sim.board import Board
from tests.support.driver import new_board, run
from tests.support.name_server import NameServer, silence
from tests.support.scripted_server import ScriptedServer, always, answer, endless
from tests.support.site import GAP_MS, PATIENCE_S, Site
from tests.support.world import digest
from tests.unit.test_http import certificates, secure

__all__ = ["certificates"]  # a fixture

# What the code of an update sees of its job, with the real store and the real stage behind it.
_JOB = """
import os, ota_boot
from iot_platform.runtime import Platform
from iot_platform.slots import Slots
from modules.ota import phases, updates
from modules.ota.job import Job

class Board(Job):
    def __init__(self):
        self.platform, self.cfg, self.keys, self.excluded = Platform(), {"url": VALUES["url"]}, (), ("keep.txt",)
        self.archive, self.view = "/ota.tmp", memoryview(bytearray(1024))
        self.store = Slots((ota_boot.ota("state.0"), ota_boot.ota("state.1")))
        self.name_on_server, self.bytes, self._http, self.verified = "Old-Board", 0, None, None
    def url(self, file):
        return VALUES["url"] + "/old-board/" + file
    def local_version(self):
        return "1.0.0"
    def log(self, *parts):
        print(*parts)
    def warn(self, *parts):
        print(*parts)
    def spent(self, n):
        self.bytes += n
    def progress(self, done, total):
        self.done = done

job = Board()
"""
_LATEST = _JOB + """
line = finish(job.phase("legacy.requests_http", "ask", job))
found = phases.call("legacy.latest", "decide", job, line, False)
return [found[key] for key in ("version", "file", "size", "sha256")]
"""
_DOWNLOAD = _JOB + """
def changed(steps):
    while True:
        try:
            yield next(steps)
        except StopIteration as stop:
            return stop.value
        if ota_boot.exists("/.ota/list") and VALUES.pop("change", False):
            with open(job.archive, "r+b") as f:
                f.seek(-40, 2)
                f.write(b"changed")

def committed(job):
    header = yield from job.phase("install.prepare", "recheck", job, False)
    yield from job.phase("install.journal", "commit", job, header)
    return header["version"]

offer = dict(zip(("version", "file", "size", "sha256"), VALUES["offer"]))
late = 0
for step in updates._fill_from_archive(job, offer), committed(job):
    version = finish(changed(step))
    late = max(late, longest)
return [version, late]
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    board = new_board(tmp_path_factory.mktemp("legacy") / "board.img", fs="fat")  # see tests/hostile/test_sweeps.py
    board.write(
        {"old.py": b"old = 1\n", "gone/x.py": b"", "keep.txt": b"mine", "version": b"1.0.0\n", "modules/door.mpy": b"old"}
    )
    return board.image


@pytest.fixture
def board(image: Path, tmp_path: Path) -> Board:
    board = Board(tmp_path / "board.img", fs="fat", heap="192k")  # others' gzip needs a window of 32 KB, in one piece
    board.restore(image)
    return board


def archive(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    """A tar.gz as that platform's tools make it: folders of their own, names with ``./``, in any order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        root = tarfile.TarInfo("./")
        root.type = tarfile.DIRTYPE
        tar.addfile(root)
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            if path.endswith("/"):
                info.type = tarfile.DIRTYPE
            tar.addfile(info, io.BytesIO(content))
        for path, target in (links or {}).items():
            info = tarfile.TarInfo(path)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return gzip.compress(out.getvalue(), mtime=0)


NEW = {
    "./version": b"1.1.0\n",
    "./modules/": b"",
    "./modules/door.py": b"new = 1\n" * 300,
    "./main.py": b"print('new')\n",
    "./ota_boot.py": b"# a loader\n",
    "./modules/ota/": b"",
    "./modules/ota/__init__.py": b"",
    "./keep.txt": b"theirs",
    "./profile.json": json.dumps({"ota": {"delete": ["gone", "/old.py"]}}).encode(),
}


def without(path: str) -> dict[str, bytes]:
    return {name: data for name, data in NEW.items() if name != path}


def download(board: Board, data: bytes, *, offer: list[Any] | None = None, reply: bytes | None = None, **values: Any) -> Any:
    offer = offer or ["1.1.0", "new.tar.gz", len(data), hashlib.sha256(data).hexdigest()]
    with ScriptedServer([reply or answer(data)]) as server:
        result = run(board, _DOWNLOAD, url=server.url, offer=offer, **values)
        assert server.requests[0].raw.startswith(b"GET /old-board/new.tar.gz ")
    return result


def test_installs_an_archive_without_a_list(board: Board) -> None:
    version, late = download(board, archive(NEW))
    assert version == "1.1.0"
    assert late < 200
    board.boot_once(only_boot=True)
    tree = board.read()
    assert {path: tree.files[path] for path in ("main.py", "version")} == {"main.py": b"print('new')\n", "version": b"1.1.0\n"}
    assert tree.files["modules/door.py"] == NEW["./modules/door.py"]
    assert tree.files["keep.txt"] == b"mine"
    assert not {"old.py", "gone/x.py", "ota.tmp", ".ota/members"} & set(tree.files)
    header = json.loads(tree.files[".ota/release"].split(b"\n")[0])
    assert (header["version"], header["sequence"], header["files"]) == ("1.1.0", 0, 7)


def test_a_server_that_says_neither_size_nor_digest_is_enough(board: Board) -> None:
    data = archive(NEW)
    assert (
        download(board, data, offer=["1.1.0", "new.tar.gz", None, None], reply=b"HTTP/1.0 200 OK\r\n\r\n" + data)[0]
        == "1.1.0"
    )


def test_an_archive_that_names_its_window_needs_no_larger_one(board: Board) -> None:
    board.heap = "136k"
    small = zlib.compressobj(9, zlib.DEFLATED, -12)
    plain = gzip.decompress(archive(NEW))
    header = b"\x1f\x8b\x08\x04" + bytes(4) + b"\0\xff" + b"\x05\0WB\x01\0\x0c"
    trailer = struct.pack("<II", zlib.crc32(plain), len(plain))
    assert download(board, header + small.compress(plain) + small.flush() + trailer)[0] == "1.1.0"


BIG = {"./version": b"1.1.0", **{f"./f{i}.py": b"" for i in range(201)}}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({**NEW, "../boot.py": b""}, "bad_path"),
        ({**NEW, "./prefs.json": b"{}"}, "protected_path"),
        ({**NEW, "./os.py": b""}, "protected_path"),
        ({**NEW, "./Main.py": b""}, "bad_member"),
        ({**NEW, "main.py": b""}, "bad_member"),
        ({**NEW, "./main.py/x.py": b""}, "bad_member"),
        ({**NEW, "./version": b"1.0.9"}, "version_mismatch"),
        (without("./ota_boot.py"), "wrong_name"),
        (without("./modules/ota/__init__.py"), "wrong_name"),
        ({"./main.py": b""}, "version_mismatch"),
        ({**NEW, "./zeros": bytes(9_000_000)}, "too_large"),
        (BIG, "too_large"),
        ({**NEW, "./profile.json": b'{"ota": {"delete": ["../x"]}}'}, "bad_path"),
        ({**NEW, "./profile.json": b'{"ota": {"delete": ["prefs.json"]}}'}, "protected_path"),
        ({**NEW, "./profile.json": b'{"ota": {"delete": 5}}'}, "bad_bundle"),
        ({**NEW, "./profile.json": b"[1"}, "bad_bundle"),  # MicroPython 1.25 takes it for a list, later ones for an error
    ],
)
def test_refuses_what_no_release_may_contain(board: Board, files: dict[str, bytes], reason: str) -> None:
    before = tree(board)
    assert download(board, archive(files))["error"] == reason
    assert tree(board) == before


def tree(board: Board) -> dict[str, bytes]:
    """The running version's files."""
    return board.read().without(".ota", "ota.tmp", "main.py").files


def test_refuses_a_link(board: Board) -> None:
    assert download(board, archive(NEW, {"./link": "main.py"}))["error"] == "bad_member"


@pytest.mark.parametrize(
    ("offer", "reply", "reason"),
    [
        ([None, None], b"HTTP/1.0 200 OK\r\n\r\nno archive at all", "bad_bundle"),
        ([None, None], b"HTTP/1.0 200 OK\r\n\r\n", "connection_lost"),
        ([None, None], answer(b"x" * 1000)[:-500], "connection_lost"),
        ([1000, None], answer(b"x" * 999), "connection_lost"),
        ([1000, None], answer(b"x" * 1001), "too_large"),
        ([None, None], b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 3_000_000, "too_large"),
        ([1000, "0" * 64], answer(b"x" * 1000), "bad_digest"),
        ([9_000_000, None], answer(b""), "no_space"),
        ([None, None], answer(b"", status="404 Not Found"), "http_status"),
    ],
)
def test_a_download_that_is_not_right_leaves_nothing(board: Board, offer: list[Any], reply: bytes, reason: str) -> None:
    before = tree(board)
    with ScriptedServer([reply]) as server:
        result = run(board, _DOWNLOAD, url=server.url, offer=["1.1.0", "new.tar.gz", *offer])
    assert result["error"] == reason
    assert tree(board) == before
    assert not {"ota.tmp", ".ota/members", ".ota/journal"} & set(board.read().files)


OURS = {"./modules/ota/x.py": b"", "./ota_boot.py": b""}  # an archive without a loader and an updater is refused
SMALL = {"./version": b"1.1.0", "./main.py": b"x = 1\n" * 20, **OURS}
_SWEEP = (
    _JOB
    + """
import binascii
from modules.ota.bundle import lists
found = []
offer = {"version": "1.1.0", "file": "new.tar.gz", "size": None, "sha256": None}
for n in range(VALUES["archives"]):
    try:
        finish(updates._fill_from_archive(job, offer))
        found.append([binascii.hexlify(entry[2]).decode() for _n, entry in lists.entries()])
    except OtaError as error:
        found.append(error.reason)
return found
"""
)


def sweep(board: Board, archives: list[bytes]) -> int:
    """Have the board download each of these changed archives of SMALL; each is refused or harmless. Returns how many are refused.

    The server says neither size nor digest. Harmless is what brings exactly the right files.
    """
    before = tree(board)
    with ScriptedServer(*([b"HTTP/1.0 200 OK\r\n\r\n" + data] for data in archives)) as server:
        found = run(board, _SWEEP, url=server.url, archives=len(archives))
        assert len(server.requests) == len(found) == len(archives)
    refused = [result for result in found if isinstance(result, str)]
    assert set(refused) <= {"bad_bundle", "bad_member", "version_mismatch", "connection_lost", "wrong_name"}
    right = [digest(SMALL[path]).hex() for path in sorted(SMALL)]
    assert all(result == right for result in found if not isinstance(result, str))
    assert tree(board) == before
    print(f"{len(found)} archives: {len(refused)} refused, {len(found) - len(refused)} harmless")
    return len(refused)


def test_a_truncated_archive_is_refused_at_every_length(board: Board) -> None:
    data = archive(SMALL)
    assert sweep(board, [data[:length] for length in range(len(data))]) == len(data)


def test_an_archive_with_a_byte_flipped_at_every_position_is_refused_or_harmless(board: Board) -> None:
    data = archive(SMALL)
    flipped = [data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :] for at in range(len(data))]
    assert sweep(board, flipped) >= len(data) - 14, "nobody reads some fields of gzip"


def test_an_archive_that_changes_on_flash_before_it_is_staged_is_refused(board: Board) -> None:
    result = download(board, archive(NEW), change=True)
    assert isinstance(result, dict)
    assert result["error"] in ("bad_bundle", "bad_digest", "bad_member")
    assert ".ota/journal" not in board.read().files


@pytest.mark.parametrize(
    ("reply", "result"),
    [
        (answer(b"1.1.0;new.tar.gz;20;43210;;\n"), ["1.1.0", "new.tar.gz", 43210, None]),
        (answer(b"1.1.0;new.tar.gz;"), ["1.1.0", "new.tar.gz", None, None]),
        (answer(b"<html>", status="404 Not Found"), "http_status"),
        (answer(b"<html>"), "bad_channel"),
        (answer(b"\xff\xfe;x;"), "bad_channel"),
        (answer(b"1.1.0;" + b"x" * 100_000), "too_large"),
        (b"garbage\r\n\r\n", "bad_response"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "bad_response"),
        (b"", "connection_lost"),
        (answer(b"", "Location: /old-board/latest", status="302 Found"), "redirect"),
    ],
)
def test_asks_for_latest(board: Board, reply: bytes, result: Any) -> None:
    with ScriptedServer([reply]) as server:
        found = run(board, _LATEST, url=server.url)
    assert (found["error"] if isinstance(found, dict) else found) == result


@pytest.mark.parametrize("header", ["Location: ../x/./now?v=2#top", "location:/x/now?v=2"])
def test_follows_a_relative_redirect_of_latest(board: Board, header: str) -> None:
    moved = answer(b"", header, status="302 Found")
    with ScriptedServer([moved], [answer(b"1.1.0;new.tar.gz;")]) as server:
        assert run(board, _LATEST, url=server.url) == ["1.1.0", "new.tar.gz", None, None]
        assert [request.path for request in server.requests] == ["/old-board/latest", "/x/now?v=2"]


@pytest.fixture
def site(tmp_path: Path, server: ScriptedServer) -> Iterator[Site]:
    """A whole board that has no key, and finds no channel file."""
    made = Site(tmp_path, server)
    yield made
    made.board.stop()


OK = b"HTTP/1.0 200 OK\r\n"
HEAD_MS = 5_000  # what `requests` may take until the body begins: the other modules' ticks wait so long
Steps = Callable[[str], Iterable[bytes | float]]  # of the server's address


def leads(where: str) -> Steps:
    return lambda url: [answer(b"", f"Location: {url}{where}", status="302 Found")]


BAD: dict[str, tuple[Steps, str, int]] = {
    # what the server does: (its steps, the reason that the board gives, the longest gap between two ticks in ms)
    "silent": (lambda _url: [20.0], "timeout", HEAD_MS),
    "trickles its headers": (lambda _url: endless(OK + b"X: ", b"y", 0.3), "timeout", HEAD_MS),
    "trickles short headers": (lambda _url: endless(OK, b"X: y\r\n", 0.5), "timeout", HEAD_MS),
    "floods headers": (lambda _url: endless(OK, b"X-Flood: y\r\n"), "bad_response", 0),
    "floods different headers": (lambda _url: chain([OK], (b"X-%d: y\r\n" % n for n in count())), "bad_response", 0),
    "sends an endless header": (lambda _url: endless(OK + b"X: ", b"y" * 1000), "bad_response", 0),
    "sends an endless status line": (lambda _url: endless(b"HTTP/1.0 200 ", b"y" * 1000), "bad_response", 0),
    "silent before the body": (lambda _url: [OK + b"\r\n", 20.0], "timeout", 0),
    "trickles its body": (lambda _url: endless(OK + b"\r\n", b"1", 0.3), "timeout", 0),
    "never ends": (lambda _url: endless(OK + b"\r\n", b"1.1.0;new.tar.gz;"), "too_large", 0),
    "redirects in a loop": (leads("/sim-board/latest"), "redirect", 0),
    "redirects to another host": (
        lambda _url: [answer(b"", "Location: http://elsewhere.invalid/latest", status="302 Found")],
        "redirect",
        0,
    ),
    "redirects to silence": (leads("/silence"), "timeout", HEAD_MS),
    "redirects to a trickle": (leads("/trickle"), "timeout", HEAD_MS),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_server_of_the_latest_line_is_given_up_and_the_loop_goes_on(site: Site, server: ScriptedServer, what: str) -> None:
    steps, reason, gap_ms = BAD[what]
    server.routes["/sim-board/latest"] = lambda _request: steps(server.url)
    server.routes["/silence"] = always(20.0)
    server.routes["/trickle"] = lambda _request: endless(OK, b"X: y\r\n", 0.5)
    site.board.start()
    site.board.expect("using the unsigned `latest` protocol", PATIENCE_S)
    began = time.monotonic()
    assert site.refused() == reason
    assert time.monotonic() - began < 30
    if "loop" in what:
        assert len(server.asked("/sim-board/latest")) <= 6
    site.untouched(gap_ms=gap_ms + GAP_MS)


@pytest.mark.parametrize("what", ["trickles its body", "never ends", "silent before the body"])
def test_a_bad_server_of_its_archive_too(site: Site, server: ScriptedServer, what: str) -> None:
    server.routes["/sim-board/latest"] = always(answer(b"1.1.0;new.tar.gz;"))
    steps, reason, gap_ms = BAD[what]
    server.routes["/sim-board/new.tar.gz"] = lambda _request: steps(server.url)
    site.board.start()
    assert site.refused() == reason
    site.untouched(gap_ms=gap_ms + GAP_MS)


_TIMED = _JOB + """
began = time.ticks_ms()
try:
    line = finish(job.phase("legacy.requests_http", "ask", job))
    found = phases.call("legacy.latest", "decide", job, line, False)["version"]
except OtaError as error:
    found = error.reason
return [found, time.ticks_diff(time.ticks_ms(), began)]
"""


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param([OK + b"\r\n1.1.0;", 0.5, b"new.tar.gz;"], "1.1.0", id="good"),
        pytest.param([20.0], "timeout", id="silent"),
        pytest.param([OK + b"X: ", *[b"y", 0.3] * 50], "timeout", id="trickles its headers"),
        pytest.param([OK, b"X-Flood: y\r\n" * 100_000], "bad_response", id="floods headers"),
        pytest.param([OK + b"X: ", b"y" * 1_000_000], "bad_response", id="sends an endless header"),
        pytest.param([OK + b"\r\n", b"1.1.0;new.tar.gz;" * 10_000], "too_large", id="never ends"),
    ],
)
def test_below_tls_the_bounds_are_the_same(board: Board, certificates: Path, script: list[Any], expected: str) -> None:
    with ScriptedServer(script, tls=secure(certificates, "server")) as server:
        result, ms = run(board, _TIMED, url=server.url)
    assert result == expected
    assert ms < HEAD_MS + 2000


def test_a_server_that_never_answers_tls_is_given_up(board: Board) -> None:
    with ScriptedServer([20.0]) as server:
        result, ms = run(board, _TIMED, url=server.url.replace("http:", "https:"))
    assert result == "timeout"
    assert ms < HEAD_MS + 2000


def test_a_server_that_never_takes_the_connection_is_given_up(board: Board) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, contextlib.ExitStack() as stack:
        for _n in range(3):  # now its queue is full, and the system answers no further one
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        result, ms = run(board, _TIMED, url="http://127.0.0.1:%d" % server.getsockname()[1])
    assert result == "timeout"
    assert ms < HEAD_MS + 2000


def test_a_silent_name_server_is_given_up(board: Board) -> None:
    with NameServer({}, silence) as names:
        board.env.update(SIMULATOR_DNS=str(names.port), SIMULATOR_PORT_DNS_SILENT_MS="14000")
        named = "from iot_platform import sockets\nsockets.name_server = lambda: '127.0.0.1'\n" + _TIMED
        result, ms = run(board, named, url="http://update.test")
    assert result in ("dns", "timeout"), "a name has as long as all of the answer's head"
    assert ms < HEAD_MS + 2000


def test_a_silent_server_is_given_up(board: Board) -> None:
    with ScriptedServer([20.0]) as server:
        assert run(board, _LATEST, url=server.url)["error"] == "timeout"


def test_no_server_is_a_connect_error(board: Board) -> None:
    with ScriptedServer([b""]) as server:
        url = server.url
    assert run(board, _LATEST, url=url)["error"] == "connect"
