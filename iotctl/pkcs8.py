"""A private key under a passphrase: PKCS#8 with PBES2, scrypt and AES-256-CBC (RFC 5958, 8018, 7914), as openssl reads it.

Put together here because the library, which reads it as well, itself writes 2,048 rounds of PBKDF2 only.
"""

from __future__ import annotations

import base64
import hashlib
import os

from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.x509 import ObjectIdentifier

_N, _R, _P = 1 << 14, 8, 5  # 17 MiB a guess: openssl gives scrypt 32 at most when it reads a key
_PBES2 = ObjectIdentifier("1.2.840.113549.1.5.13")
_SCRYPT = ObjectIdentifier("1.3.6.1.4.1.11591.4.11")
_AES_256_CBC = ObjectIdentifier("2.16.840.1.101.3.4.1.42")


@asn1.sequence
class _Costs:
    salt: bytes
    n: int
    r: int
    p: int


@asn1.sequence
class _Kdf:
    name: ObjectIdentifier
    costs: _Costs


@asn1.sequence
class _Cipher:
    name: ObjectIdentifier
    iv: bytes


@asn1.sequence
class _Scheme:
    kdf: _Kdf
    cipher: _Cipher


@asn1.sequence
class _Algorithm:
    name: ObjectIdentifier
    scheme: _Scheme


@asn1.sequence
class _Protected:
    algorithm: _Algorithm
    secret: bytes


def protect(key: bytes, passphrase: str) -> bytes:
    """The PEM of a PKCS#8 private key, which is DER, under a passphrase."""
    salt, iv = os.urandom(16), os.urandom(16)
    derived = hashlib.scrypt(passphrase.encode(), salt=salt, n=_N, r=_R, p=_P, maxmem=64 << 20, dklen=32)
    pad = padding.PKCS7(128).padder()
    encrypt = Cipher(algorithms.AES(derived), modes.CBC(iv)).encryptor()
    secret = encrypt.update(pad.update(key) + pad.finalize()) + encrypt.finalize()
    scheme = _Scheme(kdf=_Kdf(name=_SCRYPT, costs=_Costs(salt=salt, n=_N, r=_R, p=_P)), cipher=_Cipher(name=_AES_256_CBC, iv=iv))
    made = asn1.encode_der(_Protected(algorithm=_Algorithm(name=_PBES2, scheme=scheme), secret=secret))
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n" + base64.encodebytes(made) + b"-----END ENCRYPTED PRIVATE KEY-----\n"
