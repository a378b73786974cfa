"""Archives whose members or names are not what they should be, each signed with the right key so that only that is wrong."""

from __future__ import annotations

import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from iotctl import bundle, keys
from modules.ota import paths, sign
from modules.ota.errors import OtaError
from sim.board import Board
from tests.support import forge
from tests.support.driver import new_board, run

FILES = {"a.py": b"1\n", "lib/b.py": b"2" * 700, "version": b"1.1.0\n"}
LISTED = forge.listing(FILES)
HEAD = forge.head(LISTED, forge.key(0))
MEMBERS = [(path, FILES[path]) for path in sorted(FILES, key=paths.key)]


def refusal(data: bytes, root: Path, *numbers: int, **changes: Any) -> str:
    """Why a board that pins these keys (without one: key 0) refuses the bundle; "" when it takes it."""
    try:
        staged = forge.install(data, forge.rules(*numbers or (0,), **changes), root)
    except OtaError as error:
        assert error.kind == "verification" or error.reason in ("too_large", "no_space")
        return str(error.reason)
    assert staged == FILES
    return ""


def members_refusal(members: forge.Members, root: Path) -> str:
    return refusal(bundle.gzip(forge.tar(members)), root)


def test_the_true_bundle_is_taken(tmp_path: Path) -> None:
    assert members_refusal(HEAD + MEMBERS, tmp_path) == ""


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        pytest.param(HEAD + MEMBERS[::-1], "bad_member", id="out of order"),
        pytest.param(HEAD + [MEMBERS[0], *MEMBERS], "bad_member", id="repeated"),
        pytest.param(HEAD + MEMBERS + [MEMBERS[-1]], "bad_member", id="repeated at the end"),
        pytest.param(HEAD + MEMBERS + [("x.py", b"")], "bad_member", id="extra"),
        pytest.param(HEAD + [("0.py", b""), *MEMBERS], "bad_member", id="extra at the beginning"),
        pytest.param(HEAD + MEMBERS[:-1], "bad_member", id="missing"),
        pytest.param(HEAD + MEMBERS[1:], "bad_member", id="the first one missing"),
        pytest.param(HEAD, "bad_member", id="none at all"),
        pytest.param(HEAD + [("lib/", b""), *MEMBERS], "bad_member", id="a folder"),
        pytest.param(HEAD + [("a.py", b"2\n"), *MEMBERS[1:]], "bad_digest", id="other content"),
        pytest.param(HEAD + [("a.py", b"1"), *MEMBERS[1:]], "bad_size", id="shorter"),
        pytest.param(HEAD + [("A.py", b"1\n"), *MEMBERS[1:]], "bad_member", id="another case"),
        pytest.param(HEAD + [("./a.py", b"1\n"), *MEMBERS[1:]], "bad_member", id="./"),
        pytest.param(HEAD + [("/a.py", b"1\n"), *MEMBERS[1:]], "bad_member", id="absolute"),
        pytest.param(HEAD[1:] + HEAD[:1] + MEMBERS, "bad_bundle", id="the signature first"),
        pytest.param(HEAD[:1] + MEMBERS, "no_signature", id="no signature"),
        pytest.param(HEAD[:1] + MEMBERS + HEAD[1:], "no_signature", id="the signature last"),
        pytest.param(HEAD[:1] + HEAD + MEMBERS, "no_signature", id="the list twice"),
        pytest.param(HEAD + HEAD[1:] + MEMBERS, "bad_member", id="the signature twice"),
        pytest.param(MEMBERS, "bad_bundle", id="no list"),
        pytest.param([], "bad_bundle", id="empty"),
        pytest.param([(".release", b""), HEAD[1]], "bad_signature", id="an empty list"),
        pytest.param([(".release", b"{}\n" * 500_000), HEAD[1]], "too_large", id="a huge list"),
    ],
)
def test_members_must_be_what_the_list_says(members: forge.Members, reason: str, tmp_path: Path) -> None:
    assert members_refusal(members, tmp_path) == reason


@pytest.mark.parametrize("kind", list(b"1234567gxKLSV\x7f"))
@pytest.mark.parametrize("where", [0, 1, 2])
def test_links_devices_and_extensions_are_refused(kind: int, where: int, tmp_path: Path) -> None:
    """In the place of the list, of the signature, and of a file."""
    plain = HEAD + MEMBERS
    name = (".release", ".release.sig", "a.py")[where]
    strange = forge.header(name, 0, bytes((kind,)), link=b"/prefs.json")
    data = b"".join(forge.header(n, len(c)) + c + bytes(-len(c) % 512) for n, c in plain[:where]) + strange
    rest = b"".join(forge.header(n, len(c)) + c + bytes(-len(c) % 512) for n, c in plain[where + 1 :])
    assert refusal(bundle.gzip(data + rest + bytes(1024)), tmp_path) in ("bad_bundle", "bad_signature", "bad_member")


@pytest.mark.parametrize("at", [100, 512, 700, 1400, 1536, 1700, 2000, 2560, 3072, 3500, 4000, 4608, 5120, 5600])
def test_a_tar_that_is_cut_short_within_a_sound_gzip(at: int, tmp_path: Path) -> None:
    """Within a header, the list, the signature, a file, and before the end."""
    whole = forge.tar(HEAD + MEMBERS)
    assert at < len(whole)
    assert refusal(bundle.gzip(whole[:at]), tmp_path) == "bad_bundle"


NAMES = {
    "/a.py": "bad_path",
    "//a.py": "bad_path",
    "../a.py": "bad_path",
    "lib/../../a.py": "bad_path",
    "lib/..": "bad_path",
    "..": "bad_path",
    ".": "bad_path",
    "./a.py": "bad_path",
    "lib/./a.py": "bad_path",
    "lib//a.py": "bad_path",
    "lib/": "bad_path",
    "a.py.": "bad_path",
    "a.py ": "bad_path",
    " a.py": "bad_path",
    "lib./a.py": "bad_path",
    "lib /a.py": "bad_path",
    "PREFS~1.JSO": "bad_path",
    "OTA_BO~1.PY": "bad_path",
    "a\\b.py": "bad_path",
    "..\\a.py": "bad_path",
    "c:a.py": "bad_path",
    "a.py\x00": "bad_path",
    "a\x00.py": "bad_path",
    "a\n.py": "bad_path",
    "a\t.py": "bad_path",
    "ä.py": "bad_path",
    "a\u202e.py": "bad_path",
    "*": "bad_path",
    "a?.py": "bad_path",
    "": "bad_path",
    "x" * 101: "bad_path",
    "lib/" + "x" * 97: "bad_path",
    ".ota/journal": "protected_path",
    ".OTA/journal": "protected_path",
    ".ota": "protected_path",
    "prefs.json": "protected_path",
    "Prefs.Json": "protected_path",
    "prefs.json.1": "protected_path",
    "PREFS.JSON.1": "protected_path",
    "prefs.json/x": "protected_path",
    "crash.log": "protected_path",
    "CRASH.LOG": "protected_path",
    "Boot.py": "protected_path",
    "BOOT.PY": "protected_path",
    "boot.mpy": "protected_path",
    "boot/__init__.py": "protected_path",
    "boot.keep": "protected_path",
    "bootlib.py": "protected_path",
    "Ota_Boot.py": "protected_path",
    "ota_boot.mpy": "protected_path",
    "ota_boot_old.py": "protected_path",
    "ota_boot/__init__.py": "protected_path",
    "os.py": "protected_path",
    "OS.py": "protected_path",
    "os.mpy": "protected_path",
    "os/__init__.py": "protected_path",
    "json.py": "protected_path",
    "machine.py": "protected_path",
    "time.mpy": "protected_path",
    "deflate.py": "protected_path",
    "lib/hashlib.py": "protected_path",
    "lib/asyncio/__init__.py": "protected_path",
    "lib/ota_boot.py": "protected_path",
    "lib/boot.py": "protected_path",
    "LIB/os.py": "protected_path",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_signed_list_with_a_forbidden_name(name: str, tmp_path: Path) -> None:
    entries = sorted([forge.entry(name, b"x"), *(forge.entry(*member) for member in MEMBERS)], key=lambda e: paths.key(e["path"]))
    listed = forge.listing_of(entries)
    contents = dict(MEMBERS) | {name: b"x"}
    members = forge.head(listed, forge.key(0)) + [(found["path"], contents[found["path"]]) for found in entries]
    if not name or "\0" in name[:-1]:  # no tar header can say that
        members = [(path if path != name else "x", data) for path, data in members]
    assert members_refusal(members, tmp_path) == NAMES[name]


@pytest.mark.parametrize("name", sorted(name for name in NAMES if name))
def test_a_member_with_a_forbidden_name_that_the_list_does_not_have(name: str, tmp_path: Path) -> None:
    for place in (0, len(MEMBERS)):
        members = MEMBERS[:place] + [(name, b"x")] + MEMBERS[place:]
        assert members_refusal(HEAD + members, tmp_path / str(place)) in ("bad_member", "bad_bundle", "bad_size")


@pytest.mark.parametrize(
    "names",
    [
        ["a.py", "a.py"],
        ["A.py", "a.py"],
        ["b.py", "a.py"],
        ["a", "a/b.py"],
        ["a", "A/b.py"],
        ["lib/x.py", "LIB/x.py"],
    ],
)
def test_a_signed_list_in_the_wrong_order_or_with_twins(names: list[str], tmp_path: Path) -> None:
    listed = forge.listing_of([forge.entry(name, b"x") for name in names])
    assert members_refusal(forge.head(listed, forge.key(0)) + [(name, b"x") for name in names], tmp_path) == "bad_member"


@pytest.mark.parametrize("what", ["a list", "a signature", "a file", "behind the end"])
def test_a_bomb_takes_no_memory_and_leaves_nothing(what: str, tmp_path: Path) -> None:
    zeros = bytes(32 * 1024 * 1024)
    data = bundle.gzip(
        {
            "a list": lambda: forge.tar([(".release", zeros)]),
            "a signature": lambda: forge.tar([HEAD[0], (".release.sig", zeros)]),
            "a file": lambda: forge.tar(HEAD + [("a.py", zeros)]),
            "behind the end": lambda: forge.tar(HEAD + MEMBERS) + zeros,
        }[what]()
    )
    assert len(data) < 40_000
    tracemalloc.start()
    began = time.process_time()
    reason = refusal(data, tmp_path)
    assert time.process_time() - began < 5
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reason in ("too_large", "bad_signature", "bad_size", "bad_bundle")
    assert peak < 2_000_000
    assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) < 10_000


# -- whose release it is


def test_another_key_is_refused(tmp_path: Path) -> None:
    assert refusal(forge.pack(LISTED, FILES, forge.key(1)), tmp_path) == "bad_signature"


def test_one_of_four_keys_is_enough_and_a_broken_one_hurts_nobody(tmp_path: Path) -> None:
    accepted = forge.rules(1, 2, 3, 0)
    accepted.keys[0] = {"kty": "RSA", "n": "A" * 512, "e": "AQAB"}
    assert forge.install(forge.pack(LISTED, FILES, forge.key(0)), accepted, tmp_path) == FILES


@pytest.mark.parametrize("size", [0, 1, 383, 385, 512, 4096])
def test_a_signature_of_another_length_is_refused(size: int, tmp_path: Path) -> None:
    good = HEAD[1][1]
    assert members_refusal([HEAD[0], (".release.sig", (good * 11)[:size]), *MEMBERS], tmp_path) == "bad_signature"


@pytest.mark.parametrize("kind", ["zero", "one", "modulus", "modulus - 1", "+ modulus", "reversed"])
def test_a_signature_that_is_a_special_number_is_refused(kind: str, tmp_path: Path) -> None:
    modulus = forge.key(0).public_key().public_numbers().n
    good = int.from_bytes(HEAD[1][1], "big")
    number = {
        "zero": 0,
        "one": 1,
        "modulus": modulus,
        "modulus - 1": modulus - 1,
        "+ modulus": (good + modulus) % (1 << 3072),
        "reversed": int.from_bytes(HEAD[1][1], "little"),
    }[kind]
    raw = number.to_bytes(sign.KEY_BYTES, "big")
    assert members_refusal([HEAD[0], (".release.sig", raw), *MEMBERS], tmp_path) == "bad_signature"


def test_the_signature_of_something_else_is_refused(tmp_path: Path) -> None:
    """The channel file's and the previous release's are good signatures of the same key."""
    other = keys.sign(forge.key(0), b'{"format":1}')
    assert members_refusal([HEAD[0], (".release.sig", other), *MEMBERS], tmp_path) == "bad_signature"


@pytest.mark.parametrize(
    ("changes", "rules", "reason"),
    [
        ({"name": "another-board"}, {}, "wrong_name"),
        ({"name": "SIM-BOARD"}, {}, "wrong_name"),
        ({}, {"floor": 1_001_001}, "old_sequence"),
        ({}, {"floor": 1_001_001, "force": True}, "old_sequence"),
        ({}, {"floor": 1_001_000}, "old_sequence"),
        ({}, {"floor": 1_001_000, "force": True}, ""),
        ({"sequence": 0}, {"floor": 1}, "old_sequence"),
        ({}, {"expect": ("1.2.0", 1_001_000)}, "version_mismatch"),
        ({}, {"expect": ("1.1.0", 1_001_001)}, "version_mismatch"),
        ({"expires": 999}, {"now": 1000}, "expired"),
        ({"expires": 1000}, {"now": 1000}, ""),
        ({"expires": 999}, {"now": None}, ""),
        ({"base": "1.0.0"}, {}, "wrong_base"),
    ],
)
def test_a_signed_release_that_is_not_for_this_board_now(
    changes: dict[str, Any], rules: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    assert refusal(forge.pack(forge.listing(FILES, **changes), FILES, forge.key(0)), tmp_path, **rules) == reason


# -- on the board

INSTALL = """
import ota_boot
from iot_platform.runtime import Platform
from modules.ota.module import Module

platform = Platform()
ota = Module(platform)
platform.modules["ota"] = ota
assert ota.load_ota_cfg()
from modules.ota import calls, files, install, job, obtain, store
ota.store = store.Store()
for floor in VALUES.get("floor", []):
    ota.store.raise_floor(floor)

def change():
    path = VALUES["changed"]
    with open(path, "rb") as f:
        data = bytearray(f.read())
    data[VALUES.get("at", len(data) // 2)] ^= 1
    with open(path, "wb") as f:
        f.write(data)

verify, recheck = obtain.verify, install._recheck
def verify_then_change(*args):
    yield from verify(*args)
    change()
def change_then_recheck(*args):
    change()
    yield from recheck(*args)
if VALUES.get("when") == "verified":
    obtain.verify = verify_then_change
elif VALUES.get("when") == "staged":
    install._recheck = change_then_recheck
job.Job.drop = lambda _job, *names: None
ota.forget = lambda: None       # it would forget the two lines above
job.Job.forget = lambda _job: None

calls.complete(ota, "install", False)
import os
names = sorted(name for name in os.listdir("/.ota"))
return [ota.state, ota.error.reason if ota.error else "", names, files.file_size(ota.archive)]
"""
OLD = {"a.py": b"0\n", "profile.json": forge.profile(0), "version": b"1.0.0\n"}
NEW = {**FILES, "profile.json": forge.profile(0), "main.py": b"print('new')\n"}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Board:
    board = new_board(tmp_path_factory.mktemp("members") / "board.img", heap="192k")
    board.write(OLD)
    board.snapshot(board.image.with_suffix(".pristine"))
    return board


@pytest.fixture
def board(pristine: Board) -> Board:
    pristine.restore(pristine.image.with_suffix(".pristine"))
    return pristine


def install(board: Board, data: bytes, **values: Any) -> Any:
    """[state, reason] after install.install_file; the tree must be the old one then, and nothing left of the refused one."""
    board.write({"new_firmware.tar.gz": data})
    before = board.read().without("main.py", "new_firmware.tar.gz", ".ota")
    state, reason, names, archive = run(board, INSTALL, **values)
    assert board.read().without("main.py", "new_firmware.tar.gz", ".ota", "boot.keep") == before
    if reason:
        assert archive is None and set(names) <= {"state.0", "state.1"}
    return [state, reason]


def packed(files: dict[str, bytes] = NEW, number: int = 0, **changes: Any) -> bytes:
    return forge.pack(forge.listing(files, **changes), files, forge.key(number))


def test_a_board_installs_exactly_what_was_signed(board: Board) -> None:
    data = bytearray(packed())
    data[9] ^= 0xFF  # gzip's system: harmless
    assert install(board, bytes(data)) == ["rebooting", ""]
    assert board.boot_once(only_boot=True).cause == "end"
    found = board.read().files
    assert {path: found[path] for path in NEW} == NEW


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (lambda: packed(number=1), "bad_signature"),
        (lambda: packed(name="another"), "wrong_name"),
        (lambda: packed(mpy=7), "wrong_mpy"),
        (lambda: packed(mpy=5), "wrong_mpy"),
        (lambda: packed(micropython="99.0"), "wrong_mpy"),
        (lambda: packed(base="1.0.0"), "wrong_base"),
        (lambda: packed({**NEW, "PREFS.JSON": b"{}"}), "protected_path"),
        (lambda: packed({**NEW, "os.py": b""}), "protected_path"),
        (lambda: bundle.gzip(forge.tar(HEAD + [("a.py", bytes(8_000_000))])), "bad_size"),
        (lambda: bundle.gzip(forge.tar([(".release", bytes(8_000_000))])), "too_large"),
        (lambda: packed({**NEW, "big": bytes(3_000_000)}), "no_space"),
        (lambda: forge.pack(forge.listing(NEW), NEW), "no_signature"),
        (lambda: b"", "bad_bundle"),
        (lambda: b"\x1f\x8b\x08", "bad_bundle"),
        (lambda: bytes(5000), "bad_bundle"),
        (lambda: packed()[:17] + bytes(5000), "bad_bundle"),
        (lambda: packed() + b"more", ""),
        (lambda: bundle.gzip(forge.tar(HEAD + MEMBERS)[:700]), "bad_bundle"),
        (lambda: bundle.gzip(forge.tar(HEAD + MEMBERS)[:1700]), "bad_bundle"),
        (lambda: bundle.gzip(forge.tar(HEAD + MEMBERS)[:3500]), "bad_bundle"),
    ],
)
def test_a_board_refuses(board: Board, data: Any, reason: str) -> None:
    assert install(board, data()) == ["failed" if reason else "rebooting", reason]


def test_an_older_sequence_is_refused_after_a_newer_one_was_confirmed(board: Board) -> None:
    assert install(board, packed(), floor=[2_000_000]) == ["failed", "old_sequence"]


@pytest.mark.parametrize("at", [20, 400, 900])
def test_a_download_that_changes_on_flash_after_its_check_is_refused(board: Board, at: int) -> None:
    assert install(board, packed(), changed="/new_firmware.tar.gz", when="verified", at=at)[0] == "failed"


def test_a_download_exchanged_on_flash_after_its_check_is_refused(board: Board) -> None:
    """By a good bundle of another key: its signature is checked again when it is staged."""
    board.write({"evil.gz": packed({**NEW, "a.py": b"evil\n"}, number=1)})
    script = INSTALL.replace("change():\n", 'change():\n    return os.rename("/evil.gz", ota.archive)\n', 1)
    board.write({"new_firmware.tar.gz": packed()})
    before = board.read().without("main.py", "new_firmware.tar.gz", "evil.gz", ".ota")
    assert run(board, "import os\n" + script, when="verified", changed="")[:2] == ["failed", "bad_signature"]
    assert board.read().without("main.py", ".ota") == before


@pytest.mark.parametrize("slot", range(4))
def test_a_staged_file_that_changes_on_flash_before_the_commit_is_refused(board: Board, slot: int) -> None:
    staged = sorted(path for path in NEW if NEW[path] != OLD.get(path))[slot]
    n = sorted(NEW, key=paths.key).index(staged)
    assert install(board, packed(), changed=f"/.ota/stage/0/{n}", when="staged") == ["failed", "flash_error"]


def test_a_list_that_changes_on_flash_before_the_commit_is_refused(board: Board) -> None:
    """A digit of the digest of a file: the staged file is not the listed one any more."""
    listed = forge.listing(NEW)
    at = listed.index(json.dumps(forge.entry("a.py", NEW["a.py"])["sha256"]).encode()) + 1
    assert install(board, packed(), changed="/.ota/list", when="staged", at=at)[0] == "failed"
