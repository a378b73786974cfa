"""What is declared, and checked: profile.json, by the owner at build time (host and board check it with the same code), and the
panels of modules, by their authors.

Each module checks its own section; this file checks what the platform itself needs.

>>> check({"shortName": "door"})
[('activeModules', 'is missing', 'a list of module folders, such as ["serial_log", "wifi", "ota"]')]
"""

import json
import os
import re

from .module import kind_of, name_ok, plain, printable

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
    field(errors, profile, "watchdog_s", between(0, 8), watchdog)
    field(errors, profile, "ntp", _is_server, "a time server, such as pool.ntp.org or 192.168.0.1:123, or null for none")
    return errors


def field(errors, value, key, good, expected, prefix="", required=False):
    """Check one key of an object: note it in `errors` when it is missing though required, or not `good`."""
    if key not in value:
        if required:
            errors.append((prefix + key, "is missing", expected))
    elif not good(value[key]):
        errors.append((prefix + key, "is wrong", expected))


def between(low, high):
    return lambda value: type(value) is int and low <= value <= high


def is_url(value):
    if not isinstance(value, str) or len(value) > 200 or "@" in value:
        return False
    return (value.startswith("http://") or value.startswith("https://")) and len(value) > 8 and printable(value)


def _is_names(value):
    return isinstance(value, list) and all(name_ok(name) and "." not in name for name in value)


def _is_server(value):
    if value is None:
        return True
    host, colon, port = value.partition(":") if isinstance(value, str) else ("", "", "")
    return name_ok(host, 100) and (not colon or (port.isdigit() and 0 < int(port) < 65536))


# -- panels: what is said of them is in docs/first-module.md. A value or a setting is ``(key, label, unit, kind, *range)``


def panels(modules, seen=None):
    """Bring what modules declare into one form: `panels` is a tuple of dicts with `id` and `title`, and holds what is good.

    Returns what was wrong, and is left out: ``(module, key, problem)``.
    """
    wrong, seen = [], set() if seen is None else seen
    for name in modules:
        given = getattr(modules[name], "panels", ())
        given = (given,) if isinstance(given, dict) else given
        good = [panel for panel in given if isinstance(panel, dict)] if isinstance(given, (tuple, list)) else []
        if not good and given:
            wrong.append((name, "panels", "must be a dict, or a tuple of them"))
        for panel in good:
            panel["id"] = panel.get("id", name)
            panel["title"] = panel.get("title", name)
            if not name_ok(panel["id"]) or not isinstance(panel["title"], str):
                wrong.append((name, "id %s" % (panel["id"],), "or the title is none"))
                panel.update({"id": name, "title": name, "values": (), "actions": (), "settings": ()})
            for part in ("values", "actions", "settings"):
                kept = []
                for item in panel.get(part, ()):
                    problem = _problem(panel, part, item, seen)
                    if problem:
                        wrong.append((name, item[0] if isinstance(item, tuple) and item else item, problem))
                    else:
                        kept.append(item)
                if len(kept) != len(panel.get(part, ())):
                    panel[part] = kept
        if given:
            modules[name].panels = good
    return wrong


def unique(panel, key):
    """What a panel's value or action is called elsewhere, such as ``lamp_on``."""
    begin = panel["id"] + "/"
    return (key if key.startswith(begin) else begin + key).replace("/", "_").replace(".", "_")


def _problem(panel, part, item, seen):
    """What is wrong with a line of a panel, or None."""
    if not isinstance(item, tuple) or len(item) < (2 if part == "actions" else 3):
        return "must be (key, label, ...)"
    if not isinstance(item[0], str) or not 0 < len(item[0]) <= 64 or not plain(item[0], b"_.-/"):
        return "is no key: letters, digits, _ . - and /"
    name = unique(panel, item[0])
    if name in seen:
        return "occurs twice"
    seen.add(name)
    if not isinstance(item[1], str) or not item[1]:
        return "has no label"
    if part == "actions":
        return None
    if not isinstance(item[2], str) or len(item[2]) > 12:
        return "has a unit that is none: %s" % (item[2],)
    kind, given = kind_of(item), item[4:]
    if kind == "number":
        good = len(given) > 1 and all(isinstance(n, (int, float)) for n in given) and -1e9 < given[0] < given[1] < 1e9
    elif kind == "select":
        good = given and all(isinstance(option, str) and option for option in given)
    else:
        good = kind in ("sensor", "binary_sensor", "switch", "text")
    return None if good else "has a kind or range that is none: %s" % (item[3:],)


def fit(modules, path, value):
    """What the command `path` carries: `value`, as its kind has it where a panel declares it. ValueError where it cannot be."""
    for name in modules:
        for panel in getattr(modules[name], "panels", ()):
            for item in panel.get("values", ()):
                if item[0] == path:
                    return become(item, value)
    return value


def become(item, value):
    """`value`, which may be text, as the kind of `item` has it: True or False, a number in its range, an option, a text."""
    kind, given, good, wanted = kind_of(item), item[4:], True, ""
    if kind == "switch":
        value = value == "true" if value in ("true", "false") else value
        good, wanted = isinstance(value, bool), ": true or false"
    elif kind == "number":
        good, wanted = False, ": %s to %s" % given[:2]
        try:
            number = float(str(value))
            good = given[0] <= number <= given[1]
        except ValueError:  # no number at all
            pass
        if good:
            value = int(number) if number == int(number) else number
    elif kind == "select":
        good, wanted = value in given, ": " + " or ".join(given)
    elif kind == "text":
        good = isinstance(value, str) and len(value) <= 64 and printable(value, 32) and (not given or re.match(given[0], value))
    if not good:
        raise ValueError("%s cannot be %s%s" % (item[0], json.dumps(value), wanted))
    return value
