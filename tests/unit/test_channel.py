"""The channel file and its signature: bytes in; accepted, or an OtaError."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from iotctl.board_code import finish
from modules.ota.errors import OtaError
from modules.ota.release import channel
from modules.ota.release import signature as board_signature

FILE = {"file": "1.2.3.tar.gz", "size": 1000, "head": 200, "sha256": "ab" * 32}
VALUE: dict[str, Any] = {
    "format": 2,
    "name": "sim-board",
    "channel": "stable",
    "version": "1.2.3",
    "sequence": 7,
    "published": 1_700_000_000,
    "expires": None,
    "notes": "Fixes the door.",
    "bundle": FILE,
    "rollout": {"percent": 100},
}
JUNK: tuple[Any, ...] = (-1, 1 << 60, 1.5, [], {}, "x" * 5000, "../x", "", {"file": "../x"}, {"percent": 101})


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=3072)


def jwk(key: rsa.RSAPrivateKey) -> dict[str, str]:
    n = key.public_key().public_numbers().n.to_bytes(384, "big")
    return {"kty": "RSA", "n": base64.urlsafe_b64encode(n).decode(), "e": "AQAB"}


def signed(value: object, key: rsa.RSAPrivateKey) -> bytes:
    line = json.dumps(value).encode()
    signature = key.sign(line, padding.PKCS1v15(), hashes.SHA256())
    return line + b"\n" + base64.b64encode(signature) + b"\n"


def refusal(raw: bytes, keys: list[dict[str, str]]) -> str:
    with pytest.raises(OtaError) as caught:
        finish(channel.parse(raw, keys))
    return caught.value.reason


def test_accepts_a_signed_file_and_an_unsigned_one_without_a_key(key: rsa.RSAPrivateKey) -> None:
    assert finish(channel.parse(signed(VALUE, key), [jwk(key)])) == VALUE
    assert finish(channel.parse(json.dumps(VALUE).encode(), [])) == VALUE


def test_refuses_a_missing_a_changed_and_a_foreign_signature(key: rsa.RSAPrivateKey) -> None:
    raw = signed(VALUE, key)
    other = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    assert refusal(raw.split(b"\n")[0], [jwk(key)]) == "no_signature"
    assert refusal(raw.replace(b"1.2.3", b"1.2.4"), [jwk(key)]) == "bad_signature"
    assert refusal(raw, [jwk(other)]) == "bad_signature"
    assert refusal(raw.split(b"\n")[0] + b"\n" + b"!" * 512 + b"\n", [jwk(key)]) == "bad_signature"


def test_what_a_network_sends_in_its_place_is_no_word_about_a_signature(key: rsa.RSAPrivateKey) -> None:
    raw = signed(VALUE, key)
    cut = raw.index(b"\n")
    for sent in (b"", b"<html>log in here</html>", b"<p>\n" + raw, raw[:-20], *(raw[:length] for length in (1, 100, cut + 2))):
        assert refusal(sent, [jwk(key)]) == refusal(sent, []) == "bad_response", sent


def test_one_of_several_pinned_keys_is_enough(key: rsa.RSAPrivateKey) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    assert finish(channel.parse(signed(VALUE, key), [jwk(other), jwk(key)])) == VALUE


@pytest.mark.parametrize("key_name", [k for k in VALUE if k not in ("expires", "rollout")])
def test_refuses_a_missing_field(key_name: str) -> None:
    assert refusal(json.dumps({k: v for k, v in VALUE.items() if k != key_name}).encode(), []) == "bad_channel"


@pytest.mark.parametrize("junk", JUNK, ids=lambda v: repr(v)[:14])
@pytest.mark.parametrize("key_name", VALUE)
def test_refuses_junk_in_a_field(key_name: str, junk: Any) -> None:
    if key_name == "notes" and junk in ("", "../x"):  # free text
        return
    assert refusal(json.dumps(dict(VALUE, **{key_name: junk})).encode(), []) in ("bad_channel", "too_large")


@pytest.mark.parametrize("junk", [*JUNK, None, True], ids=lambda v: repr(v)[:14])
@pytest.mark.parametrize("key_name", FILE)
def test_refuses_junk_in_a_field_of_the_bundle(key_name: str, junk: Any) -> None:
    value = dict(VALUE, bundle=dict(FILE, **{key_name: junk}))
    assert refusal(json.dumps(value).encode(), []) in ("bad_channel", "too_large")


@pytest.mark.parametrize("key_name", FILE)
def test_refuses_a_bundle_without_one_of_its_fields(key_name: str) -> None:
    value = dict(VALUE, bundle={k: v for k, v in FILE.items() if k != key_name})
    assert refusal(json.dumps(value).encode(), []) == "bad_channel"


@pytest.mark.parametrize("head", [0, 1000, 1001])
def test_refuses_a_head_that_is_nothing_or_leaves_nothing(head: int) -> None:
    assert refusal(json.dumps(dict(VALUE, bundle=dict(FILE, head=head))).encode(), []) == "bad_channel"


@pytest.mark.parametrize("head", [1, 999])
def test_accepts_any_other_head(head: int) -> None:
    assert finish(channel.parse(json.dumps(dict(VALUE, bundle=dict(FILE, head=head))).encode(), []))["bundle"]["head"] == head


def test_notes_have_at_most_255_characters() -> None:
    for letter in ("x", "\U0001f6aa"):
        text = json.dumps(dict(VALUE, notes=letter * 255), ensure_ascii=False)
        assert finish(channel.parse(text.encode(), []))["notes"] == letter * 255
        assert refusal(text.replace(letter * 255, letter * 256).encode(), []) == "bad_channel"


@pytest.mark.parametrize("format", [1, 3])
def test_refuses_another_format(format: int) -> None:
    assert refusal(json.dumps(dict(VALUE, format=format)).encode(), []) == "bad_channel"


@pytest.mark.parametrize("key_name", VALUE)
def test_refuses_a_field_that_stands_twice(key_name: str) -> None:
    text = json.dumps(VALUE)[:-1] + ", " + json.dumps({key_name: VALUE[key_name]})[1:]
    assert refusal(text.encode(), []) == "bad_channel"


@given(st.binary(max_size=5000))
def test_garbage_is_refused_with_our_error(raw: bytes) -> None:
    assert refusal(raw, []) in ("bad_channel", "bad_response", "too_large")


@pytest.mark.parametrize(
    ("change", "published", "now", "reason"),
    [
        ({"name": "other"}, 0, None, "wrong_name"),
        ({"channel": "canary"}, 0, None, "bad_channel"),
        ({}, 1_700_000_001, None, "old_sequence"),
        ({"expires": 1_700_000_001}, 0, 1_700_000_002, "expired"),
    ],
)
def test_refuses_what_is_not_for_this_board_now(change: dict[str, Any], published: int, now: int | None, reason: str) -> None:
    with pytest.raises(OtaError) as caught:
        channel.check(dict(VALUE, **change), "sim-board", "stable", published, now)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("counter", "seen", "now", "reason"),
    [
        (1_790_086_400, 0, 1_790_000_000, ""),  # a day ahead
        (1_790_086_401, 0, 1_790_000_000, "bad_channel"),
        (channel.LATEST, 0, None, ""),
        (channel.LATEST + 1, 0, None, "bad_channel"),
        ((1 << 53) - 1, None, None, ""),  # without a key it says nothing
        (1_790_000_000, (1 << 53) - 1, 1_790_000_000, ""),  # what a stolen key has said of the future binds nothing
        (1_790_000_000, (1 << 53) - 1, None, ""),
        (1_790_000_000, channel.LATEST, 1_790_000_000, ""),
        (1_790_000_000, channel.LATEST, None, "old_sequence"),  # until the board knows the time
    ],
)
def test_a_counter_is_at_most_a_day_ahead(counter: int, seen: int | None, now: int | None, reason: str) -> None:
    try:
        channel.check(dict(VALUE, published=counter), "sim-board", "stable", seen, now)
    except OtaError as error:
        assert error.reason == reason
    else:
        assert not reason


def test_does_not_judge_expiry_on_a_board_without_the_time() -> None:
    channel.check(dict(VALUE, expires=1000), "sim-board", "stable", VALUE["published"], None)


# -- the signature itself


def test_every_flipped_bit_of_a_signature_is_refused(key: rsa.RSAPrivateKey) -> None:
    message = b"release"
    digest = hashlib.sha256(message).digest()
    signature = key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    assert finish(board_signature.verifying(digest, signature, jwk(key)))
    for position in range(len(signature)):
        changed = bytearray(signature)
        changed[position] ^= 1 << position % 8
        assert not finish(board_signature.verifying(digest, bytes(changed), jwk(key)))


@pytest.mark.parametrize("length", [0, 1, 383, 385, 768])
def test_a_signature_of_another_length_is_refused(key: rsa.RSAPrivateKey, length: int) -> None:
    assert not finish(board_signature.verifying(hashlib.sha256(b"x").digest(), b"\x01" * length, jwk(key)))


def test_a_signature_beyond_the_modulus_is_refused(key: rsa.RSAPrivateKey) -> None:
    signature = int.from_bytes(key.sign(b"x", padding.PKCS1v15(), hashes.SHA256()), "big")
    beyond = signature + key.public_key().public_numbers().n
    if beyond.bit_length() <= 3072:
        assert not finish(board_signature.verifying(hashlib.sha256(b"x").digest(), beyond.to_bytes(384, "big"), jwk(key)))
    assert not finish(board_signature.verifying(hashlib.sha256(b"x").digest(), b"\xff" * 384, jwk(key)))


@pytest.mark.parametrize(
    "change", [{"kty": "EC"}, {"e": "Aw"}, {"n": ""}, {"n": "A" * 511}, {"n": "A" * 512}, {"n": 7}, {"n": "!" * 512}, {"n": None}]
)
def test_refuses_a_key_that_is_no_rsa_3072_key(key: rsa.RSAPrivateKey, change: dict[str, Any]) -> None:
    with pytest.raises(OtaError) as caught:
        board_signature.modulus(dict(jwk(key), **change))
    assert caught.value.reason == "bad_key"
