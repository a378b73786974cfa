"""The profile's ``mqtt`` section: which keys there are, and what each must be; and logging in with it.

What checks it is pure; host and board use the same code.

What the user sets at run time, ``mqtt.<key>`` in prefs.json, comes before the profile's.
"""

import time

from iot_platform import sockets
from iot_platform.module import plain, printable
from iot_platform.profile import CA, between, field, is_url
from micropython import const

DEFAULTS = {
    "host": "",  # none: MQTT is off
    "port": 0,  # 1883, or 8883 with TLS
    "user": None,
    "password": None,
    "tls": False,
    "ca": None,
    "keepalive_s": 60,
    "timeout_s": 10,
    "noisy_s": 30,
    "spread_s": 300,
    "discovery": "homeassistant",
    "release_url": None,
    "commands": (),
}
# What a profile may name
_COMMANDS = const(("rollback", "confirm", "channel", "restart", "auto_install", "name", "group", "tags", "log", "wifi"))


def check(section):
    """Every error of the section: a list of ``(key, problem, expected form)``, empty for a good one, or none at all."""
    if section is None:
        return []
    if not isinstance(section, dict):
        return [("mqtt", "is wrong", "an object with host, port, user, password, tls ...")]
    errors = []
    for key, good, expected in _KEYS:
        if section.get(key, "") is not None or key not in ("user", "password", "ca", "discovery", "release_url"):
            field(errors, section, key, good, expected, "mqtt.")
    if section.get("password") and not section.get("user"):
        errors.append(("mqtt.user", "is missing", "a user name: MQTT knows no password without one"))
    if section.get("tls") and not section.get("ca"):
        errors.append(("mqtt.ca", "is missing", CA % "broker"))
    if section.get("ca") and not section.get("tls"):
        errors.append(("mqtt.tls", "is missing", "true, because mqtt.ca names a certificate"))
    return errors


def settings(platform):
    """``(settings, None)``, complete, or ``(None, error)`` where the first error has check()'s form."""
    merged = dict(DEFAULTS)
    section = platform.profile.get("mqtt")
    errors = check(section)
    if not errors:
        merged.update(section or {})
        for key in DEFAULTS:
            value = platform.prefs.get("mqtt." + key)
            if value is not None and key != "commands":  # who may do what is the owner's to say
                merged[key] = value
        errors = check(merged)
    if errors:
        return None, errors[0]
    merged["port"] = merged["port"] or (8883 if merged["tls"] else 1883)
    return merged, None


def _is_text(value, high=128):
    return isinstance(value, str) and len(value.encode()) <= high


def _is_host(value):
    return _is_text(value, 100) and plain(value, b"-._:")


# Each key, what its value must be, and that in words
_KEYS = (
    ("host", _is_host, "the broker's name or address, or nothing"),
    ("port", between(0, 65535), "a port, or 0 for 1883 (8883 with TLS)"),
    ("user", _is_text, "a user name of at most 128 bytes"),
    ("password", _is_text, "a password of at most 128 bytes"),
    ("tls", lambda value: isinstance(value, bool), "true or false"),
    ("ca", lambda value: value and _is_text(value, 100), CA % "broker"),
    ("keepalive_s", between(2, 3600), "seconds between signs of life, 2 to 3600"),
    ("timeout_s", between(1, 60), "seconds that the broker has for an answer, 1 to 60"),
    ("noisy_s", between(1, 3600), "seconds between the numbers that change all the time, 1 to 3600"),
    ("spread_s", between(0, 86_400), "seconds over which a new version's checks are spread, 0 to 86400"),
    (
        "discovery",
        lambda value: _is_text(value, 64) and printable(value) and not ("#" in value or "+" in value),
        "Home Assistant's discovery prefix, such as homeassistant, or null for none",
    ),
    (
        "commands",
        lambda value: isinstance(value, (list, tuple)) and all(name in _COMMANDS for name in value),
        "a list of what MQTT may do beside check and update: some of " + " ".join(_COMMANDS),
    ),
    ("release_url", is_url, "a page about the releases, http:// or https://, at most 200 characters"),
)


# -- logging in


def login(cfg, base, callback):
    """Its name, TCP, TLS, and the broker's yes: a Client. Generator; MqttError when that does not work in time.

    Its code is in memory only meanwhile: a connection lasts for days.

    :param base: what this board's topics begin with; its id for the broker, with dashes.
    """
    from .client import Client, MqttError, head, in_time  # which a computer that checks a profile has not

    began = time.ticks_ms()

    def check(_since=None):
        in_time(began, cfg)

    sock = yield from sockets.reach(cfg["host"], cfg["port"], check, MqttError)
    client = None
    try:
        reason = "connection_lost"
        if cfg["tls"]:
            sock = sockets.secure(sock, cfg["host"], cfg["ca"], MqttError)
            reason = "tls"
        hello = _hello(cfg, base)
        yield from _all(sock.write, head(0x10, len(hello)) + hello, reason, check, MqttError)
        answer = bytearray(4)
        yield from _all(sock.readinto, answer, "connection_lost", check, MqttError)
        if answer[0] != 0x20 or answer[1] != 2:
            raise MqttError("protocol", "what answers there is no MQTT broker")
        code = answer[3]
        if code:
            why = "does not let this board in: are the user name and the password right?"
            if code not in (4, 5):
                why = "refuses: code %d" % code
            raise MqttError("refused", "the broker " + why)
        client = Client(sock, cfg, callback)
    finally:
        if not client:
            sock.close()
    return client


def _all(call, data, reason, check, error):
    """Write or read all of `data`. Generator."""
    left = memoryview(data)
    while left:
        n = sockets.attempt(call, left, reason, error)
        if n:
            left = left[n:]
        elif n == 0 and reason == "connection_lost":
            raise error(reason, "the broker closes the connection at once")
        else:
            check()
            yield


def _hello(cfg, base):
    """The CONNECT packet behind its head (MQTT 3.1.1, section 3.1): a clean session, and a last will that says "offline"."""
    flags = 0x02 | 0x04 | 0x20
    parts = [base.replace("/", "-"), base + "/status/online", "false"]
    if cfg["user"]:
        flags |= 0x80
        parts.append(cfg["user"])
        if cfg["password"]:
            flags |= 0x40
            parts.append(cfg["password"])
    body = bytearray(b"\x00\x04MQTT\x04")
    body.extend(bytes((flags, cfg["keepalive_s"] >> 8, cfg["keepalive_s"] & 0xFF)))
    for part in parts:
        part = part.encode()
        body.extend(bytes((len(part) >> 8, len(part) & 0xFF)))
        body.extend(part)
    return body
