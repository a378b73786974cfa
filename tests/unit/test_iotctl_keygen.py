"""iotctl keygen: a key that nobody else can read and nothing overwrites, pinned where boards look for it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from iotctl import keys
from iotctl.board_code import finish
from modules.ota.release import signature as board_sign
from tests.unit.iotctl_fixture import Place, key, make_place, run

PASSPHRASE = "correct horse b\u00e4ttery"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


def test_keygen_writes_a_private_file_and_pins_the_public_half(place: Place) -> None:
    path = place.root / "new.pem"
    result = run("keygen", path, "--profile", place.profile)
    assert result.exit_code == 0, result.output
    assert path.stat().st_mode & 0o777 == 0o600
    pinned = json.loads(place.profile.read_text())["ota"]["public_keys"]
    assert pinned == [keys.jwk(key(0)), keys.read_public_jwk(path)]
    assert run("check", place.profile).exit_code == 0
    text = subprocess.run(["openssl", "pkey", "-in", path, "-noout", "-text"], capture_output=True, text=True, check=True).stdout
    assert "3072 bit" in text


def test_the_board_believes_the_key(place: Place) -> None:
    import hashlib

    jwk = keys.jwk(key(0))
    assert list(jwk) == ["kty", "n", "e"] and jwk["e"] == "AQAB" and "=" not in jwk["n"]
    assert finish(board_sign.verifying(hashlib.sha256(b"text").digest(), keys.sign(key(0), b"text"), jwk))
    assert not finish(board_sign.verifying(hashlib.sha256(b"text").digest(), keys.sign(key(1), b"text"), jwk))


def test_without_a_profile_the_public_half_is_printed(place: Place) -> None:
    path = place.root / "new.pem"
    result = run("keygen", path, "--passphrase", PASSPHRASE)
    assert json.loads(result.stdout) == keys.read_public_jwk(path, PASSPHRASE)
    assert b"ENCRYPTED" in path.read_bytes()


def test_a_passphrase_is_long_and_each_guess_at_it_is_work(place: Place) -> None:
    """scrypt, by openssl's own look at the file; and openssl reads the key."""
    path = place.root / "new.pem"
    before = place.snapshot()
    for short in ("", "secret", "11 letters."):
        result = run("keygen", path, "--passphrase", short, "--profile", place.profile)
        assert result.exit_code == 1 and "12 characters" in result.stderr and place.snapshot() == before
    assert run("keygen", path, "--passphrase", PASSPHRASE).exit_code == 0
    lines = subprocess.run(["openssl", "asn1parse", "-in", path], capture_output=True, text=True, check=True).stdout.splitlines()
    kdf = next(n for n, line in enumerate(lines) if line.endswith(":scrypt"))
    n, r, p = (int(line.rpartition(":")[2], 16) for line in lines[kdf + 3 : kdf + 6])
    assert (n >= 1 << 14, r, p >= 5) == (True, 8, True)
    command: list[str | Path] = ["openssl", "pkey", "-in", path, "-passin", f"pass:{PASSPHRASE}", "-pubout"]
    public = place.root / "public.pem"
    public.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    assert keys.read_public_jwk(public) == keys.read_public_jwk(path, PASSPHRASE)
    assert "wrong" in place.build("--key", path, "--passphrase", "another passphrase").stderr


def test_a_public_pem_has_the_same_jwk(place: Place) -> None:
    public = place.root / "public.pem"
    subprocess.run(["openssl", "pkey", "-in", place.key, "-pubout", "-out", public], check=True)
    assert keys.read_public_jwk(public) == keys.jwk(key(0))


def test_keygen_never_overwrites(place: Place) -> None:
    before = place.snapshot()
    result = run("keygen", place.key, "--profile", place.profile)
    assert result.exit_code == 1 and "exists already" in result.stderr and place.snapshot() == before


@pytest.mark.parametrize("ota", [{"public_keys": [keys.jwk(key(1))] * 4}, {"public_keys": "none"}])
def test_a_profile_without_room_gets_no_key_made(place: Place, ota: dict[str, object]) -> None:
    place.change_ota(**ota)
    before = place.snapshot()
    assert run("keygen", place.root / "new.pem", "--profile", place.profile).exit_code == 1
    assert place.snapshot() == before


def test_a_missing_profile_or_folder_is_exit_code_3(place: Place) -> None:
    before = place.snapshot()
    assert run("keygen", place.root / "new.pem", "--profile", place.root / "none.json").exit_code == 3
    assert run("keygen", place.root / "none" / "new.pem").exit_code == 3
    assert place.snapshot() == before


def test_a_short_key_is_refused(place: Place) -> None:
    short = place.root / "short.pem"
    command: list[str | Path] = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", short]
    subprocess.run(command, check=True, capture_output=True)
    result = place.build("--key", short)
    assert result.exit_code == 1 and "3072" in result.stderr
