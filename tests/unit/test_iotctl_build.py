"""iotctl build, tree, sign, verify, inspect: the same bytes for the same input, and nothing written when refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import subprocess
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cyclonedx.model.bom import Bom

from iotctl import archive, bundle, keys, mpy, tree
from iotctl import profile as profiles
from iotctl.profile import Profile
from modules.ota.errors import OtaError
from tests.unit.iotctl_fixture import Place, key, make_place, run

TREE = [
    "boot.py", "iot_platform/__init__.mpy", "iot_platform/runtime.mpy", "lib/squeak/__init__.mpy",
    "main.py", "modules/door/__init__.mpy", "modules/door/hinge.mpy", "modules/door/index.html.gz",
    "modules/ota.mpy", "ota_boot.py", "profile.json", "version",
]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


def members(path: Path) -> dict[str, bytes]:
    """An archive as the standard library reads it, in order."""
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def rewrite(path: Path, change: dict[str, bytes | None]) -> None:
    """Change or (None) take out members of a bundle, each in its place."""
    changed = {**members(path), **change}
    entries = bundle.read(path).entries
    head = [(name, changed.pop(name)) for name in (".release", ".release.sig")]
    packed = archive.gzip(b"".join(archive.tar_member(name, data) for name, data in head if data is not None))
    for at in sorted({entry.at for entry in entries}):
        group = [(entry.path, changed[entry.path]) for entry in entries if entry.at == at]
        packed += archive.pack_group([(name, data) for name, data in group if data is not None])
    path.write_bytes(packed + archive.END)


def test_the_same_input_gives_the_same_bytes(place: Place) -> None:
    first = place.built().read_bytes()
    place.build("--key", place.key, out="again")
    assert (place.root / "again" / "1.4.0.tar.gz").read_bytes() == first


def test_an_equal_checkout_elsewhere_gives_the_same_bytes(place: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = make_place(tmp_path_factory.mktemp("elsewhere"))
    assert place.built().read_bytes() == other.built().read_bytes()


def test_the_gzip_header_is_the_documented_one(place: Place) -> None:
    assert place.built().read_bytes()[:17] == bytes.fromhex("1f8b0804 00000000 02ff 0500 5742 0100 0c")


def test_gunzip_and_tar_unpack_it(place: Place, tmp_path_factory: pytest.TempPathFactory) -> None:
    path, folder = place.built(), tmp_path_factory.mktemp("unpacked")
    subprocess.run(["tar", "xzf", path, "-C", folder], check=True)
    assert {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == members(path)


def test_what_runs_on_the_board_is_what_its_author_wrote(place: Place) -> None:
    source = """
class Hinge:
    def _do_open(self):
        return 90

    def call(self, verb):
        return getattr(self, "_do_" + verb)()
"""
    (place.source / "modules/door/hinge.py").write_text(source)
    assert members(place.built())["modules/door/hinge.mpy"] == mpy.compile_source(source.encode(), "modules/door/hinge.py")


def test_only_what_comes_with_iotctl_is_compiled_without_line_numbers(place: Place) -> None:
    source = b"def run(words):\n    for word in words:\n        print(word)\n    return len(words)\n"
    for path in ("platform/iot_platform/runtime.py", "modules/door/hinge.py"):
        (place.source / path).write_bytes(source)
    built = members(place.built())
    ours = built["iot_platform/runtime.mpy"]
    assert ours == mpy.compile_source(source, "iot_platform/runtime.py", lines=False)
    assert ours != mpy.compile_source(source, "iot_platform/runtime.py")
    assert built["modules/door/hinge.mpy"] == mpy.compile_source(source, "modules/door/hinge.py")


def test_members_are_the_list_the_signature_and_the_active_modules_files_in_order(place: Place) -> None:
    assert list(members(place.built())) == [".release", ".release.sig", *TREE]


def test_every_field_of_a_member_but_name_size_and_checksum_is_constant(place: Place) -> None:
    with tarfile.open(place.built()) as archive:
        assert {(m.mode, m.uid, m.gid, m.mtime, m.uname, m.gname, m.type) for m in archive} == {(0o644, 0, 0, 0, "", "", b"0")}


def test_sources_instead_of_mpy(place: Place) -> None:
    assert place.build("--key", place.key, "--py").exit_code == 0
    found = bundle.read(place.root / "dist" / "1.4.0.tar.gz")
    assert found.files["modules/door/hinge.py"] == (place.source / "modules/door/hinge.py").read_bytes()
    assert found.header["mpy"] == 0


def test_tracebacks_will_name_the_boards_paths(place: Place) -> None:
    made = members(place.built())
    assert b"modules/door/hinge.mpy" in made["modules/door/hinge.mpy"]
    assert b"/lib/squeak/__init__.mpy" in made["lib/squeak/__init__.mpy"]


def test_the_old_protocol_is_for_boards_without_a_key(place: Place) -> None:
    """A pinned key ends it (docs/security.md), so its code is left out; a module that is one file lies as one."""
    profile = json.loads((place.profile).read_text())
    assert "lib/tarfile.mpy" not in members(place.built())
    profile["ota"].pop("public_keys", None)
    without = Profile(place.profile, b"{}", profile)
    found = tree.sources(without)
    assert "lib/tarfile.py" in found
    (place.source / "modules" / "bell").mkdir()
    (place.source / "modules" / "bell" / "__init__.py").write_text("")
    profile["activeModules"] = ["bell"]
    assert "modules/bell.py" in tree.sources(without)


def test_the_header(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    result = place.build("--key", place.key, "--notes", "Fixes the d\u00f6\u00f6r.", "--expires", "2030-01-31", "--json")
    shown = json.loads(result.stdout)
    text = members(place.root / "dist" / "1.4.0.tar.gz")[".release"].split(b"\n")[0]
    header = json.loads(text)
    assert " ".join(header) == "format name version sequence micropython mpy created expires notes files size delete"
    assert header.items() <= shown.items() and text.isascii()
    assert (header["format"], header["name"], header["sequence"], header["mpy"]) == (2, "Door-1", 1004000, mpy.VERSION)
    assert (header["created"], header["expires"], header["delete"]) == (1700000000, 1896048000, ["old.py"])


def test_openssl_accepts_the_signature_and_refuses_a_changed_release(place: Place) -> None:
    found = members(place.built())
    listing, signature, public = place.root / "list", place.root / "sig", place.root / "public.pem"
    subprocess.run(["openssl", "pkey", "-in", str(place.key), "-pubout", "-out", public], check=True)
    signature.write_bytes(found[".release.sig"])

    def openssl() -> int:
        command: list[str | Path] = ["openssl", "dgst", "-sha256", "-verify", public, "-signature", signature, listing]
        return subprocess.run(command, capture_output=True).returncode

    listing.write_bytes(found[".release"])
    assert openssl() == 0
    listing.write_bytes(found[".release"].replace(b'"1.4.0"', b'"1.4.1"'))
    assert openssl() != 0


def test_what_was_built_verifies(place: Place) -> None:
    path = place.built()
    assert "signature: good" in run("verify", path, "--profile", place.profile).output
    assert "signature: good" in run("verify", path, "--key", place.key).output
    assert "signature: not checked" in run("verify", path).output
    assert json.loads(run("verify", path, "--json").stdout)["sequence"] == 1004000


def test_signing_later_gives_what_signing_at_once_gives(place: Place) -> None:
    at_once = place.built().read_bytes()
    assert place.build("--unsigned", out="later").exit_code == 0
    path = place.root / "later" / "1.4.0.tar.gz"
    assert ".release.sig" not in members(path)
    assert run("sign", path, "--key", place.key).exit_code == 0
    assert path.read_bytes() == at_once


def test_the_tree_is_the_bundles_files_and_its_list(place: Place) -> None:
    board = place.root / "board"
    result = run("tree", place.profile, board, "--version", "1.4.0")
    assert result.exit_code == 0, result.output
    found = {str(path.relative_to(board)): path.read_bytes() for path in board.rglob("*") if path.is_file()}
    packed = members(place.built())
    assert found == {(".ota/release" if n == ".release" else n): d for n, d in packed.items() if n != ".release.sig"}


def test_a_tree_goes_only_into_an_empty_folder(place: Place) -> None:
    result = run("tree", place.profile, place.source, "--version", "1.4.0")
    assert result.exit_code == 1 and "is not empty" in result.stderr


def test_inspect_shows_header_and_entries(place: Place) -> None:
    path = place.built()
    shown = json.loads(run("inspect", path, "--json").stdout)
    assert [entry["path"] for entry in shown["entries"]] == TREE and shown["signed"]
    assert "modules/door/hinge.mpy" in run("inspect", path).stdout


def shadow(place: Place, name: str) -> None:
    """Let a module ask for a package with this name."""
    (place.source / ".packages/squeak").rename(place.source / ".packages" / name)
    (place.source / "modules/door/requires.txt").write_text(name)


REFUSALS: dict[str, tuple[Callable[[Place], object], tuple[str, ...], str]] = {
    "a profile with an error": (lambda p: p.change(shortName="a b"), (), "shortName is wrong"),
    "a module without a folder": (lambda p: p.change(activeModules=["door", "cellar"]), (), "modules/cellar"),
    "a package that is nowhere": (
        lambda p: (p.source / "modules/door/requires.txt").write_text("nowhere\n"), (), "the package nowhere"),
    "delete names what the release has": (lambda p: p.change_ota(delete=["modules/door"]), (), "ota.delete names modules/door"),
    "a file that shadows a built-in module": (lambda p: shadow(p, "json"), (), "protected_path"),
    "a path that no board takes": (lambda p: (p.source / "modules/door/a b.txt").write_text(""), (), "bad_path"),
    "two names that FAT takes for one": (lambda p: (p.source / "modules/door/HINGE.py").write_text(""), (), "the same file"),
    "code that does not compile": (lambda p: (p.source / "modules/door/hinge.py").write_text("def:"), (), "door/hinge.py"),
    "no version": (lambda p: None, ("--version", "newest"), "newest"),
    "a suffix without a sequence": (lambda p: None, ("--version", "1.4.0-rc1"), "give --sequence"),
    "a minor version beyond 999": (lambda p: None, ("--version", "1.1000"), "give --sequence"),
    "notes that are too long": (lambda p: None, ("--notes", "x" * 5000), "bad_bundle"),
    "a key that is not pinned": (lambda p: None, ("--key", "other.pem"), "not among"),
    "a file that is no key": (lambda p: None, ("--key", "profile.json"), "no private key"),
    "a passphrase for a key without": (lambda p: None, ("--passphrase", "x"), "has no passphrase"),
    "a date that is none": (lambda p: None, ("--expires", "soon"), "--expires soon"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_build_refuses_and_writes_nothing(place: Place, name: str) -> None:
    change, options, words = REFUSALS[name]
    change(place)
    before = place.snapshot()
    given = [place.root / o if o.endswith(".pem") else place.profile if o.endswith(".json") else o for o in options]
    result = place.build("--key", place.key, *given)
    assert result.exit_code in (1, 2), result.output
    assert words in result.stderr and len(result.stderr.splitlines()) == 1
    assert place.snapshot() == before and not (place.root / "dist").exists()


def private_files() -> dict[str, bytes]:
    """Private keys in every form that one may find lying about."""
    plain, secret = serialization.NoEncryption(), serialization.BestAvailableEncryption(b"secret")
    pem, der = serialization.Encoding.PEM, serialization.Encoding.DER
    forms = serialization.PrivateFormat
    curve, edwards = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    certificate = b"-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n"
    return {
        "PKCS#8": key(0).private_bytes(pem, forms.PKCS8, plain),
        "PKCS#8 with a passphrase": key(0).private_bytes(pem, forms.PKCS8, secret),
        "RSA": key(0).private_bytes(pem, forms.TraditionalOpenSSL, plain),
        "EC": curve.private_bytes(pem, forms.TraditionalOpenSSL, plain),
        "OpenSSH": edwards.private_bytes(pem, forms.OpenSSH, plain),
        "PGP": b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBF\n-----END PGP PRIVATE KEY BLOCK-----\n",
        "behind a certificate": certificate + key(0).private_bytes(pem, forms.PKCS8, plain),
        "in a source": b'KEY = """%s"""\n' % key(0).private_bytes(pem, forms.PKCS8, plain),
        "DER": key(0).private_bytes(der, forms.PKCS8, plain),
        "DER with a passphrase": key(0).private_bytes(der, forms.PKCS8, secret),
        "DER, RSA": key(0).private_bytes(der, forms.TraditionalOpenSSL, plain),
    }


def test_a_private_key_in_what_is_released_is_refused_whatever_its_form(place: Place) -> None:
    for form, data in private_files().items():
        path = place.source / "modules/door" / ("secret.py" if form == "in a source" else "notes.txt")
        path.write_bytes(data)
        result = place.build("--key", place.key)
        assert result.exit_code == 1 and result.stderr.startswith(f"iotctl: {path} holds a private key"), form
        assert len(result.output.splitlines()) == 1
        path.unlink()
    assert not (place.root / "dist").exists()
    assert place.build("--key", place.key).exit_code == 0


@pytest.mark.parametrize(
    "path", ["platform/iot_platform/key.txt", "modules/door/www/key.html", ".packages/squeak/key.txt", "platform/main.py"]
)
def test_a_private_key_is_found_in_every_folder_that_is_released(place: Place, path: str) -> None:
    (place.source / path).write_bytes(place.key.read_bytes())
    build = ("build", place.profile, "--out", place.root / "dist", "--key", place.key)
    for words in (build, ("tree", place.profile, place.root / "board"), ("flash", "--profile", place.profile, "--dry-run")):
        result = run(*words, "--version", "1.4.0")
        assert result.exit_code == 1 and f"{place.source / path} holds a private key" in result.stderr, words
    assert not (place.root / "dist").exists() and not (place.root / "board").exists()


def test_a_private_key_in_the_profile_is_refused(place: Place) -> None:
    place.change(door={"note": place.key.read_text()})
    assert "profile.json holds a private key" in place.build("--key", place.key).stderr
    place.change(door={})
    place.change_ota(public_keys=[keys.jwk(key(0)), {**keys.jwk(key(1)), "d": "AQAB"}])
    assert "ota.public_keys[1] is a private key" in place.build("--key", place.key).stderr
    assert run("check", place.profile).exit_code == 1


def test_what_only_speaks_of_keys_is_released(place: Place) -> None:
    public, form = key(0).public_key(), serialization.PublicFormat.SubjectPublicKeyInfo
    forms = [public.public_bytes(coding, form) for coding in (serialization.Encoding.PEM, serialization.Encoding.DER)]
    for n, data in enumerate([*forms, b"0 is what a PRIVATE KEY is worth that was published\n", b"0", b"0\x82"]):
        (place.source / f"modules/door/{n}.txt").write_bytes(data)
    assert place.build("--key", place.key).exit_code == 0


def test_pinned_keys_ask_for_a_signature(place: Place) -> None:
    result = place.build()
    assert result.exit_code == 1 and "--unsigned" in result.stderr
    assert not (place.root / "dist").exists()


@pytest.mark.parametrize("missing", ["profile.json", "key.pem"])
def test_a_missing_file_is_exit_code_3(place: Place, missing: str) -> None:
    (place.root / missing if missing == "key.pem" else place.profile).unlink()
    result = place.build("--key", place.key)
    assert result.exit_code == 3 and missing in result.stderr and not (place.root / "dist").exists()


def test_sign_refuses_a_key_that_the_bundles_profile_does_not_pin(place: Place) -> None:
    path = place.built()
    before = place.snapshot()
    result = run("sign", path, "--key", place.root / "other.pem")
    assert result.exit_code == 1 and "not among" in result.stderr and place.snapshot() == before


DAMAGE = {
    "bad_digest": {"modules/door/index.html.gz": bytes(len(gzip.compress(b"<p>door</p>\n")))},
    "bad_member": {"modules/door/index.html.gz": None},
    "no_signature": {".release.sig": None},
    "bad_signature": {".release.sig": b"\1" * 384},
    "bad_bundle": {".release": None},
}


@pytest.mark.parametrize("reason", DAMAGE)
def test_verify_says_the_boards_reason(place: Place, reason: str) -> None:
    path = place.built()
    rewrite(path, DAMAGE[reason])  # type: ignore[arg-type]
    result = run("verify", path, "--profile", place.profile)
    assert result.exit_code == 1 and result.stderr.startswith(f"iotctl: {reason}: ")


def test_verify_refuses_another_boards_bundle_another_key_and_an_expired_one(place: Place) -> None:
    path = place.built()
    assert "bad_signature" in run("verify", path, "--key", place.root / "other.pem").stderr
    place.build("--key", place.key, "--expires", "2020-01-01", out="old")
    assert "expired" in run("verify", place.root / "old" / "1.4.0.tar.gz").stderr
    place.change(shortName="door-2")
    assert "wrong_name" in run("verify", path, "--profile", place.profile).stderr


@pytest.mark.parametrize("keep", [0, 10, 17, 200, -9, -1])
def test_verify_refuses_an_archive_that_is_cut_short(place: Place, keep: int) -> None:
    path = place.built()
    path.write_bytes(path.read_bytes()[:keep])
    result = run("verify", path)
    assert result.exit_code == 1 and "bad_bundle" in result.stderr


def refused(path: Path, pinned: list[keys.Jwk]) -> bool:
    try:
        bundle.verify(path, None, pinned)
    except OtaError:
        return True
    return False


def unpacked(data: bytes) -> bytes | None:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return None


def test_a_changed_byte_anywhere_in_the_archive_is_noticed(place: Place) -> None:
    path = place.built()
    good = path.read_bytes()
    starts = [at for at in range(len(good)) if good[at : at + 4] == b"\x1f\x8b\x08\x04"]
    unimportant = {start + n for start in starts for n in range(4, 10)}  # time, compression level, system
    pinned = [keys.jwk(key(0))]
    for at in [at for at in range(0, len(good), 61) if at not in unimportant]:
        changed = good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :]
        path.write_bytes(changed)
        padding = unpacked(changed) == unpacked(good)  # the last byte of a deflate stream may have bits that mean nothing
        assert refused(path, pinned) or padding, f"byte {at}"


def test_check_names_every_error(place: Place) -> None:
    assert run("check", place.profile).exit_code == 0
    place.change_ota(url="ftp://x", public_keys=[{"kty": "EC"}])
    place.change_ota(tmp_filename=None)
    result = run("check", place.profile, "--json")
    assert result.exit_code == 1
    assert {e["key"] for e in json.loads(result.stdout)["errors"]} == {"ota.url", "ota.tmp_filename", "ota.public_keys[0]"}
    assert "ota.url" in run("check", place.profile).stdout


@pytest.mark.parametrize("text", ["", "{", "[]", '{"shortName":"a","shortName":"b"}', '{"a":"' + "x" * 20000 + '"}'])
def test_check_refuses_what_is_no_profile(place: Place, text: str) -> None:
    place.profile.write_text(text)
    assert run("check", place.profile).exit_code == 1


@pytest.mark.parametrize("name", ["profile.json", "profiles/esp32.json", "profiles/pico-w.json"])
def test_the_repositorys_own_profiles_are_good(name: str) -> None:
    from iotctl import ROOT

    assert run("check", ROOT / name).exit_code == 0


def test_this_checkout_builds_and_verifies(tmp_path: Path) -> None:
    from iotctl import ROOT

    result = run("build", ROOT / "profile.json", "--version", "1.0.0", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert run("verify", tmp_path / "1.0.0.tar.gz", "--profile", ROOT / "profile.json").exit_code == 0


def test_the_standard_librarys_tar_reads_our_folders(place: Place) -> None:
    data = archive.tar([("a/", b""), ("a/b.txt", b"text")])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [(m.name, m.isdir(), m.size) for m in tar] == [("a", True, 0), ("a/b.txt", False, 4)]


def test_a_protected_key_needs_its_passphrase(place: Place) -> None:
    place.key.unlink()
    keys.write_private(key(0), place.key, "a secret phrase")
    assert "give --passphrase" in place.build("--key", place.key).stderr
    assert "passphrase is wrong" in place.build("--key", place.key, "--passphrase", "guess").stderr
    assert not (place.root / "dist").exists()
    assert place.build("--key", place.key, "--passphrase", "a secret phrase").exit_code == 0


def test_a_bill_of_materials_lies_beside_the_bundle(place: Place) -> None:
    """Every file with its digest, the libraries with version and licence, and what it runs on; the same each time."""
    about = {"name": "squeak", "version": "1.1", "license": "MIT", "sha256": "0" * 64, "files": ["squeak/__init__.py"]}
    (place.source / ".packages" / "libraries.json").write_text(json.dumps([about]))
    made = bundle.read(place.built())
    raw = (place.root / "dist" / "1.4.0.cdx.json").read_bytes()
    bill = json.loads(raw)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    top = bill["metadata"]["component"]
    assert (top["name"], top["version"]) == ("Door-1", "1.4.0") and {"name": "mpy", "value": "6"} in top["properties"]
    assert [tool["name"] for tool in bill["metadata"]["tools"]["components"]] == ["mpy-cross"]
    parts = {part["name"]: part for part in bill["components"]}
    squeak = parts.pop("squeak")
    assert (squeak["type"], squeak["version"], squeak["licenses"]) == ("library", "1.1", [{"license": {"id": "MIT"}}])
    assert parts.pop("MicroPython")["version"] == made.header["micropython"]
    listed = {part["name"]: part["hashes"] for part in [*parts.values(), *squeak["components"]]}
    assert listed == {
        path: [{"alg": "SHA-256", "content": hashlib.sha256(data).hexdigest()}] for path, data in made.files.items()
    }
    place.built()
    assert (place.root / "dist" / "1.4.0.cdx.json").read_bytes() == raw
    assert Bom.from_json(bill).metadata.component  # type: ignore[attr-defined]


BAD_SOURCES = [
    ("latin.py", b"# one\nname = 'caf\xe9'\n", "latin.py:2: is not UTF-8"),
    ("feed.py", b"def f():\n\f    return 1\n", "feed.py:2: a form feed"),
    ("mixed.py", b"if 1:\n        x = 1\n\ty = 2\n", "mixed.py:3: tabs and spaces are mixed"),
    ("zero.py", b"x = 1\ny = '\0'\n", "zero.py:2: has a byte of zero"),
    ("Hinge.py", b"", "modules/door/hinge.py and modules/door/Hinge.py are the same file"),
    ("hinge.mpy", b"M", "are the same file on a board"),
]


@pytest.mark.parametrize(("name", "data", "says"), BAD_SOURCES)
def test_a_source_that_a_board_reads_otherwise_is_one_line(place: Place, name: str, data: bytes, says: str) -> None:
    (place.source / "modules" / "door" / name).write_bytes(data)
    result = place.build("--key", place.key)
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1
    assert says in result.stderr, result.stderr


def test_form_feeds_and_tabs_that_mean_the_same_everywhere_are_taken(place: Place) -> None:
    (place.source / "modules" / "door" / "old.py").write_bytes(b"def f():\n\treturn 1\n\f\n# caf\xc3\xa9\ng = f\n")
    place.built()


def test_a_password_gets_into_no_release_unless_somebody_says_so(place: Place) -> None:
    place.change(wifi={"ssid": "home", "password": "teapot 418"}, mqtt={"host": "broker", "user": "a", "password": "b"})
    result = place.build("--key", place.key)
    assert result.exit_code == 1
    assert "wifi.password, mqtt.password" in result.stderr and "secrets.toml" in result.stderr
    assert not (place.root / "dist").exists()
    assert place.build("--key", place.key, "--with-secrets").exit_code == 0


def test_what_is_left_out_is_said_and_so_is_what_it_takes_of_its_board(place: Place) -> None:
    place.change(board="pico-w")
    (place.source / "modules" / "door" / ".htaccess").write_text("")
    result = place.build("--key", place.key)
    disk = r"disk of a pico-w: (\d+) KB now, (\d+) KB during an update of every file, of 848 KB: (\d+) KB left"
    told = re.search(disk, result.stdout)
    assert told and int(told[1]) < int(told[2]) == 848 - int(told[3])
    assert re.search(r"heap, of 188K: \d+K at rest, \d+K in an update boot; door not counted", result.stdout)
    assert "TLS" not in result.stdout
    left = [line.rpartition("src/")[2] for line in result.stdout.splitlines() if line.startswith("left out: ")]
    assert left == ["modules/door/.htaccess", "modules/door/tests"]
    place.change_ota(url="https://updates.example.org")
    for board, says in (("pico-w", "TLS takes 21K of it more while"), ("esp32", "TLS takes some 20K beside it while")):
        place.change(board=board)
        assert says in place.build("--key", place.key).stdout
    assert "disk of an esp32: " in place.build("--key", place.key).stdout


@pytest.mark.parametrize(("board", "chip"), [(None, 0), ("pico-w", 4), ("pico", 4), ("esp32", 10), ("unix", 0)])
def test_native_code_is_made_for_the_profiles_board_or_by_it(place: Place, board: str | None, chip: int) -> None:
    """A .mpy's third byte names the chip (MicroPython's py/persistentcode.h: 4 is ARMv6-M, 10 is Xtensa with windows)."""
    native = b"import micropython\n\n\n@micropython.native\ndef swing(n):\n    return n + 1\n"
    (place.source / "modules" / "door" / "swing.py").write_bytes(native)
    (place.source / "modules" / "door" / "words.py").write_bytes(b"# not @micropython.native\nX = '@micropython.viper'\n")
    place.change(**({"board": board} if board else {}))
    found = bundle.read(place.built())
    chips = {path: data[2] >> 2 & 15 for path, data in found.files.items() if path.endswith(".mpy") and data}
    assert chips.pop("modules/door/swing.mpy", 0) == chip and set(chips.values()) == {0}
    assert "modules/door/words.mpy" in chips and found.header["micropython"] == ("1.23" if chip else "1.22")
    assert found.files.get("modules/door/swing.py") == (None if chip else native)
    simulated = tree.collect(profiles.read_good(place.profile), "1.4.0", chip="")
    assert simulated["modules/door/swing.py"] == native, "the simulated board's chip is this computer's"
