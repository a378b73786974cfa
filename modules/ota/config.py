"""The profile's ``ota`` section: which keys there are, and what each must be. Host and board use the same check()."""

import re

import ota_boot
from iot_platform import profile as profiles
from iot_platform.module import name_ok, printable
from iot_platform.profile import CA, NOT_VERIFIED, between, field, is_url
from micropython import const

from .errors import OtaError
from .release import paths, signature
from .release.fields import is_digest

_WINDOW = const("([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]")
_REQUIRED_KEYS = const("an object with url, tmp_filename, excluded_files and delete")


def check(ota):
    """Every error of the section: a list of ``(key, problem, expected form)``, empty for a good one."""
    if not isinstance(ota, dict):
        return [("ota", "is missing" if ota is None else "is wrong", _REQUIRED_KEYS)]
    errors = []
    for key, good, expected in _REQUIRED:
        field(errors, ota, key, good, expected, "ota.", True)
    for key, good, expected in _OPTIONAL:
        field(errors, ota, key, good, expected, "ota.")
    if not errors and ota["url"].startswith("https") and ota.get("headers") and not ota.get("ca"):
        errors.append(("ota.ca", "is missing", "because of ota.headers: " + CA % "server"))
    _check(errors, {name: ota[name] for name in signature.PINS if ota.get(name) is not None})
    return errors


def load(module):
    """Read profile.json into the OTA module; True when OTA can run. What is wrong is logged in one line."""
    try:
        profile = profiles.load("/profile.json")
    except (OSError, ValueError) as error:
        module.warn("off: profile.json cannot be read:", error)
        return False
    errors = profiles.check(profile, ("ota",))
    if errors:
        module.warn("off: profile.json: %s %s; expected: %s" % errors[0])
        return False
    module.name_on_server = profile["shortName"]
    module.cfg = module.platform.profile["ota"] = profile["ota"]  # one copy of it: a key has some 600 bytes
    module.keys = signature.pinned(module.cfg, "release")
    module.excluded = module.cfg["excluded_files"]
    if not (getattr(ota_boot, "tries", 0) and profile.get("watchdog_s", 8)):  # nothing can try a new loader: see decisions
        module.excluded = module.excluded + ["ota_boot.py"]
    module.archive = ota_boot.live(module.cfg["tmp_filename"].lstrip("/"))
    return True


def _check(errors, pinned):
    if len(pinned) > 1 and "public_keys" in pinned or len(pinned) == 1 and "public_keys" not in pinned:
        alone = "public_keys" if len(pinned) > 1 else list(pinned)[0]
        errors.append(("ota." + alone, "is wrong", "release_keys and channel_keys together, or public_keys alone"))
    for name in pinned:
        keys = pinned[name]
        if not isinstance(keys, list) or not 0 < len(keys) <= signature.MAX_KEYS:
            errors.append(("ota." + name, "is wrong", "a list of 1 to %d keys (iotctl keygen writes them)" % signature.MAX_KEYS))
            continue
        for i, key in enumerate(keys):
            try:
                signature.modulus(key)
            except OtaError as error:
                errors.append(("ota.%s[%d]" % (name, i), "is wrong", str(error)))


def _is_path(value):
    try:
        paths.check(value.strip("/") if isinstance(value, str) else value)
    except OtaError:
        return False
    return True


def _is_download(value):
    """Beside the live tree: a file of its own at the root or below .ota/, nothing that a board needs."""
    if not _is_path(value):
        return False
    name = value.strip("/").lower()
    return name.startswith(".ota/download") or not _critical(name)


def _is_hosts(value):
    return isinstance(value, list) and 0 < len(value) <= 8 and all(name_ok(host, 100) and host == host.lower() for host in value)


def _is_paths(value):
    return isinstance(value, list) and all(_is_path(path) for path in value)


def _critical(path):
    return paths.protected(path) or paths.shadows(path) or path in paths.LOADER + ("main.py", "profile.json", "version")


def _is_window(value):
    return isinstance(value, str) and len(value) == 11 and bool(re.match(_WINDOW, value))


def _is_headers(value):
    if not isinstance(value, dict) or len(value) > 8:
        return False
    return all(_is_header_text(name) and ":" not in name and _is_header_text(value[name]) for name in value)


def _is_header_text(text):
    return isinstance(text, str) and 0 < len(text) <= 512 and printable(text, 32)


def _is_mip(value):
    if not isinstance(value, dict) or not is_url(value.get("index")):
        return False
    digests = value.get("sha256", {})
    return isinstance(digests, dict) and all(_is_path(path) and is_digest(digests[path]) for path in digests)


_REQUIRED = (
    ("url", is_url, "the folder on the server, such as https://example.org/firmware"),
    ("tmp_filename", _is_download, "a file name for the download, such as new_firmware.tar.gz"),
    ("excluded_files", _is_paths, "a list of files or folders that updates leave alone, such as []"),
    (
        "delete",
        lambda value: _is_paths(value) and not any(_critical(path.strip("/")) for path in value),
        "a list of files or folders that an update removes, such as []; nothing that the board needs",
    ),
)
_OPTIONAL = (
    ("channel", name_ok, "a channel's name, such as stable"),
    ("check_interval_s", between(10, 2_592_000), "seconds between checks, 10 to 2592000"),
    ("auto_install", lambda value: isinstance(value, bool), "true or false"),
    ("confirm_timeout_s", between(10, 7200), "seconds that a new version has to prove itself, 10 to 7200"),
    ("confirm_wakes", between(1, 20), "good wakes before a sleeping board confirms, 1 to 20"),
    ("max_boot_attempts", between(1, 10), "boots that a new version gets, 1 to 10"),
    ("keep_previous", lambda value: isinstance(value, bool), "true or false"),
    ("window", _is_window, "a time of day (UTC) for installs, such as 02:00-04:30"),
    ("headers", _is_headers, 'headers for your server, such as {"Authorization": "Bearer ..."}'),
    ("ca", lambda value: value == NOT_VERIFIED or _is_path(value), CA % "server"),
    ("redirect_hosts", _is_hosts, 'hosts to which your server may redirect, such as ["objects.githubusercontent.com"]'),
    ("mip", _is_mip, 'an index for mip, such as {"index": "https://example.org/mip", "sha256": {"lib/requests.mpy": "..."}}'),
)
