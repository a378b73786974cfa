"""Deciding whether this board wants what the channel file announces.

What is needed after the signature's check comes after it, by phases: a heap of 128 KiB with everything has no room for both.
"""

import binascii
import hashlib

from . import phases
from .errors import OtaError
from .release import channel, signature


def decide(ota, raw, etag, force):
    """The offer that the channel file's bytes `raw` make to this board, or None when there is nothing to do. Generator.

    An offer is a dict with ``version sequence source notes file head size``: what there is, the digest of the channel file that
    says so, and the bundle that has it. (A dict, because an object of a class would keep this file's code in memory.)

    OtaError when it is refused, or when it offers what has failed or was refused here. What it teaches is noted in the store.
    """
    source = binascii.hexlify(hashlib.sha256(raw).digest()).decode()[:16]
    keys = signature.pinned(ota.cfg, "channel")
    value = yield from channel.parse(raw, keys)
    yield phases.alone
    seen, counter = ota.store.get("published", {}), value["published"]
    channel.check(value, ota.name_on_server, ota.channel, seen.get(ota.channel, 0) if keys else None, ota.platform.board.now())
    if keys and counter != seen.get(ota.channel):
        ota.store.set("published", dict(seen, **{ota.channel: counter}))
    version, sequence = value["version"], value["sequence"]
    ota.platform.bus.publish("ota/announced", version)
    yield
    ota.log("channel %s has %s (sequence %d), running %s" % (ota.channel, version, sequence, ota.local_version()))
    for name in ("release.policy", "bundle.lists"):
        yield from ota.load(name)
    offer = None
    if force:
        phases.part("release.policy").check_sequence(sequence, ota.floor, True)
    if force or wanted(ota, value, source):
        offer = dict(value["bundle"], version=version, sequence=sequence, source=source, notes=value["notes"])
    ota.store.set("etag", [ota.channel, etag] if offer is None and etag else None)
    return offer


def wanted(ota, value, source):
    policy = phases.part("release.policy")
    version, sequence = value["version"], value["sequence"]
    if not policy.is_newer(version, sequence, ota.floor, ota.local_version()):
        return False
    platform = ota.platform
    if not policy.rollout_allows(value, platform.board.unique_id(), platform.prefs.text("group")):
        ota.log("version %s: this board is not in the rollout yet" % version)
        return False
    ota.module.found(version, value["notes"])
    check_failed(ota, version, failure(ota, sequence))
    check_refused(ota, version, source)
    return True


def failure(ota, sequence):
    """What is remembered of a release that failed here (state.add_failure), the list itself; or None."""
    return ota.store.get("failed", {}).get(str(sequence))


def check_failed(ota, version, failure):
    """OtaError for what failed its trial here, unless that may not have been its fault and enough checks have passed over it."""
    if not failure:
        return
    pause = phases.part("release.policy").retry_pause(failure[1], failure[3])
    passed = failure[4]
    if pause is not None and passed >= pause:
        return
    if ota.name in ("check", "fetch", "update"):  # else this is only a plan
        failure[4] += 1
    when = "" if pause is None else " before %d more checks" % (pause - passed)
    raise OtaError("failed_before", "version %s failed here before (%s) and is not tried again%s" % (version, failure[1], when))


def check_refused(ota, version, source):
    """What was refused is not fetched again until the server announces something else."""
    refused = ota.store.get("refused")
    if refused and refused[0] == source:
        raise OtaError(refused[1], "version %s was refused before: %s" % (version, refused[2]))
