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
    platform = _mqtt(server).platform
    section = platform.profile.get("mqtt")
    section = section if isinstance(section, dict) else {}
    found = {name: platform.prefs.get("mqtt." + name, section.get(name, default)) for name, default in _MQTT}
    found["password"] = bool(found["password"])
    return found


async def set_mqtt(server, request):
    """Keys that are not given stay as they are; an empty host switches MQTT off. The rules are those of the mqtt module."""
    value, module = body(request), _mqtt(server)
    from modules.mqtt.config import settings

    prefs = module.platform.prefs
    for name in value:
        if name not in dict(_MQTT):
            raise Refused(400, "bad_value", "host, port, user, password and tls can be set")
    before = {name: prefs.get("mqtt." + name) for name in value}
    _set(prefs, value)
    _settings, error = settings(module.platform)
    if error:
        _set(prefs, before)
        raise Refused(400, "bad_value", "%s %s; expected: %s" % error)
    prefs.save()
    module.start()  # from now on
    return 204


def _set(prefs, value):
    for name in value:
        if value[name] is None:
            prefs.remove("mqtt." + name)
        else:
            prefs.set("mqtt." + name, value[name])


def _mqtt(server):
    module = server.web.platform.module("mqtt")
    if module is None:
        raise Refused(409, "not_configured", "this board has no mqtt module")
    return module


def _wifi(server):
    module = server.web.platform.module("wifi")
    if module is None:
        raise Refused(409, "not_configured", "this board has no wifi module")
    return module


_MQTT = (("host", ""), ("port", 0), ("user", ""), ("password", ""), ("tls", False))

HANDLERS = {
    "GET /api/wifi": wifi,
    "POST /api/wifi/scan": scan,
    "POST /api/wifi/join": join,
    "POST /api/wifi/forget": forget,
    "GET /api/mqtt": mqtt,
    "POST /api/mqtt": set_mqtt,
}
