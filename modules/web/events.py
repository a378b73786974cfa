"""What pages ask for all the time, how the board is: its status, the bus's values, the log's lines, its settings; asked for, or
told as they change by an event stream.

A bounded number of streams; a slow reader loses lines, never memory.

A stream holds no lines: it is a place in the log's own history. What has left the history before it was sent is counted, and
told as ``event: dropped``. Of the bus it holds the keys that have changed since they were sent last.
"""

import asyncio
import gc
import time

from iot_platform.log import SerialLog
from iot_platform.module import kind_of
from micropython import const

from .http import Refused, need, pieces

_STREAMS = const(4)  # at once, unless the profile says otherwise
_LEAST = const(6_000)  # bytes of free heap, so that there is still some for requests
_KEYS = const(8)
_FIXED = const("[1-9][0-9.]+ [1-9][0-9.]+ [0-9.]+ [1-9][0-9.]+$")  # what every port takes: 0.0.0.0 as the gateway only
_MQTT = const((("host", ""), ("port", 0), ("user", ""), ("password", ""), ("tls", False)))

# What the board itself can be set to, where the module runs: as a module's panel says it
_OWN = (
    {"id": "web", "title": "Board", "settings": (("name", "Name (also http://NAME.local)", "", "text", "[a-z0-9-]+$"),)},
    {
        "id": "wifi",
        "title": "Network",
        "settings": (
            ("ntp", "Time server", "", "text", "[A-Za-z0-9_.:-]+$"),
            ("wifi.address", "Fixed address, mask, gateway, name server", "", "text", _FIXED),
        ),
    },
    {
        "id": "ota",
        "title": "Updates",
        "settings": (
            ("ota.auto_install", "Install updates by itself", "", "switch", True),
            ("ota.window", "Only at this time of day (UTC)", "", "text", "[0-2]\\d:[0-5]\\d-[0-2]\\d:[0-5]\\d$"),
        ),
    },
)


def declared(web):
    """All panels: the modules', and the board's own settings."""
    modules, found = web.platform.modules, []
    for name in modules:
        found += getattr(modules[name], "panels", ())
    return found + [panel for panel in _OWN if panel["id"] in modules]


def panels(web, _request):
    """Each is made when its turn to be sent comes."""

    def item(value):
        return {"key": value[0], "label": value[1], "unit": value[2], "kind": kind_of(value), "range": value[4:]}

    def whole(panel):
        return {
            "id": panel["id"],
            "title": panel["title"],
            "values": map(item, panel.get("values", ())),
            "actions": (dict(zip(("id", "label", "confirm"), action)) for action in panel.get("actions", ())),
            "settings": (dict(item(value), value=_set(web, value)) for value in panel.get("settings", ())),
        }

    return map(whole, declared(web))


def _set(web, item):
    """What a setting is; one that nobody has set is nothing, but a switch what its range says."""
    platform = web.platform
    if item[0] == "wifi.address" and platform.module("wifi").fixed:  # on trial it is not in the preferences
        return platform.module("wifi").fixed
    return platform.setting(item[0], item[4] if item[4:] and kind_of(item) == "switch" else None)


def status(web, _request):
    platform = web.platform
    ota, wifi, board = platform.module("ota"), platform.module("wifi"), platform.board
    found = {
        "ota": ota.status() if ota else None,
        "version": platform.bus.get("version"),
        "name": platform.prefs.text("name") or platform.profile.get("shortName", ""),
        "host": wifi.addresses()[0] if wifi else None,
        "time": board.now(),
        "id": board.unique_id(),
        "uptime_s": web.seconds(),
        "ticks_ms": time.ticks_ms(),
        "freeram": board.mem_free(),
        "freedisk": platform.bus.get("freedisk"),  # counted now and then: counting takes a while
        "safe_mode": platform.safe_mode,
        "wifi": wifi.status() if wifi else None,
        "modules": sorted(platform.modules),
        "failed": platform.failed,
    }
    found.update(board.about())
    return found


def values(web, _request):
    """A copy: while it is sent the bus goes on."""
    return dict(web.platform.bus.items())


def log(_web, request):
    """The lines after number `after` that are still remembered."""
    name, _, after = (request.query or "after=-1").partition("=")
    if name != "after" or not after.lstrip("-").isdigit() or len(after) > 9:
        raise Refused(400, "bad_request", "after")
    lines = range(max(int(after) + 1, SerialLog.first), SerialLog.count)
    return {"lines": (row(n, SerialLog.line(n)) for n in lines if n >= SerialLog.first)}  # while it is sent, some may go


def wifi(web, _request):
    return need(web, "wifi").status()


def mqtt(web, _request):
    """Its settings; a password is never given out."""
    platform = need(web, "mqtt").platform
    section = platform.profile.get("mqtt")
    section = section if isinstance(section, dict) else {}
    found = {name: platform.prefs.get("mqtt." + name, section.get(name, default)) for name, default in _MQTT}
    found["password"] = bool(found["password"])
    return found


# -- streams


async def events(web, request):
    """Answers until the client hangs up."""
    streams = web.server.streams
    gc.collect()
    if web.platform.board.mem_free() < _LEAST:
        raise Refused(503, "no_memory", "", 5)
    if len(streams) >= web.cfg.get("max_streams", _STREAMS):
        raise Refused(503, "too_many", "streams", 5)
    await request.start(200, "text/event-stream")
    if request.method == "HEAD":
        return
    request.fields = {}  # it lives for hours
    stream = Stream(web.platform.bus, request)
    streams.append(stream)
    try:
        await stream.run()
    finally:
        streams.remove(stream)


class Stream:
    """One of them; `request` is its connection."""

    def __init__(self, bus, request):
        self.request = request
        self.bus = bus
        self._changed = {key for key, _value in bus.items()}
        self._next = SerialLog.first
        self.event = asyncio.Event()

    def tell(self, values):
        """There is something new: changed values, or lines in the log; or it is time to say something (None)."""
        if values:
            self._changed.update(values)
        self.event.set()

    async def run(self):
        request = self.request
        while True:
            self.event.clear()
            if not self._changed and self._next == SerialLog.count:
                await request.send(b": alive\n\n")
            while self._changed or self._next < SerialLog.count:
                await (self._values() if self._changed else self._line())
            self._changed.clear()  # it is empty: its table, made for all keys at first, is given back
            await request.flush()
            request.timeout = None
            await self.event.wait()

    async def _values(self):
        """A few at a time: the whole bus at once would be much."""
        some = {}
        while self._changed and len(some) < _KEYS:
            key = self._changed.pop()
            some[key] = self.bus.get(key)
        await self._tell("values", some)

    async def _line(self):
        if self._next < SerialLog.first:
            dropped, self._next = SerialLog.first - self._next, SerialLog.first
            await self._tell("dropped", dropped)
        elif self._next < SerialLog.count:
            self._next += 1
            await self._tell("log", row(self._next - 1, SerialLog.line(self._next - 1)))

    async def _tell(self, event, value):
        await self.request.send(b"event: %s\ndata: " % event.encode())
        for piece in pieces(value):
            await self.request.send(piece.encode())
        await self.request.send(b"\n\n")


def row(n, line):
    """A line of the log as the page gets it: its number, the letter of its level, its text."""
    at = line.find("] ") + 2
    return {"n": n, "level": line[at : at + 1], "line": line}
