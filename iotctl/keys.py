"""Signing keys: RSA with 3072 bits, PKCS#1 v1.5 over SHA-256, so that `openssl dgst -sha256 -verify` checks a signature too."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from iotctl import board_code, files, pkcs8
from iotctl.errors import IotctlError
from modules.ota.release import signature as board_sign

Jwk = dict[str, Any]
PrivateKey = rsa.RSAPrivateKey
_SHORTEST = 12  # characters of a new passphrase
_BITS = 8 * board_sign.KEY_BYTES
_PRIVATE_PEM = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----")  # PKCS#8, encrypted, RSA, EC, OpenSSH, PGP


def generate() -> PrivateKey:
    """A new key: about a second of work."""
    return rsa.generate_private_key(public_exponent=65537, key_size=_BITS)


def write_private(key: PrivateKey, path: Path, passphrase: str | None) -> None:
    """PKCS#8 PEM with mode 0600. IotctlError when the file exists: a lost key means boards that nobody can update."""
    if passphrase is not None and len(passphrase) < _SHORTEST:
        raise IotctlError(f"a passphrase has {_SHORTEST} characters at least: whoever has the file can guess for years")
    plain = serialization.NoEncryption()
    if passphrase is None:
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    else:
        pem = pkcs8.protect(key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, plain), passphrase)
    try:
        files.create_private(path, pem)
    except FileExistsError:
        raise IotctlError(f"{path} exists already and stays as it is: choose another name") from None


def read_private(path: Path, passphrase: str | None = None) -> PrivateKey:
    """The private key in a PEM file; IotctlError says what is wrong with the file or the passphrase."""
    pem = path.read_bytes()
    try:
        key = serialization.load_pem_private_key(pem, passphrase.encode() if passphrase else None)
    except TypeError:
        hint = "is protected: give --passphrase" if not passphrase else "has no passphrase: leave --passphrase out"
        raise IotctlError(f"the key {path} {hint}") from None
    except (ValueError, UnsupportedAlgorithm):
        problem = "the passphrase is wrong for the key" if b"ENCRYPTED" in pem else "this is no private key in PEM form:"
        raise IotctlError(f"{problem} {path}") from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size != _BITS:
        raise IotctlError(f"the key {path} is not RSA with {_BITS} bits: make one with `iotctl keygen`")
    return key


def holds_private(data: bytes) -> bool:
    """True for a file with a private key in it, of whatever kind: PEM anywhere in it, or all of it DER."""
    if _PRIVATE_PEM.search(data):
        return True
    try:
        return data[:1] == b"\x30" and bool(serialization.load_der_private_key(data, None))
    except TypeError:  # one that has a passphrase
        return True
    except (ValueError, UnsupportedAlgorithm):
        return False


def read_public_jwk(path: Path, passphrase: str | None = None) -> Jwk:
    """The public half, as a JWK, of a PEM file with either half."""
    pem = path.read_bytes()
    if b"PRIVATE KEY" in pem:
        return jwk(read_private(path, passphrase))
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise IotctlError(f"this is no key in PEM form: {path}") from None
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size != _BITS:
        raise IotctlError(f"the key {path} is not RSA with {_BITS} bits")
    return _jwk(key)


def jwk(key: PrivateKey) -> Jwk:
    """The public half as it stands in a profile (RFC 7517)."""
    return _jwk(key.public_key())


def sign(key: PrivateKey, data: bytes) -> bytes:
    """The raw signature of `data`: 384 bytes, always the same for the same key and data."""
    return key.sign(data, padding.PKCS1v15(), hashes.SHA256())


def check_signature(data: bytes, signature: bytes | None, known: list[Jwk]) -> None:
    """OtaError ``no_signature`` or ``bad_signature`` unless one of the `known` keys made it."""
    board_code.finish(board_sign.checking(hashlib.sha256(data).digest(), signature, known))


def check_pinned(key: PrivateKey, pinned: list[Jwk], role: str) -> None:
    """IotctlError unless boards that pin these keys for a `role` believe `key`. Without any they believe all."""
    if pinned and not any(jwk(key)["n"] == other.get("n") for other in pinned):
        where = f"ota.public_keys or ota.{role}_keys"
        raise IotctlError(f"this key is not among the profile's {where}: its boards would refuse what it signs")


def _jwk(key: rsa.RSAPublicKey) -> Jwk:
    numbers = key.public_numbers()
    if numbers.e != 65537:
        raise IotctlError("a key must have the public exponent 65537")
    raw = numbers.n.to_bytes(board_sign.KEY_BYTES, "big")
    return {"kty": "RSA", "n": base64.urlsafe_b64encode(raw).decode(), "e": "AQAB"}
