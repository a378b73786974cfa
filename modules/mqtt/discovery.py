"""What Home Assistant is told of the board: one device, with the entities of discovery.txt and those that modules declare.

Home Assistant drops a whole message that has a value of the wrong kind: what is in here is checked against its schemas by
tests/mqtt/test_discovery.py. The messages are text, read from a file line by line, with Home Assistant's own abbreviations: as
tables in the code they would stay in memory for good. In memory only while they are sent.
"""

import binascii
import json

from iot_platform.module import kind_of
from iot_platform.profile import unique
from micropython import const

# What all messages have in common; a line for each entity: its place, what must run or be allowed, its own keys; then, for what
# modules declare, "*" and the keys of each kind, and "#" and the units of each device class: "?" has to be named, "+" counts up
_FILE = const("/modules/mqtt/discovery.txt")


def discovery(mqtt):
    """Every discovery message: (topic, JSON), as bytes. Generator."""
    platform = mqtt.platform
    kinds, classes, values = {}, [], _common(mqtt)
    with open(_FILE) as f:
        values["common"] = f.readline().strip()[1:]
        for line in f:
            place, _, own = line.strip().partition(" ")
            name, _, needs = place.partition("?")
            if place[0] == "*":
                kinds[place[1:]] = own
            elif place[0] == "#":
                classes.append((place[1:], own.split()))
            else:  # one that is not allowed is taken away
                allowed = not needs or platform.module(needs) or needs in mqtt.cfg["commands"]
                yield _entity(mqtt, values, name, own if allowed else "")
    for name in platform.modules:
        for panel in getattr(platform.modules[name], "panels", ()):
            for item in panel.get("values", ()):
                kind = kind_of(item)
                try:
                    values["more"] = _more(kind, item[2], item[4:], classes)
                except ValueError as error:
                    mqtt.once("module %s: in its panel %s %s; Home Assistant is not told of it" % (name, item[0], error))
                    continue
                yield _declared(mqtt, values, panel, kind, item, item[0], kinds.get(kind) or kinds["number"])
            values["more"] = ""
            for item in panel.get("actions", ()):
                yield _declared(mqtt, values, panel, "button", item, panel["id"] + "/" + item[0], kinds["button"])


def _common(mqtt):
    """What the lines of the file leave open."""
    platform, link = mqtt.platform, mqtt.cfg["release_url"]
    name, ip, wifi, web = platform.profile["shortName"], platform.bus.get("ip"), platform.module("wifi"), platform.module("web")
    channel, mac, port = platform.bus.get("ota/channel"), "", web.cfg.get("port", 80) if web else None
    if wifi:
        mac = binascii.hexlify(__import__("network").WLAN(0).config("mac"), ":").decode()
    return {
        "base": mqtt.base,
        "id": mqtt.base.replace("/", "-"),
        "name": json.dumps(platform.prefs.text("name") or "%s %s" % (name, platform.board.unique_id())),
        "model": name,
        "version": json.dumps(platform.bus.get("version") or "unknown!"),
        "link": ',"cu":"http://%s%s/"' % (ip, "" if port == 80 else ":%d" % port) if ip and web else "",
        "mac": ',"cns":[["mac","%s"]]' % mac if mac else "",
        "url": ',"url":"%s"' % link if link else "",
        "channel": ',"%s"' % channel if channel not in ("stable", "canary", None) else "",
        "rare": ',"ent_cat":"diagnostic"',
    }


def _entity(mqtt, values, place, own):
    component, _, values["key"] = place.partition("/")
    topic = "%s/%s/%s/%s/config" % (mqtt.cfg["discovery"], component, values["id"], values["key"])
    return topic.encode(), ("%s,%s" % (own[:-1], values["common"]) % values).encode() if own else b""


def _declared(mqtt, values, panel, kind, item, at, own):
    """A value or an action of a module's panel."""
    values["at"], values["label"] = at, json.dumps("%s %s" % (panel["title"], item[1]))
    return _entity(mqtt, values, "%s/%s" % (kind, unique(panel, item[0])), own)


def _more(kind, unit, given, classes):
    """What unit and range add to a value's message. ValueError for what Home Assistant would refuse."""
    more = ',"unit_of_meas":%s' % json.dumps(unit) if unit else ""
    if kind == "number":
        more += ',"min":%s,"max":%s,"step":%s' % (given[0], given[1], given[2] if len(given) > 2 else 1)
    elif kind == "select":
        more += ',"ops":%s' % json.dumps(given)
    elif kind == "sensor" and (unit or given):
        more += _class(unit, given[0] if given else None, classes)
    elif given:
        more += ',"dev_cla":%s' % json.dumps(given[0])
    return more


def _class(unit, wanted, classes):
    """A sensor's device class and state class: of the class that was wanted, or that its unit says."""
    for name, units in classes:
        sign, name = name[0], name.lstrip("?+")
        if name == wanted or (not wanted and unit in units and sign != "?"):
            if unit not in units:
                raise ValueError("has a unit that is none of %s: %s" % (name, unit))
            return ',"dev_cla":"%s","stat_cla":"%s"' % (name, "total_increasing" if sign == "+" else "measurement")
    if wanted:
        raise ValueError("has a device class that is not known: %s" % wanted)
    return ',"stat_cla":"measurement"'
