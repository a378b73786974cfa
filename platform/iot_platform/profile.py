"""profile.json: what the owner configures at build time. Host and board check it with the same code.

Each module checks its own section; this file checks what the platform itself needs.

>>> check({"shortName": "door"})
[('activeModules', 'is missing', 'a list of module folders, such as ["serial_log", "wifi", "ota"]')]
"""

import json
import os

from .module import name_ok

MAX_BYTES = 16 * 1024
NOT_VERIFIED = "not verified"  # in place of a `ca`: whoever answers is taken for the server
CA = "a file on the board with the %s's CA certificate, or \"not verified\": whoever answers is believed then"


def read(path="/profile.json"):
    """What a board starts with, whatever is on its flash: the profile, and the errors in what the platform itself needs.

    A wrong key is taken out: it is as good as a missing one then. The modules' own sections stay as they are.
    """
    try:
        profile = load(path)
    except (OSError, ValueError) as error:
        return {}, [("it", "cannot be read (%s)" % error, "a JSON object")]
    errors = check_platform(profile)
    for key, _problem, _expected in errors:
        profile.pop(key, None)
    return profile, errors


def load(path="/profile.json"):
    """The profile as a dict. OSError when there is none, ValueError when it is not a JSON object."""
    if os.stat(path)[6] > MAX_BYTES:
        raise ValueError("it is larger than %d bytes" % MAX_BYTES)
    with open(path) as f:
        try:
            value = json.load(f)  # reads a character at a time: the text never lies in memory
        except (MemoryError, RuntimeError):  # nested too deeply: for the heap of a board, for the stack of CPython
            raise ValueError("it does not fit into memory")
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def check(profile, names=None):
    """Every error: a list of ``(key, problem, expected form)``, empty for a good profile.

    :param names: the modules whose sections are looked at; None for all active ones.
    """
    errors = check_platform(profile)
    if not errors:
        for name in profile["activeModules"]:
            config = rules(name) if names is None or name in names else None
            if config:
                errors.extend(config.check(profile.get(name)))
    return errors


def rules(name):
    """The module's own ``config`` with ``check(section)``, or None where it has nothing to check."""
    try:
        return __import__("modules.%s.config" % name, None, None, ("check",))
    except ImportError:
        return None


def check_platform(profile):
    """The errors in what the platform itself needs."""
    errors = []
    field(errors, profile, "shortName", name_ok, "1 to 64 letters, digits, _ . or -", required=True)
    names = 'a list of module folders, such as ["serial_log", "wifi", "ota"]'
    field(errors, profile, "activeModules", _is_names, names, required=True)
    watchdog = "seconds after which a hanging board restarts, 1 to 8, or 0 for never"
    field(errors, profile, "watchdog_s", lambda value: type(value) is int and 0 <= value <= 8, watchdog)
    field(errors, profile, "ntp", _is_server, "a time server, such as pool.ntp.org or 192.168.0.1:123, or null for none")
    return errors


def field(errors, value, key, good, expected, prefix="", required=False):
    """Check one key of an object: note it in `errors` when it is missing though required, or not `good`."""
    if key not in value:
        if required:
            errors.append((prefix + key, "is missing", expected))
    elif not good(value[key]):
        errors.append((prefix + key, "is wrong", expected))


def _is_names(value):
    return isinstance(value, list) and all(name_ok(name) and "." not in name for name in value)


def _is_server(value):
    if value is None:
        return True
    host, colon, port = value.partition(":") if isinstance(value, str) else ("", "", "")
    return name_ok(host, 100) and (not colon or (port.isdigit() and 0 < int(port) < 65536))
