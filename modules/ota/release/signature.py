"""RSA-3072 PKCS#1 v1.5 signatures over SHA-256, checked with one modular power: its 17 products are a step each of a generator.

RSA because its check is a single ``pow()``: 1.4 ms and for a moment 3.5 KB of heap on the 32-bit port, where Ed25519 would
need about a thousand point additions. The whole padded block is compared, so nothing in it is parsed (RFC 8017, 8.2.2).
Keys are JWK objects (RFC 7517) as they stand in the profile: ``{"kty":"RSA","n":"<base64url>","e":"AQAB"}``.
"""

import binascii

from micropython import const

from ..errors import OtaError

KEY_BYTES = 384
MAX_KEYS = 4
PINS = ("public_keys", "release_keys", "channel_keys")  # what a profile may pin them in: see pinned
# DER of DigestInfo{sha256, NULL} without the digest (RFC 8017, 9.2 note 1).
_PREFIX = const(b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20")


def pinned(ota, role):
    """The keys that the profile's section pins for a `role`, "release" or "channel"; ``public_keys`` pins them for both."""
    return ota.get(role + "_keys") or ota.get("public_keys") or ()


def modulus(jwk):
    """The modulus of a JWK as an int; OtaError ``bad_key`` unless it is an odd 3072-bit number with e = 65537."""
    if not isinstance(jwk, dict) or jwk.get("kty") != "RSA" or jwk.get("e") != "AQAB":
        raise OtaError("bad_key", 'a key must be a JWK {"kty":"RSA","n":...,"e":"AQAB"}')
    n, raw = jwk.get("n"), b""
    try:
        if isinstance(n, str) and len(n) == KEY_BYTES * 4 // 3:  # 384 is a multiple of 3: never any padding
            raw = binascii.a2b_base64(n.replace("-", "+").replace("_", "/"))
    except ValueError:
        raw = b""
    if len(raw) != KEY_BYTES or not raw[0] & 0x80 or not raw[-1] & 1:
        raise OtaError("bad_key", "a key must be RSA with 3072 bits, its n in base64url")
    return int.from_bytes(raw, "big")


def verifying(digest, signature, jwk):
    """True when `signature` (384 raw bytes) is the key's signature of the 32-byte SHA-256 `digest`. Generator."""
    if len(signature) != KEY_BYTES:
        return False
    n, s = modulus(jwk), int.from_bytes(signature, "big")
    if s >= n:
        return False
    padding = KEY_BYTES - 3 - len(_PREFIX) - len(digest)
    block = b"\x00\x01" + b"\xff" * padding + b"\x00" + _PREFIX + digest
    power = s
    for _ in range(16):  # s to the 65537th; one pow() would keep a Pico W for 0.3 s
        power = power * power % n
        yield
    return (power * s % n).to_bytes(KEY_BYTES, "big") == block


def verifying_any(digest, signature, keys):
    """True when one of the pinned `keys` verifies; a key that is no key verifies nothing. Generator."""
    for jwk in keys:
        try:
            if (yield from verifying(digest, signature, jwk)):
                return True
        except OtaError:
            continue
    return False


def checking(digest, signature, keys, what="the release"):
    """OtaError ``no_signature`` or ``bad_signature`` unless one of the pinned `keys` signed this digest. Generator."""
    if signature is None:
        raise OtaError("no_signature", "%s is not signed, but this board has a key" % what)
    if not (yield from verifying_any(digest, signature, keys)):
        raise OtaError("bad_signature", "no pinned key signed %s" % what)
