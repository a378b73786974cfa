"""Deciding whether this board wants what the channel file announces."""

import binascii
import hashlib

from . import channel, policy
from .errors import OtaError
from .offer import Offer


def decide(ota, raw, etag, force):
    """The Offer that the channel file's bytes `raw` make to this board, or None when there is nothing to do.

    OtaError when the file is refused, or when it offers what has failed or was refused here. The newest counter and the etag of
    an answer that leads to nothing are noted in the store.
    """
    source = binascii.hexlify(hashlib.sha256(raw).digest()).decode()[:16]
    value = channel.parse(raw, ota.keys, ota.room)
    seen = ota.store.get("published", {})
    channel.check(value, ota.name_on_server, ota.channel, seen.get(ota.channel, 0) if ota.keys else 0, ota.now())
    if value["published"] > seen.get(ota.channel, 0):
        ota.store.set("published", dict(seen, **{ota.channel: value["published"]}))
    offer = _decide(ota, value, source, force)
    ota.store.set("etag", [ota.channel, etag] if offer is None and etag else None)
    return offer


def _decide(ota, value, source, force):
    version, sequence = value["version"], value["sequence"]
    ota.log("channel %s has %s (sequence %d), running %s" % (ota.channel, version, sequence, ota.local_version()))
    if force:
        policy.check_sequence(sequence, ota.floor, True)
    elif not _wanted(ota, value):
        return None
    else:
        check_refused(ota, version, source)
    full = _offer(value, value["bundle"], source)
    delta = value.get("deltas", {}).get(ota.local_version())
    return _offer(value, delta, source, full) if delta and _usable(ota, source) else full


def _offer(value, found, source, full=None):
    version, sequence, unpacked = value["version"], value["sequence"], found.get("unpacked")
    return Offer(version, sequence, found["file"], found["size"], found["sha256"], unpacked, source=source, full=full)


def _usable(ota, source):
    """A delta is for boards that keep the list of what they run; and one that failed here is not tried again."""
    from . import kept

    running = kept.read_header(kept.RUNNING)
    return bool(running) and running.get("version") == ota.local_version() and ota.store.get("no_delta") != source


def _wanted(ota, value):
    version, sequence = value["version"], value["sequence"]
    if not policy.is_newer(version, sequence, ota.floor, ota.local_version()):
        return False
    if not policy.rollout_allows(value, ota.platform.board.unique_id()):
        ota.log("version %s: this board is not in the rollout yet" % version)
        return False
    check_failed(ota, version, ota.store.failure(sequence))
    return True


def check_failed(ota, version, failure):
    """OtaError for what failed its trial here, unless that may not have been its fault and enough checks have passed over it.

    :param failure: what the store remembers of it, or None. Its number of checks goes up, unless this is only a plan.
    """
    if not failure:
        return
    pause, passed = policy.retry_pause(failure[1], failure[3]), sum(failure[4:])  # an older state has no such number
    if pause is not None and passed >= pause:
        return
    if ota.name in ("check", "fetch", "update"):
        failure[4:] = [passed + 1]
    when = "" if pause is None else " before %d more checks" % (pause - passed)
    raise OtaError("failed_before", "version %s failed here before (%s) and is not tried again%s" % (version, failure[1], when))


def check_refused(ota, version, source):
    """What was refused is not fetched again until the server announces something else."""
    refused = ota.store.get("refused")
    if refused and refused[0] == source:
        raise OtaError(refused[1], "version %s was refused before: %s" % (version, refused[2]))
