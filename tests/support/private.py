"""What of a private key could lie somewhere: looked for piece by piece, for a piece is enough to do harm."""

from __future__ import annotations

import base64
import gzip
import io
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from iotctl import keys

_MARKS = (b"PRIVATE KEY", b"ENCRYPTED")


def parts(data: bytes, secrets: Iterable[keys.PrivateKey], files: Iterable[bytes] = ()) -> list[str]:
    """Which parts of private keys are in it: the words of PEM, a secret number, a piece of DER or of PEM.

    :param files: the content of PEM files with a passphrase, which have nothing in common with the key's numbers.
    """
    found = [mark.decode() for mark in _MARKS if mark in data]
    for n, secret in enumerate(secrets):
        found += [f"{name} of key {n}" for name, forms in _numbers(secret) if any(form in data for form in forms)]
        if any(piece in data for piece in _pieces(_secret_der(secret))):
            found.append(f"key {n}")
    for n, pem in enumerate(files):
        if any(piece in data for piece in _pieces(base64.b64decode(b"".join(pem.splitlines()[1:-1])))):
            found.append(f"file {n}")
    return found


def _numbers(secret: keys.PrivateKey) -> Iterator[tuple[str, list[bytes]]]:
    """The secret numbers, each raw in both byte orders, in hex and in decimal."""
    numbers = secret.private_numbers()
    for name in ("d", "p", "q", "dmp1", "dmq1", "iqmp"):
        value: int = getattr(numbers, name)
        raw = value.to_bytes((value.bit_length() + 7) // 8, "big")
        forms = [raw[8:40], raw[::-1][8:40], b"%x" % value, b"%X" % value, b"%d" % value]
        yield name, forms + [base64.urlsafe_b64encode(raw[shift:])[8:48] for shift in range(3)]


def _secret_der(secret: keys.PrivateKey) -> bytes:
    """The end of a key's DER, the same in every format: before it stand the modulus and 65537, which every board has."""
    traditional = serialization.PrivateFormat.TraditionalOpenSSL
    der = secret.private_bytes(serialization.Encoding.DER, traditional, serialization.NoEncryption())
    modulus = secret.public_key().public_numbers().n.to_bytes(384, "big")
    return der[der.index(modulus) + len(modulus) + 5 :]


def _pieces(der: bytes) -> Iterator[bytes]:
    """Of each 64 bytes 32, and the same in base64, wherever it began: 20 letters of each 60, so that some are in one line."""
    for at in range(0, len(der) - 32, 64):
        yield der[at : at + 32]
    for shift in range(3):
        text = base64.b64encode(der[shift:])
        for at in range(0, len(text) - 24, 60):
            yield text[at : at + 20]


def unpacked(path: str, data: bytes) -> dict[str, bytes]:
    """A file as it is, and all that can be unpacked from it: a bundle's members, and what browsers get gzipped."""
    found = {path: data}
    if path.endswith(".tar.gz"):
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive.getmembers():
                content = archive.extractfile(member)
                if content:  # else it is a folder
                    found.update(unpacked(f"{path}: {member.name}", content.read()))
    elif data[:2] == b"\x1f\x8b":
        found[f"{path}, unpacked"] = gzip.decompress(data)
    return found


def below(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, unpacked."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.update(unpacked(str(path), path.read_bytes()))
    return found
