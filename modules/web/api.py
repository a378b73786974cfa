"""What the page reads, and its simple buttons: status, panels, values, log, action, restart."""

import json

from modules.serial_log import DEBUG, ERROR, INFO, WARNING, SerialLog

from .app import body
from .events import row
from .refused import Refused

_LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}
_MAX_VALUE = 256


async def status(server, _request):
    platform = server.web.platform
    ota, wifi, board = platform.module("ota"), platform.module("wifi"), platform.board
    return {
        "ota": ota.status() if ota else None,
        "version": platform.bus.get("version"),
        "name": platform.profile.get("shortName", ""),
        "id": board.unique_id(),
        "uptime_s": server.web.seconds(),
        "freeram": board.mem_free(),
        "heap": board.mem_total(),
        "freedisk": platform.bus.get("freedisk"),  # counted now and then: counting takes a while
        "disk": board.disk_total(),
        "safe_mode": platform.safe_mode,
        "wifi": wifi.status() if wifi else None,
        "modules": list(platform.modules),
        "failed": platform.failed,
    }


async def panels(server, _request):
    return [
        {
            "id": panel_id,
            "title": title,
            "values": [{"key": key, "label": label, "unit": unit} for key, label, unit in values],
            "actions": [
                dict({"id": action[0], "label": action[1]}, **({"confirm": action[2]} if len(action) > 2 else {}))
                for action in actions
            ],
        }
        for panel_id, title, values, actions in server.web.panels
    ]


async def values(server, _request):
    return _Pieces(_value_pieces(server.web.platform.bus)), 200, _JSON_TYPE


async def log(_server, request):
    """The lines after number `after` that are still remembered."""
    name, _, after = (request.sock[0].query or "after=-1").partition("=")
    if name != "after" or not after.lstrip("-").isdigit() or len(after) > 9:
        raise Refused(400, "bad_request", "after must be the number of a line")
    return _Pieces(_line_pieces(int(after) + 1)), 200, _JSON_TYPE


async def set_level(_server, request):
    level = body(request).get("level")
    if not isinstance(level, str) or level not in _LEVELS:
        raise Refused(400, "bad_level", "the level must be debug, info, warning or error")
    SerialLog.level = _LEVELS[level]
    return 204


async def purge(_server, request):
    body(request)
    SerialLog.purge()
    return 204


async def action(server, request):
    """A panel's button: only what a panel has declared becomes a command."""
    value = body(request)
    given = value.get("value")
    good = len(given) <= _MAX_VALUE if isinstance(given, str) else given is None or isinstance(given, (bool, int, float))
    if not good:
        raise Refused(400, "bad_value", "the value must be a short text, a number, true or false")
    for panel_id, _title, _values, actions in server.web.panels:
        for known in actions:
            if panel_id == value.get("panel") and known[0] == value.get("action"):
                if not server.web.platform.bus.command("%s/%s" % (panel_id, known[0]), given, "web"):
                    raise Refused(503, "busy", "too many commands are waiting", 2)
                return {"started": True}, 202
    raise Refused(404, "not_found", "no panel has that action")


async def restart(server, request):
    body(request)
    server.web.platform.request_reset("asked for on the page")
    return {"started": True}, 202


class _Pieces:
    """A body that is made while it is sent."""

    def __init__(self, pieces):
        self._pieces = pieces

    def __next__(self):
        return next(self._pieces)


def _value_pieces(bus):
    before = "{"
    for key in [key for key, _value in bus.items()]:
        yield before + json.dumps(key) + ":" + json.dumps(bus.get(key))
        before = ","
    yield "}" if before == "," else "{}"


def _line_pieces(n):
    yield '{"lines":['
    before = ""
    while n < SerialLog.count:
        first = SerialLog.count - len(SerialLog.history())
        n = max(n, first)
        if n >= SerialLog.count:  # the history was purged
            break
        yield before + json.dumps(row(n, SerialLog.history()[n - first]))
        before = ","
        n += 1
    yield "]}"


_JSON_TYPE = {"Content-Type": "application/json; charset=UTF-8"}

HANDLERS = {
    "GET /api/status": status,
    "GET /api/panels": panels,
    "GET /api/values": values,
    "GET /api/log": log,
    "POST /api/log/level": set_level,
    "POST /api/log/purge": purge,
    "POST /api/action": action,
    "POST /api/restart": restart,
}
