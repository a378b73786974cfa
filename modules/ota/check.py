"""Asking the server what is current, and deciding whether this board wants it.

The channel file decides. `If-None-Match` goes out only if the last answer led to nothing to do, and never when forced.
Where there is no channel file, a board without a pinned key that never installed a bundle speaks the `latest` protocol.
"""

import binascii
import hashlib

from . import channel, policy, versions
from .errors import OtaError, status_error
from .offer import Offer

_IDLE_MS = 15_000
_TOTAL_MS = 60_000


def look(ota, force):
    """Ask the server. Generator; returns an Offer, or None when there is nothing to do.

    OtaError when the server cannot be asked, gives an answer that is refused, or offers what failed or was refused here.
    """
    answer = yield from _ask(ota, force)
    if answer is None:
        return None
    raw, etag = answer
    if raw is None:
        return (yield from _look_legacy(ota, force))
    source = binascii.hexlify(hashlib.sha256(raw).digest()).decode()[:16]
    value = channel.parse(raw, ota.keys)
    seen = ota.store.get("published", {})
    channel.check(value, ota.name_on_server, ota.channel, seen.get(ota.channel, 0) if ota.keys else 0, ota.now())
    if value["published"] > seen.get(ota.channel, 0):
        seen[ota.channel] = value["published"]
        ota.store.set("published", seen)
    offer = _decide(ota, value, source, force)
    ota.store.set("etag", [ota.channel, etag] if offer is None and etag else None)
    return offer


def _ask(ota, force):
    """``(bytes, etag)`` of the channel file, ``(None, None)`` when there is none, None when it has not changed. Generator."""
    known = ota.store.get("etag")
    etag = known[1] if known and known[0] == ota.channel and not force else None
    response = yield from ota.http().get(
        ota.url(ota.channel + ".json"), etag=etag, max_body=channel.MAX_BYTES, idle_ms=_IDLE_MS, total_ms=_TOTAL_MS
    )
    try:
        if response.status == 304 and etag:
            return None
        if response.status in (404, 410) and _may_use_latest(ota):
            return (None, None)
        if response.status != 200:
            raise status_error(response, "the channel file")
        return ((yield from read_body(response, channel.MAX_BYTES)), response.etag)
    finally:
        ota.count(response)
        response.close()


def read_body(response, most):
    """A short body as bytes. Generator; OtaError ``too_large`` beyond `most` bytes."""
    expected = response.content_length
    view = memoryview(bytearray(min(most, most if expected is None else expected) + 1))
    length = 0
    while length < len(view):
        n = yield from response.read_into(view[length:])
        if not n:
            return bytes(view[:length])
        length += n
    raise OtaError("too_large", "the answer has more than %d bytes" % most)


def _may_use_latest(ota):
    return not ota.keys and not ota.store.get("bundled")


def _decide(ota, value, source, force):
    version, sequence = value["version"], value["sequence"]
    ota.log("channel %s has %s (sequence %d), running %s" % (ota.channel, version, sequence, ota.local_version()))
    if force:
        policy.check_sequence(sequence, ota.floor, True)
    elif not _wanted(ota, value):
        return None
    elif ota.store.get("refused", [None])[0] == source:
        _source, reason, text = ota.store.get("refused")
        raise OtaError(reason, "version %s was refused before: %s" % (version, text))
    bundle = value["bundle"]
    return Offer(version, sequence, bundle["file"], bundle["size"], bundle["sha256"], bundle.get("unpacked"), source=source)


def _wanted(ota, value):
    version, sequence = value["version"], value["sequence"]
    if not policy.is_newer(version, sequence, ota.floor, ota.local_version()):
        return False
    if sequence == ota.store.get("held"):
        ota.log("version %s is held: it was left by a rollback" % version)
        return False
    if not policy.rollout_allows(value, ota.platform.board.unique_id()):
        ota.log("version %s: this board is not in the rollout yet" % version)
        return False
    failure = ota.store.failure(sequence)
    if failure and not ota.may_retry(failure):
        raise OtaError("failed_before", "version %s failed here before (%s) and is not tried again" % (version, failure[1]))
    return True


def _look_legacy(ota, force):
    """The `latest` protocol. Generator."""
    from . import legacy

    ota.warn("no channel file and no pinned key: using the unsigned `latest` protocol")
    version, file, size_kb, size, sha256 = yield from legacy.latest(ota)
    ota.log("latest is %s, running %s" % (version, ota.local_version()))
    if not force and versions.compare(version, ota.local_version()) <= 0:
        return None
    return Offer(version, None, file, size, sha256, (size_kb or 0) * 1024, legacy=True)
