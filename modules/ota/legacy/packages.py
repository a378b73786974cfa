"""Libraries that this board misses, installed as mip installs them, under rules that mip itself does not have (docs/security.md).

mip cannot do it: it imports `requests` itself. Its package format: ``<index>/package/<mpy>/<name>/latest.json`` and
``<index>/file/<2>/<hash>``. What is fetched goes to ``/.ota/mip``, and moves to ``/lib`` when all of it is right.

This blocks, for at most a minute a file, and feeds the watchdog meanwhile.
"""

import binascii
import hashlib
import os
import sys
import time

import ota_boot
from iot_platform.module import name_ok
from micropython import const

from ..errors import OtaError
from ..install import files
from ..release import paths, signature
from ..release.fields import load_object
from ..transport.http import Http

_MAX_JSON = const(2048)
_MAX_FILE = const(65536)
_MAX_FILES = const(32)
_MAX_PACKAGES = const(6)


def ensure(name, cfg, log):
    """The module `name`, installed first if it is missing.

    OtaError ``no_package`` when it cannot be had, ``bad_digest``, ``bad_path`` or ``protected_path`` when it is refused.
    """
    try:
        return __import__(name)
    except ImportError:
        _install(name, cfg, log)
    try:
        return __import__(name)
    except ImportError:
        raise _missing(name, "what the index gave for it cannot be imported")


def _install(name, cfg, log):
    source = cfg.get("mip") or {}
    digests, pinned = source.get("sha256") or {}, bool(signature.pinned(cfg, "release"))
    if not source.get("index"):
        raise _missing(name, "the profile names no index to fetch it from (ota.mip.index)")
    if pinned and not digests:
        raise _missing(name, "a key is pinned, and the profile gives no digests for it (ota.mip.sha256)")
    log("%s is missing: installing it from %s" % (name, source["index"]))
    http, folder = Http(source["index"].rstrip("/") + "/"), ota_boot.ota("mip")
    run(files.remove_tree(folder))
    try:
        found = _look_up(http, name)
        for i, target in enumerate(found):
            digest = _fetch(http, found[target], "%s/%d" % (folder, i))
            if (pinned or target in digests) and digest != digests.get(target):
                raise OtaError("bad_digest", "%s from the index is not what the profile expects" % target)
        for i, target in sorted(enumerate(found), key=lambda pair: "__init__." in pair[1]):  # last: till then it is missing
            ota_boot.make_parents(ota_boot.live(target))
            if ota_boot.exists(ota_boot.live(target)):
                os.remove(ota_boot.live(target))
            os.rename("%s/%d" % (folder, i), ota_boot.live(target))
            log("installed", target)
    except OtaError as error:
        if error.kind != "transport":
            raise
        raise _missing(name, "it cannot be fetched: " + error.message)
    finally:
        http.close()
        run(files.remove_tree(folder))


def _look_up(http, name):
    """``{path on the board: URL}`` of all files of a package, and of those that it needs."""
    found, packages, mpy = {}, [[name, "latest"]], getattr(sys.implementation, "_mpy", 0) & 0xFF
    for package, version in packages:
        url = "package/%s/%s/%s.json" % (mpy or "py", package, version)
        value = load_object(run(_get(http, url, _MAX_JSON).read_all(_MAX_JSON)), "the index's answer", "bad_response")
        if value.get("urls"):
            raise OtaError("bad_response", "the index wants files from elsewhere")
        for path, short in _pairs(value, "hashes"):
            paths.check(path)
            paths.check_member("lib/" + path)
            found["lib/" + path] = "file/%s/%s" % (short[:2], short)
        packages += [pair for pair in _pairs(value, "deps") if pair not in packages]
        if len(packages) > _MAX_PACKAGES or len(found) > _MAX_FILES:
            raise OtaError("bad_response", "the index wants too many files")
    if not found:
        raise OtaError("bad_response", "the index does not have it")
    return found


def _pairs(value, key):
    pairs = value.get(key, [])
    if isinstance(pairs, list) and all(isinstance(pair, list) and len(pair) == 2 and name_ok(pair[1]) for pair in pairs):
        if key == "hashes" or all(name_ok(pair[0]) for pair in pairs):
            return pairs
    raise OtaError("bad_response", "the index's answer is not understood")


def _get(http, url, most):
    response = run(http.get(url, max_body=most))
    if response.status != 200:
        raise response.error(url)
    return response


def _fetch(http, url, path):
    """A file of the index to `path`; returns its SHA-256."""
    response, digest, view = _get(http, url, _MAX_FILE), hashlib.sha256(), memoryview(bytearray(1024))
    ota_boot.make_parents(path)
    with open(path, "wb") as out:
        while n := run(response.read_into(view)):
            digest.update(view[:n])
            out.write(view[:n])
    return binascii.hexlify(digest.digest()).decode()


def run(job, waits=True):
    """A generator's result, here and now; None when it does not wait, and would have to."""
    while True:
        try:
            next(job)
        except StopIteration as stop:
            return stop.value
        if not waits:
            return None
        ota_boot.feed()
        time.sleep_ms(1)


def _missing(name, why):
    return OtaError("no_package", "%s is missing, and %s" % (name, why))
