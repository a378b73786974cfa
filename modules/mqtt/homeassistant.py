"""Home Assistant's MQTT discovery (one device, an update entity, diagnostic sensors, buttons), and the update entity's state.

Home Assistant drops a whole message that has a key it does not know, or a value of the wrong kind: what is in here is checked
against its schema by tests/mqtt/test_discovery.py. The messages are text, read from a file line by line: as tables in the code
they would stay in memory for good.
"""

import json

from micropython import const

_FILE = const("/modules/mqtt/discovery.txt")  # what all messages have in common, then a line for each: its place, its own keys
_MAX_SUMMARY = const(255)  # Home Assistant takes no more


def messages(mqtt):
    """Every discovery message: (topic, JSON), as bytes. Generator."""
    platform, ip = mqtt.platform, mqtt.platform.bus.get("ip")
    values = {
        "base": mqtt.base,
        "id": mqtt.base.replace("/", "-"),
        "name": platform.profile["shortName"],
        "board": platform.board.unique_id(),
        "version": json.dumps(platform.bus.get("version") or "unknown!"),
        "link": ', "configuration_url": "http://%s/"' % ip if ip else "",
    }
    with open(_FILE) as f:
        common = f.readline().strip()[1:] % values
        for line in f:
            place, _, own = (line.strip() % values).partition(" ")
            if platform.module("ota") or place != "update/firmware":
                component, _, name = place.partition("/")
                topic = "%s/%s/%s/%s/config" % (mqtt.cfg["discovery"], component, values["id"], name)
                yield topic.encode(), ("%s, %s" % (own[:-1], common)).encode()


def update_state(mqtt):
    """What is installed, what there is, and how far an update has come, as JSON.

    An empty message, which Home Assistant ignores, while there is nothing to say.
    """
    platform = mqtt.platform
    get = platform.bus.get
    ota = platform.module("ota")
    status, version = get("ota/status"), get("version")
    if not ota or not ota.cfg or not version:
        return b""
    ended = status in ("up_to_date", "confirmed", "rolled_back")
    at_work = platform.update_boot and not ended and status != "failed"  # nothing else is done in such a boot
    value = {
        "installed_version": version,
        "latest_version": (None if ended else get("ota/available")) or version,
        "title": platform.profile["shortName"],
        "in_progress": status in ("downloading", "installing", "rebooting", "trial") or bool(at_work),
        "update_percentage": get("ota/progress") if status == "downloading" else None,
        "release_url": mqtt.cfg["release_url"] or "%s/%s/" % (ota.cfg["url"].rstrip("/"), ota.name_on_server.lower()),
    }
    if ota.notes:
        value["release_summary"] = ota.notes[:_MAX_SUMMARY]
    return json.dumps(value).encode()
