"""Wifi and MQTT, as the user sets them: in prefs.json, before what the profile says. A password is never given out."""

from .app import body
from .refused import Refused


async def wifi(server, _request):
    return _wifi(server).status()


async def scan(server, request):
    body(request)
    module = _wifi(server)
    server.web.platform.board.feed()
    try:
        return {"networks": module.scan()}
    except OSError as error:
        raise Refused(503, "scan_failed", "the radio cannot scan now: %s" % error, 5)


async def join(server, request):
    value = body(request)
    password = value.get("password") or ""
    if not isinstance(password, str):
        raise Refused(400, "bad_value", "the password must be a text")
    try:
        _wifi(server).join(value.get("ssid"), password)
    except ValueError as error:
        raise Refused(400, "bad_value", str(error))
    return {"started": True}, 202


async def forget(server, request):
    body(request)
    _wifi(server).forget()
    return {"started": True}, 202


async def mqtt(server, _request):
    prefs = server.web.platform.prefs
    section = server.web.platform.profile.get("mqtt")
    section = section if isinstance(section, dict) else {}
    found = {name: prefs.get("mqtt." + name, section.get(name, default)) for name, default in _MQTT}
    found["password"] = bool(prefs.get("mqtt.password") or section.get("password"))
    return found


async def set_mqtt(server, request):
    """Keys that are not given stay as they are; an empty host switches MQTT off."""
    value = body(request)
    for name in value:
        if name not in _CHECKS:
            raise Refused(400, "bad_value", "host, port, user, password and tls can be set")
        if not _CHECKS[name](value[name]):
            raise Refused(400, "bad_value", "%s has no value that it can have" % name)
    prefs = server.web.platform.prefs
    for name in value:
        prefs.set("mqtt." + name, value[name])
    prefs.save()
    module = server.web.platform.module("mqtt")
    if hasattr(module, "settings_changed"):
        module.settings_changed()
    return 204


def _wifi(server):
    module = server.web.platform.module("wifi")
    if module is None:
        raise Refused(409, "not_configured", "this board has no wifi module")
    return module


def _text(most):
    return lambda value: isinstance(value, str) and len(value) <= most and all(32 <= ord(c) != 127 for c in value)


_MQTT = (("host", ""), ("port", 1883), ("user", ""), ("tls", False))
_CHECKS = {
    "host": lambda value: _text(100)(value) and " " not in value and "/" not in value,
    "port": lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536,
    "user": _text(64),
    "password": _text(64),
    "tls": lambda value: isinstance(value, bool),
}

HANDLERS = {
    "GET /api/wifi": wifi,
    "POST /api/wifi/scan": scan,
    "POST /api/wifi/join": join,
    "POST /api/wifi/forget": forget,
    "GET /api/mqtt": mqtt,
    "POST /api/mqtt": set_mqtt,
}
