"""Just before the commit: what is committed is the stage, so the stage is checked once more.

1. Where keys are pinned, the new profile pins one that verifies this very release: no lock-out, no take-over.
2. The list on flash is the one that was checked, and every staged file has its digest.
"""

import binascii
import gc
import json

import ota_boot

from . import files, sign
from .errors import OtaError
from .excluded import excluded
from .kept import LIST, entries, target

_MAX_PROFILE = 16 * 1024


def check(stage, keys, room=None):
    """Check a filled stage.Stage. Generator; OtaError ``bad_key`` or ``flash_error``.

    :param keys: the pinned keys of the running version.
    :param room: see sign.verify.
    """
    if keys:
        _check_profile(stage, room)
    yield from _check_list(stage)
    yield from _check_stage(stage)


def _check_profile(stage, room):
    if excluded("profile.json", stage.excluded):
        return
    keys = _new_profile(stage).get("ota", {}).get("public_keys") or []
    if not isinstance(keys, list) or not 0 < len(keys) <= sign.MAX_KEYS:
        raise OtaError("bad_key", "the new profile pins no key")
    if not sign.verify_any(stage.digest, stage.signature, keys, room):
        raise OtaError("bad_key", "the new profile's keys do not verify this release")


def _new_profile(stage):
    size = path = None
    for entry in stage.complete():
        if entry["path"] == "profile.json":
            size, path = entry["size"], ota_boot.live("profile.json")
    for n, entry in entries():
        if entry["path"] == "profile.json" and ota_boot.exists(ota_boot.slot("stage", n)):
            path = ota_boot.slot("stage", n)
    if size is not None:
        return _load_profile(path, size)
    raise OtaError("bad_key", "the release has no profile.json, so it pins no key")


def _load_profile(path, size):
    if size > _MAX_PROFILE:
        raise OtaError("bad_key", "the new profile is larger than %d bytes" % _MAX_PROFILE)
    with open(path) as f:
        try:
            profile = json.load(f)
        except ValueError:
            profile = None
        except MemoryError:
            gc.collect()
            if gc.mem_free() < _MAX_PROFILE:
                raise  # memory was short before: it may be good
            profile = None
    if not isinstance(profile, dict) or not isinstance(profile.get("ota", {}), dict):
        raise OtaError("bad_key", "the new profile is not a profile, so it pins no key")
    return profile


def _check_list(stage):
    """The list is still the one that was signed, or that the delta and the old one make. Generator."""
    good = (yield from files.digest(ota_boot.ota(LIST), stage.view)) == binascii.hexlify(stage.digest).decode()
    if good and stage.header["base"] is not None:
        from . import changes

        good = yield from changes.same_list(stage, ota_boot.slot("stage", stage.header["files"]))
    if not good:
        raise OtaError("flash_error", "the list of files changed on flash after it had been checked")


def _check_stage(stage):
    """Hash every staged file once more. Generator."""
    for n, entry in entries():
        staged = target(n, entry)
        if entry["size"] is not None and (stage.wants(n) or ota_boot.exists(staged)):
            if not (yield from files.same(staged, entry["size"], entry["sha256"], stage.view)):
                raise OtaError("flash_error", "%s changed on flash after it had been staged" % entry["path"])
        yield
