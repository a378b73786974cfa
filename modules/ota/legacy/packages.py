"""Libraries that this board misses, installed with mip, under rules that mip itself does not have.

`ensure("requests", cfg, log)` imports the library; where it is missing, it is fetched from the index that the profile names
(``ota.mip.index``), as mip's package format has it: ``<index>/package/<mpy>/<name>/latest.json``, ``<index>/file/<2>/<hash>``.

1. While a key is pinned, every file must have the SHA-256 that the signed profile gives it in ``ota.mip.sha256``, by its path on
   the board, such as ``{"lib/tarfile/__init__.mpy": "..."}``. Without a key, what is listed there must be right as well.
2. mip asks the index through our own bounded reader: at most 6 packages and 32 files of 64 KiB, with
   deadlines, from this index alone.
3. mip writes to ``/.ota/mip`` only: the index's paths are checked before mip sees them. What is right then moves to ``/lib``.
4. No library that has a built-in module's name comes in, but for those that a firmware may lack.

This blocks, for at most a minute a file, and feeds the watchdog meanwhile.
"""

import os
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
_MAX_PACKAGES = const(6)  # mip keeps them all in memory while it follows what each of them needs
_FOLDER = ".ota/mip"


def ensure(name, cfg, log):
    """The module `name`, installed first if it is missing.

    :param cfg: the profile's ``ota`` part.
    :param log: called with the parts of a line.
    OtaError ``no_package`` when it cannot be had, ``bad_digest``, ``bad_path`` or ``protected_path`` when it is refused.
    """
    module = _import(name)
    if module is None:
        _install(name, cfg, log)
        module = _import(name)
    if module is None:
        raise _missing(name, "what the index gave for it cannot be imported")
    return module


def _import(name):
    try:
        return __import__(name)
    except ImportError:
        return None


def _install(name, cfg, log):
    source = cfg.get("mip") or {}
    digests = source.get("sha256") or {}
    if not source.get("index"):
        raise _missing(name, "the profile names no index to fetch it from (ota.mip.index)")
    if signature.pinned(cfg, "release") and not digests:
        raise _missing(name, "a key is pinned, and the profile gives no digests for it (ota.mip.sha256)")
    mip = _import("mip")
    if not hasattr(mip, "requests"):
        raise _missing(name, "this firmware has no working mip")
    log("%s is missing: installing it from %s" % (name, source["index"]))
    run(files.remove_tree(ota_boot.live(_FOLDER)))
    try:
        _fetch(mip, name, source["index"].rstrip("/"))
        _check(name, digests, bool(signature.pinned(cfg, "release")))
        _move(log)
    finally:
        run(files.remove_tree(ota_boot.live(_FOLDER)))


def _fetch(mip, name, index):
    """Let mip do its work, but through our reader: everything that it asks for and is told goes through there."""
    original = mip.requests
    mip.requests = _Requests(index)
    try:
        mip.install(name, index=index, target=ota_boot.live(_FOLDER))
    except OtaError as error:
        raise _missing(name, "it cannot be fetched: " + error.message)
    except RuntimeError:  # mip's InstallError
        raise _missing(name, "the index %s does not have it" % index)
    finally:
        mip.requests = original


def _check(name, digests, pinned):
    """Every file that arrived must be allowed in /lib, and be what the profile expects."""
    view = memoryview(bytearray(1024))
    arrived = _arrived()
    if not arrived:
        raise _missing(name, "the index does not have it")
    for path in arrived:
        target = _target(path)
        paths.check_member(target)
        found = run(files.digest(ota_boot.live(path), view))
        if (pinned or target in digests) and found != digests.get(target):
            raise OtaError("bad_digest", "%s from the index is not what the profile expects" % target)


def _move(log):
    for path in sorted(_arrived(), key=lambda p: "__init__." in p):  # last: until then the package is still missing
        target = ota_boot.live(_target(path))
        ota_boot.make_parents(target)
        if ota_boot.exists(target):
            os.remove(target)
        os.rename(ota_boot.live(path), target)
        log("installed", _target(path))


def _arrived():
    return list(files.walk(_FOLDER)) if ota_boot.exists(ota_boot.live(_FOLDER)) else []


def _target(path):
    return "lib" + path[len(_FOLDER) :]


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


class _Requests:
    """What mip uses of `requests`: get()."""

    def __init__(self, index):
        self._index = index
        self._left = {_MAX_JSON: _MAX_PACKAGES, _MAX_FILE: _MAX_FILES}

    def get(self, url):
        most = _MAX_JSON if url.endswith(".json") else _MAX_FILE
        self._left[most] -= 1
        if not url.startswith(self._index + "/") or self._left[most] < 0:
            raise OtaError("not_allowed", "the index wants too many files, or files from elsewhere")
        return _Answer(run(Http(self._index).get(url, max_body=most)))


class _Answer:
    """What mip uses of an answer: status_code, json(), raw.readinto() and close()."""

    def __init__(self, response):
        self.status_code = response.status
        self.raw = self
        self._response = response

    def readinto(self, view):
        return run(self._response.read_into(view))

    def json(self):
        """A package's description, once it is known to name nothing but files below its folder and packages by their names."""
        package = load_object(run(self._response.read_all(_MAX_JSON)), "the index's answer", "bad_response")
        _check_package(package)
        return package

    def close(self):
        self._response.close()


def _check_package(package):
    if package.get("urls"):
        raise OtaError("not_allowed", "the index wants files from elsewhere")
    for key in ("hashes", "deps"):
        pairs = package.get(key, [])
        if not isinstance(pairs, list) or not all(isinstance(p, list) and len(p) == 2 for p in pairs):
            raise OtaError("bad_response", "the index's answer is not understood")
        for first, second in pairs:
            paths.check(first)
            if not name_ok(second) or (key == "deps" and "/" in first):
                raise OtaError("bad_response", "the index's answer is not understood")
