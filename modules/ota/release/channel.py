"""The channel file (docs/formats.md): what is current, and the bundle that has it. Two lines: JSON, and its signature in base64.

Pure: bytes in; a checked dict out, or an OtaError. What is no two whole lines is what networks send in its place. Where a key is
pinned ``published`` never goes back, for an old, validly signed file may be replayed; one that was seen beyond the bound of the
board's time binds nothing.
"""

import binascii
import hashlib

from iot_platform.module import name_ok
from micropython import const

from ..errors import OtaError
from . import signature
from .fields import FORMAT, MAX_COUNTER, is_digest, is_version, is_whole, load_object

MAX_BYTES = 4096
MAX_NOTES = 255  # characters
DAY = 86_400
LATEST = 2_400_000_000  # 2046: boards without the time do not take what a stolen key may say of the days after
_SIGNATURE = const(512)  # bytes in base64


def parse(raw, keys):
    """The channel file's content as a dict, its signature checked when `keys` (JWKs) are pinned. Generator."""
    if len(raw) > MAX_BYTES:
        raise OtaError("too_large", "the channel file is larger than %d bytes" % MAX_BYTES)
    line, _, rest = bytes(raw).partition(b"\n")
    if line[:1] != b"{" or line[-1:] != b"}" or 0 < len(rest) < _SIGNATURE:
        raise OtaError("bad_response", "the server's answer is no channel file: a login page, or one that was cut short")
    if keys:
        text = rest.strip()
        try:
            found = binascii.a2b_base64(text) if text else None
        except ValueError:
            raise OtaError("bad_signature", "the channel file's signature is not base64")
        yield from signature.checking(hashlib.sha256(line).digest(), found, keys, "the channel file")
    yield
    value = load_object(line, "the channel file", "bad_channel")
    yield
    _check(value)
    return value


def check(value, name, channel, published, now):
    """Refuse a channel file that is not for this board and channel, or is older than one seen before.

    `published` is the highest counter seen on this channel; None without a key, when anything goes. `now` is None on a board that
    does not know the time.
    """
    if value["name"] != name:
        raise OtaError("wrong_name", "the channel file is for %s, this board is %s" % (value["name"], name))
    if value["channel"] != channel:
        raise OtaError("bad_channel", "the channel file is for channel %s, not %s" % (value["channel"], channel))
    most = now + DAY if now else LATEST
    if published is not None and value["published"] > most:
        raise OtaError("bad_channel", "the channel file is from the future: is the clock right?")
    if published is not None and value["published"] < published <= most:
        raise OtaError("old_sequence", "the channel file is older than one that was seen before")
    expires = value.get("expires")
    if now is not None and expires is not None and now > expires:
        raise OtaError("expired", "the channel file has expired")


def _check(value):
    get, rollout = value.get, value.get("rollout", {"percent": 100})
    groups = rollout.get("groups", {}) if isinstance(rollout, dict) else None  # {"house": 50}: percentages of those boards' own
    for key, good in (
        ("format", get("format") is not True and get("format") == FORMAT),
        ("name or channel", name_ok(get("name")) and name_ok(get("channel"))),
        ("version", is_version(get("version"))),
        ("sequence", is_whole(get("sequence"), MAX_COUNTER)),
        ("published", is_whole(get("published"), MAX_COUNTER)),
        ("expires", get("expires") is None or is_whole(get("expires"), MAX_COUNTER)),
        ("notes", isinstance(get("notes"), str) and len(get("notes")) <= MAX_NOTES),
        ("bundle", isinstance(get("bundle"), dict) and _is_bundle(get("bundle").get)),
        ("rollout", isinstance(rollout, dict) and is_whole(rollout.get("percent"), 100)),
        ("rollout's groups", isinstance(groups, dict) and all(name_ok(name) and is_whole(groups[name], 100) for name in groups)),
    ):
        if not good:
            raise OtaError("bad_channel", "the channel file's %s is missing or wrong" % key)


def _is_bundle(get):
    """``{"file", "size", "head", "sha256"}``: a plain name beside the channel file, never a path; the digest of its list."""
    known = name_ok(get("file")) and is_digest(get("sha256"))
    return known and is_whole(get("size"), MAX_COUNTER) and is_whole(get("head"), get("size") - 1) and get("head") > 0
