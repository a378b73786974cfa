"""What is fuzzed: each function takes any bytes, and fails with an AssertionError where a board would do something wrong.

Right is a refusal by OtaError, or exactly what was announced. Wrong is any other exception, every file and folder that is
changed or made but those that the reader needs (forge.STAGED), and memory that grows with what is read.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import re
import sys
import tempfile
import types
from collections.abc import Callable
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import ota_boot
from iot_platform import profile as profiles

from iotctl import board_code
from modules.ota.bundle import lists
from modules.ota.errors import OtaError
from modules.ota.legacy import latest as board_latest
from modules.ota.legacy import requests_http
from modules.ota.release import channel as board_channel
from modules.ota.release import manifest, paths, policy, signature
from modules.ota.release.fields import is_version
from tests.support import forge

CORPUS = Path(__file__).parent / "corpus"
# Bytes that a reader may take, however long its input is. Measured on CPython: 100 KB for a bundle of 8 MB or of 5,000 files.
MEMORY = 1024 * 1024


def bundle(data: bytes) -> None:
    """The bundle reader on a board without a key: a bundle where it begins like one, else what chain() makes of it."""
    packed = data if data[:3] == b"\x1f\x8b\x08" else chain(data.split(NEXT))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        try:
            staged = forge.install(packed, forge.rules(), root, memory=_imported())
        except OtaError:
            return
        with forge.board_at(root):
            header = lists.read_header(lists.LIST)
            assert header and header["name"] == forge.NAME
            listed = {found[0]: found for _n, found in lists.entries()}
        assert staged.keys() == listed.keys() - {"boot.py"}
        for path, content in staged.items():
            assert len(content) == listed[path][1]
            assert hashlib.sha256(content).digest() == listed[path][2]
            assert not paths.protected(path)
            assert ".." not in path


NEXT = b"\n-- next member --\n"


def chain(parts: list[bytes]) -> bytes:
    """A gzip member of each part. Where ``@2######`` stands in the head, it says where part 2 begins, as an `at` does."""
    head, *rest = parts
    packed = [forge.gzip(part) for part in rest]
    places = [0, *accumulate(map(len, packed))]

    def place(found: re.Match[bytes]) -> bytes:
        n = int(found[1]) - 1
        return b"%d" % places[n] if 0 <= n < len(places) else b"-1"

    return forge.gzip(_shorter(head, re.sub(rb"@(\d)######", place, head))) + b"".join(packed)


def _shorter(head: bytes, filled: bytes) -> bytes:
    """A head whose list has become shorter than its tar header says, where that was right."""
    try:
        size = int(head[124:135], 8)
        right = forge.header(head[:100].rstrip(b"\0"), size) == head[:512]
    except ValueError:
        right = False
    if not right or head == filled:
        return filled
    less = len(head) - len(filled)
    listed, rest = filled[512 : 512 + size - less], filled[512 + size + -size % 512 - less :]
    return forge.tar_member(head[:100].rstrip(b"\0"), listed) + rest


@cache
def _imported() -> int:
    """MEMORY, once the reader has imported what it does only when it needs it: that would count."""
    with tempfile.TemporaryDirectory() as folder:
        forge.install(chain((CORPUS / "bundle" / "good").read_bytes().split(NEXT)), forge.rules(), Path(folder))
    return MEMORY


def listing(data: bytes) -> None:
    """A `.release` in a bundle that has exactly the files which it names, each in its own member, as far as that can be."""
    members = []
    for line in data.split(b"\n")[1:]:
        try:
            entry = json.loads(re.sub(rb"@\d######", b"0", line))
            path, size = entry[0].encode(), entry[1]
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            continue
        if isinstance(size, int) and 0 <= size <= forge.PIECE:
            members.append(forge.tar_member(path, bytes(size)))
    bundle(NEXT.join([forge.tar_member(".release", data), *members, bytes(1024)]))


def archive(data: bytes) -> None:
    """An archive of the `latest` protocol, a tar without a list: refused, or a list that is right, of what is there."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with forge.board_at(root):
            _read_archive(root, data)
        forge.only_changed(root, {}, re.compile(r"download|\.ota/(members|list)?"))


def _read_archive(root: Path, data: bytes) -> None:
    download, notes = root / "download", str(root / ".ota" / "members")
    download.write_bytes(forge.gzip(data))
    job: Any = forge.Job()
    job.archive, job.name_on_server = str(download), forge.NAME
    latest: Any = board_latest  # its decompressor and its reader of archives are a board's own
    latest.tarfile = board_code.tarfile()
    latest.deflate = types.SimpleNamespace(GZIP=3, DeflateIO=lambda f, _kind, _window: gzip.GzipFile(fileobj=f))
    try:
        places, total, deletes = board_code.finish(latest._scan(job, "1.1.0", notes))
        board_code.finish(latest._write_list(job, "1.1.0", notes, places, total, deletes))
        with open(ota_boot.ota("list"), "rb") as listed:
            header = board_code.finish(manifest.check(listed))
    except OtaError:
        return
    found = [entry[0] for _n, entry in lists.entries()]
    assert header["files"] == len(found) == len(places) == len({path.lower() for path in found})
    assert found == sorted(found, key=paths.key)
    for path in found:
        paths.check_member(path)


TREE = {"a.py": b"1\n", "lib/b.py": b"2\n"}
STAGE = {0: b"3\n", 1: b"4\n"}
JOURNAL_BODY = b'{"format":1,"old":"1","new":"2","attempts":1,"timeout_s":60}\n0 +1 a.py\n1 +0 c/d.py\n2 -1 lib/b.py\n'
JOURNAL = JOURNAL_BODY + b"end %s\n" % hashlib.sha256(JOURNAL_BODY).hexdigest().encode()


def journal(data: bytes) -> None:
    """A boot of the recovery loader that finds this journal: applied if its digest is right, otherwise nothing is touched."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for path, content in TREE.items():
            _write(root / path, content)
        for n, content in STAGE.items():
            _write(root / ".ota" / "stage" / f"e{n}", content)
        _write(root / ".ota" / "journal", data)
        board = loader()
        board.ROOT, board.ready, board.state = folder, False, ""
        board.run()
        found = forge.below(root)
        tree = {path: content for path, content in found.items() if not path.startswith(".ota/")}
        own = {path for path in found if path.startswith(".ota/")}
        if _is_journal(data):
            assert board.state == "trial"
            assert tree == {"a.py": b"3\n", "c/": b"", "c/d.py": b"4\n"}
        else:
            assert board.state in ("undone", ""), board.state
            assert tree == {**TREE, "lib/": b""}
            staged = {".ota/", ".ota/stage/", ".ota/stage/e0", ".ota/stage/e1"}
            assert own - staged <= {".ota/undone", ".ota/reason"}, own
        assert board.ready


def _is_journal(data: bytes) -> bool:
    """Nothing but the one that was sealed, whatever its line ends and whatever follows its end."""
    try:
        text = data.decode().replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeError:
        return False
    body = JOURNAL_BODY.decode()
    end = text[len(body) :].split("\n")[0]
    return text.startswith(body) and end[:4] == "end " and end[4:].strip() == JOURNAL[-65:-1].decode()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@cache
def loader() -> Any:
    """A recovery loader of our own, as a boot imports it; CPython has no `machine` and no ticks."""
    spec = importlib.util.find_spec("ota_boot")
    assert spec and spec.loader
    board: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(board)
    machine, sys.modules["machine"] = sys.modules.get("machine"), types.ModuleType("machine")
    board._imports()
    del sys.modules["machine"]
    if machine:
        sys.modules["machine"] = machine
    board.print = lambda *_words: None
    board.time = types.SimpleNamespace(ticks_ms=lambda: 0, ticks_add=lambda a, b: a + b, ticks_diff=lambda a, b: a - b)
    return board


def profile(data: bytes) -> None:
    """profile.json, as a board reads it when it starts: nothing is raised, and what the platform gets is right or missing.

    What the sections' own modules find wrong is named; OTA, which reads the file again, runs with a good one only.
    """
    with tempfile.NamedTemporaryFile() as f:
        f.write(data)
        f.flush()
        value, wrong = profiles.read(f.name)
    assert isinstance(value, dict)
    assert all(problem == "is missing" for _key, problem, _expected in profiles.check_platform(value))
    assert wrong or not profiles.check_platform(value)
    errors = profiles.check(value)
    for row in wrong + errors:
        assert len(row) == 3 and all(isinstance(word, str) for word in row)
    if not errors and "ota" in value["activeModules"]:
        ota = value["ota"]
        assert ota["url"].startswith(("http://", "https://"))
        assert not paths.protected(ota["tmp_filename"].lstrip("/")) or ota["tmp_filename"].strip("/").lower().startswith(
            ".ota/down"
        )
        assert all(len(signature.pinned(ota, role)) <= 4 for role in ("release", "channel"))


def channel(data: bytes) -> None:
    """The channel file without a key, and with one that cannot have signed it."""
    for keys in ([], forge.pinned(0)):
        try:
            with forge.flat(MEMORY):
                value = board_code.finish(board_channel.parse(data, keys))
                board_channel.check(value, forge.NAME, "stable", 0, 1_700_000_000)
        except OtaError:
            continue
        assert not keys, "a signature out of nothing"
        assert "/" not in value["bundle"]["file"]
        assert isinstance(policy.rollout_allows(value, "device"), bool)
        assert isinstance(policy.is_newer(value["version"], value["sequence"], 5, "1.0.0"), bool)
        assert 0 < value["bundle"]["head"] < value["bundle"]["size"]
        assert len(value["notes"]) <= 255


def latest(data: bytes) -> None:
    """The `latest` line."""
    try:
        version, file, size_kb, size, sha256 = requests_http.parse_latest(data.decode(errors="replace"))
    except OtaError:
        return
    assert is_version(version)
    assert "/" not in file
    assert (size_kb or 0) >= 0
    assert (size or 0) >= 0
    assert sha256 is None or len(sha256) == 64


TARGETS: dict[str, Callable[[bytes], None]] = {
    "bundle": bundle,
    "listing": listing,
    "archive": archive,
    "journal": journal,
    "profile": profile,
    "channel": channel,
    "latest": latest,
}


def corpus(target: str) -> list[bytes]:
    """What is kept for a target, in a fixed order."""
    return [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]
