"""Which release this board takes: pure decisions, no file and no network.

Its sequence may not be at or below the floor (only force allows the floor itself, nothing allows less), nor far above it: whoever
has a key for a day must not use up all numbers.
"""

import hashlib
import sys

from ..errors import OtaError
from .fields import compare_versions

MAX_STEP = 1 << 32  # of a sequence above the floor; more than seconds since 1970 will be before 2106


def check(header, name, floor=0, force=False, now=None, expect=None):
    """Refuse a release that is not for this board, now. OtaError says why.

    :param name: the board's shortName.
    :param floor: the highest sequence that was confirmed here.
    :param now: seconds since 1970, or None.
    :param expect: (version, sequence) that the channel file announced, or None.
    """
    if header["name"] != name:
        raise OtaError("wrong_name", "the release is for %s, this board is %s" % (header["name"], name))
    if expect and (header["version"], header["sequence"]) != expect:
        raise OtaError("version_mismatch", "the bundle is version %s, not what was announced" % header["version"])
    check_sequence(header["sequence"], floor, force)
    if now is not None and header["expires"] is not None and now > header["expires"]:
        raise OtaError("expired", "the release has expired")
    mpy = getattr(sys.implementation, "_mpy", 0) & 0xFF
    if header["mpy"] and mpy and header["mpy"] != mpy:
        text = "the release has .mpy files of version %d, this MicroPython loads %d"
        raise OtaError("wrong_mpy", text % (header["mpy"], mpy))
    version = ".".join(str(part) for part in sys.implementation.version[:3])
    if sys.implementation.name == "micropython" and compare_versions(header["micropython"], version) > 0:
        raise OtaError("wrong_mpy", "the release needs MicroPython %s, this is %s" % (header["micropython"], version))


def check_sequence(sequence, floor, force):
    """OtaError ``old_sequence`` unless the sequence is above the floor, or is the floor by force."""
    if sequence < floor or (sequence == floor and floor and not force):
        raise OtaError("old_sequence", "sequence %d is not above %d, which was confirmed here" % (sequence, floor))
    if sequence > floor + MAX_STEP:
        raise OtaError("far_sequence", "sequence %d is more than %d above %d" % (sequence, MAX_STEP, floor))


def is_newer(version, sequence, floor, running):
    """True when an unforced check should offer a release: a higher sequence, and a higher version."""
    return (not floor or sequence > floor) and compare_versions(version, running) > 0


def retry_pause(reason, tries):
    """How many checks pass over a failed release before it is tried again; None for ever, unless it may not be its fault.

    Checks, not seconds: they come about once an interval, are counted across restarts and deep sleep, and need no clock.
    """
    if reason not in ("no_network", "power", "no_memory") or tries > 3:
        return None
    return 4**tries


def rollout_allows(channel, unique_id, group=None):
    """True when this board is in the channel file's staged rollout: a fixed, even choice that no server has to know."""
    rollout = channel.get("rollout", {})
    percent = rollout.get("groups", {}).get(group, rollout.get("percent", 100))
    digest = hashlib.sha256((str(channel["sequence"]) + unique_id).encode()).digest()
    return int.from_bytes(digest, "big") % 100 < percent
