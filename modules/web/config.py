"""What is set: in the profile's ``web`` section, checked by host and board with the same code; and on the page.

The page's requests are like those of api, but rarer: see server.
"""

from iot_platform.module import plain
from micropython import const

from . import password_ok
from .http import Refused, need

_MQTT = const(("host", "port", "user", "password", "tls"))


def check(web):
    """Every error of the section: a list of ``(key, problem, expected form)``, empty for a good one, or for none at all."""
    if web is None:
        return []
    if not isinstance(web, dict):
        return [("web", "is wrong", "an object, such as {}")]
    return [("web." + key, "is wrong", expected) for key, good, expected in _OPTIONAL if key in web and not good(web[key])]


def _is_host(value):
    """True for what a Host header may hold: a name or an address, without a port."""
    return isinstance(value, str) and 0 < len(value) <= 100 and value == value.lower() and plain(value, b"-.[]:")


def _is_hosts(value):
    return isinstance(value, list) and len(value) <= 8 and all(_is_host(host) for host in value)


def _between(low, high):
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


_OPTIONAL = (
    ("port", _between(1, 65535), "a TCP port, 1 to 65535"),
    ("password", password_ok, "a password of 8 characters to 64 bytes"),
    ("hosts", _is_hosts, 'at most 8 more names of the board in lower case, such as ["door.example.org"]'),
    ("max_streams", _between(1, 12), "event streams at once, 1 to 12"),
    ("session_s", _between(60, 86_400), "seconds after which an unused login ends, 60 to 86400"),
)


# -- settings, as the user makes them: in prefs.json, before what the profile says. A password is never given out


def wifi(web, request):
    module, verb = need(web, "wifi"), request.path[10:]
    if verb == "scan":
        web.platform.board.feed()
        try:
            return {"networks": _names(module.scan())}
        except OSError as error:
            raise Refused(503, "scan_failed", str(error), 5)
    if verb == "join":
        value = request.json()
        try:
            module.join(value.get("ssid"), value.get("password") or "")
        except ValueError as error:
            raise Refused(400, "bad_value", str(error))
        return 202
    _set(web, "wifi", {"ssid": None, "password": None, "old": None})
    web.platform.prefs.save()
    module.start()
    return 202


def _names(heard):
    """Strongest first."""
    found = {}
    for ssid, _mac, _channel, rssi, security, _hidden in heard:
        try:
            name = ssid.decode()
        except UnicodeError:  # a name of any bytes: no page could send it back
            continue
        if name and (name not in found or rssi > found[name]["rssi"]):
            found[name] = {"ssid": name, "rssi": rssi, "open": security == 0}
    return sorted(found.values(), key=lambda value: -value["rssi"])


def mqtt(web, request):
    """Settings. Keys that are not given stay as they are; an empty host switches MQTT off. The rules are the mqtt module's."""
    value, module, prefs = request.json(), need(web, "mqtt"), web.platform.prefs
    if not all(name in _MQTT for name in value):
        raise Refused(400, "bad_value", "host, port, user, password, tls")
    before = {name: prefs.get("mqtt." + name) for name in value}
    _set(web, "mqtt", value)
    error = web.platform.settings("mqtt")[1]
    if error:
        _set(web, "mqtt", before)
        raise Refused(400, "bad_value", "%s %s; expected: %s" % error)
    prefs.save()
    module.start()  # from now on


def _set(web, section, value):
    for name in value:
        web.platform.prefs.set("%s.%s" % (section, name), value[name])  # None removes it


def prefs(web, request):
    """The preferences, for a back-up, or from one. Passwords only where they are asked for; the page's own stay here.

    So does the proof that a fixed address is right: on another board, or elsewhere, it is none.
    """
    prefs = web.platform.prefs
    if request.method == "POST":
        value = request.json()
        before = {key: prefs.get(key) for key in value}
        try:
            for key in value:
                if not _stays(key):
                    prefs.set(key, value[key])
            prefs.save()
        except ValueError:  # too much for the flash, or no number, such as 1e999
            for key in before:
                prefs.set(key, before[key])
            raise Refused(413, "too_large")
        return 204
    return {
        key: value
        for key, value in prefs.items()
        if not _stays(key) and ("password" not in key or request.query == "secrets=1")
    }


def _stays(key):
    """True for what is this board's alone."""
    if key in ("mqtt.pending", "wifi.old"):  # on their way, and with a password in them
        return True
    return key[:4] == "web." or key[:9] == "wifi.held"
