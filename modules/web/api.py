"""What the page reads and does: its files, status, panels, values, log, the update's buttons and uploads, settings.

Each handler gets the module and the http.Request, and returns what becomes JSON, ``(that, status)``, or a status alone; None when
it has answered by itself.
"""

import binascii
import gc
import json
import os

from iot_platform.log import DEBUG, ERROR, INFO, WARNING, SerialLog
from iot_platform.module import name_ok
from micropython import const

from .events import row
from .http import Refused

_FOLDER = const("/modules/web/www/")
_JSON = const("application/json; charset=UTF-8")
_MAX_VALUE = const(256)
_MOST = const(16_777_216)  # bytes of an upload
_SPARE = const(24_576)  # bytes of the disk that stay free
_SLOWEST = const(1024)  # bytes a second
_FIRST_S = const(60)
_FULL = const(28)  # ENOSPC
_LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}
_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
_MQTT = (("host", ""), ("port", 0), ("user", ""), ("password", ""), ("tls", False))
_STARTED = ({"started": True}, 202)


async def page(_web, request):
    """A file of the page, gzipped when the board's tree was made. With a query (its digest) it is kept for ever."""
    name = request.path[1:] or "index.html"
    try:
        f = open("" if "/" in name else _FOLDER + name + ".gz", "rb")
    except OSError:
        raise Refused(404, "not_found", "there is nothing at this address")
    kind = _TYPES.get(name.rpartition(".")[2], "application/octet-stream") + "; charset=utf-8"
    cache = "max-age=31536000, immutable" if request.query else "no-cache"
    with f:
        f.seek(-8, 2)
        etag = '"%s"' % binascii.hexlify(f.read(8)).decode()  # gzip ends with the content's checksum and length
        fields = "Content-Encoding: gzip\r\nETag: %s\r\n" % etag
        if request.fields.get("if-none-match") == etag:
            await request.start(304, kind, fields, cache)
            return
        await request.start(200, kind, fields + "Content-Length: %d\r\n" % f.tell(), cache)
        f.seek(0)
        while data := f.read(256):
            await request.send(data)


# -- reading


async def status(web, _request):
    platform = web.platform
    size = os.statvfs("/")
    ota, wifi, board = platform.module("ota"), platform.module("wifi"), platform.board
    return {
        "ota": ota.status() if ota else None,
        "version": platform.bus.get("version"),
        "name": platform.profile.get("shortName", ""),
        "id": board.unique_id(),
        "uptime_s": web.seconds(),
        "freeram": board.mem_free(),
        "heap": board.mem_free() + gc.mem_alloc(),
        "freedisk": platform.bus.get("freedisk"),  # counted now and then: counting takes a while
        "disk": size[0] * size[2],
        "safe_mode": platform.safe_mode,
        "wifi": wifi.status() if wifi else None,
        "modules": list(platform.modules),
        "failed": platform.failed,
    }


async def panels(web, _request):
    return [
        {
            "id": panel_id,
            "title": title,
            "values": [dict(zip(("key", "label", "unit"), value)) for value in shown],
            "actions": [dict(zip(("id", "label", "confirm"), action)) for action in actions],
        }
        for panel_id, title, shown, actions in web.panels
    ]


async def values(web, request):
    """Made while it is sent."""
    bus = web.platform.bus
    await request.start(200, _JSON)
    before = "{"
    for key in [key for key, _value in bus.items()]:
        await request.send((before + json.dumps(key) + ":" + json.dumps(bus.get(key))).encode())
        before = ","
    await request.send(b"}" if before == "," else b"{}")


async def log(_web, request):
    """The lines after number `after` that are still remembered."""
    name, _, after = (request.query or "after=-1").partition("=")
    if name != "after" or not after.lstrip("-").isdigit() or len(after) > 9:
        raise Refused(400, "bad_request", "after must be the number of a line")
    n, before = int(after) + 1, '{"lines":['
    await request.start(200, _JSON)
    while n < SerialLog.count:
        first = SerialLog.count - len(SerialLog.history())
        n = max(n, first)
        if n >= SerialLog.count:  # the history was purged
            break
        await request.send((before + json.dumps(row(n, SerialLog.history()[n - first]))).encode())
        before = ","
        n += 1
    await request.send(b"]}" if before == "," else b'{"lines":[]}')


# -- simple buttons


async def set_level(_web, request):
    level = request.json().get("level")
    if not isinstance(level, str) or level not in _LEVELS:
        raise Refused(400, "bad_level", "the level must be debug, info, warning or error")
    SerialLog.level = _LEVELS[level]
    return 204


async def purge(_web, request):
    request.json()
    SerialLog.purge()
    return 204


async def action(web, request):
    """A panel's button: only what a panel has declared becomes a command."""
    value = request.json()
    given = value.get("value")
    good = len(given) <= _MAX_VALUE if isinstance(given, str) else given is None or isinstance(given, (bool, int, float))
    if not good:
        raise Refused(400, "bad_value", "the value must be a short text, a number, true or false")
    for panel_id, _title, _values, actions in web.panels:
        for known in actions:
            if panel_id == value.get("panel") and known[0] == value.get("action"):
                if not web.platform.bus.command("%s/%s" % (panel_id, known[0]), given, "web"):
                    raise Refused(503, "busy", "too many commands are waiting", 2)
                return _STARTED
    raise Refused(404, "not_found", "no panel has that action")


async def restart(web, request):
    request.json()
    web.platform.request_reset("asked for on the page")
    return _STARTED


# -- updates: each answers at once; what follows is told by the event stream (``ota/...`` on the bus)


async def ota(web, request):
    """The update's buttons."""
    module, verb, force = _ota(web), request.path[9:], request.json().get("force", False)
    if not isinstance(force, bool):
        raise Refused(400, "bad_value", "force must be true or false")
    if verb == "check":
        return _started(module.request_check())
    if verb == "update":
        return _started(module.request_update(force))
    if verb == "install":
        if not module.has_archive():
            raise Refused(409, "no_update", "no update has been downloaded")
        return _started(module.request_install(force))
    if verb == "rollback":
        if not module.can_roll_back():
            raise Refused(409, "no_update", "no previous version is kept")
        return _started(module.rollback())
    if not (module.confirm() if verb == "confirm" else module.cancel()):
        raise Refused(409, "not_allowed", "there is nothing that could be stopped or confirmed now")
    return _STARTED


async def channel(web, request):
    name = request.json().get("channel")
    if not name_ok(name):
        raise Refused(400, "bad_value", "a channel's name is made of letters, digits, _ . and -")
    _ota(web).set_channel(name)
    return 204


async def upload(web, request):
    """A bundle from the browser: through one buffer into ``ota.archive``, then verified and installed like any other.

    Nothing of it is believed here: the updater reads the file and refuses what it would refuse from a server. An upload and a job
    of the updater exclude each other. One that fails leaves no file.
    """
    module, size = _ota(web), int(request.fields["content-length"])
    if not 0 < size <= _MOST:
        raise Refused(413, "too_large", "a bundle has at most %d bytes, and at least one" % _MOST)
    claim = module.begin_upload()
    if not claim:
        raise Refused(409, "busy", "another job of the updater is running")
    done = False
    try:
        claim.discard()
        if size + _SPARE > web.platform.board.disk_free():
            raise Refused(507, "no_space", "the disk has too little room for %d bytes" % size)
        SerialLog.log("web: an upload of %d bytes from" % size, request.address)
        request.limit((_FIRST_S + size // _SLOWEST) * 1000)
        await _receive(module, claim, request)
        done = True
    except EOFError:
        raise Refused(400, "incomplete", "the upload stopped %d bytes before its end" % request.left)
    except OSError as error:
        if error.errno == _FULL:
            raise Refused(507, "no_space", "the disk is full")
        raise Refused(400, "incomplete", "the upload failed: %s" % error)
    finally:
        module.end_upload(claim)
        if not done:
            claim.discard()
    return _started(module.request_install(request.query == "force=1"))


async def _receive(module, claim, request):
    view = claim.view
    with open(module.archive, "wb") as f:
        f.write(request.body)  # a short one has been read already
        while request.left > 0:
            n = await request.readinto(view)
            if not module.uploading(claim):
                raise Refused(409, "cancelled", "the upload was cancelled")
            f.write(view if n == len(view) else view[:n])


def _ota(web):
    """The ota module, when it can work; Refused otherwise."""
    module = web.platform.module("ota")
    if module is None or not module.cfg:
        raise Refused(409, "not_configured", "updates are switched off: see the log")
    return module


def _started(done):
    if not done:
        raise Refused(409, "busy", "another job of the updater is running")
    return _STARTED


# -- settings, as the user makes them: in prefs.json, before what the profile says. A password is never given out


async def wifi(web, _request):
    return _module(web, "wifi").status()


async def scan(web, request):
    request.json()
    module = _module(web, "wifi")
    web.platform.board.feed()
    try:
        return {"networks": module.scan()}
    except OSError as error:
        raise Refused(503, "scan_failed", "the radio cannot scan now: %s" % error, 5)


async def join(web, request):
    value, wifi = request.json(), _module(web, "wifi")
    ssid, password = value.get("ssid"), value.get("password") or ""
    if not isinstance(ssid, str) or not 0 < len(ssid.encode()) <= 32:
        raise Refused(400, "bad_value", "a network's name has 1 to 32 bytes")
    if not isinstance(password, str) or (password and not 8 <= len(password) <= 63):
        raise Refused(400, "bad_value", "a wifi password has 8 to 63 characters")
    return _restarted(wifi, {"ssid": ssid, "password": password})


async def forget(web, request):
    request.json()
    return _restarted(_module(web, "wifi"), {"ssid": None, "password": None})


def _restarted(module, value):
    """Let a module begin again with other preferences."""
    _set(module.platform.prefs, module.name, value)
    module.platform.prefs.save()
    module.start()
    return _STARTED


async def mqtt(web, _request):
    platform = _module(web, "mqtt").platform
    section = platform.profile.get("mqtt")
    section = section if isinstance(section, dict) else {}
    found = {name: platform.prefs.get("mqtt." + name, section.get(name, default)) for name, default in _MQTT}
    found["password"] = bool(found["password"])
    return found


async def set_mqtt(web, request):
    """Keys that are not given stay as they are; an empty host switches MQTT off. The rules are those of the mqtt module."""
    value, module, prefs = request.json(), _module(web, "mqtt"), web.platform.prefs
    if not all(name in dict(_MQTT) for name in value):
        raise Refused(400, "bad_value", "host, port, user, password and tls can be set")
    before = {name: prefs.get("mqtt." + name) for name in value}
    _set(prefs, "mqtt", value)
    error = module.platform.settings("mqtt")[1]
    if error:
        _set(prefs, "mqtt", before)
        raise Refused(400, "bad_value", "%s %s; expected: %s" % error)
    prefs.save()
    module.start()  # from now on
    return 204


def _set(prefs, section, value):
    for name in value:
        prefs.set("%s.%s" % (section, name), value[name])  # None removes it


def _module(web, name):
    module = web.platform.module(name)
    if module is None:
        raise Refused(409, "not_configured", "this board has no %s module" % name)
    return module
