"""Home Assistant's MQTT discovery (one device, an update entity, diagnostic sensors, buttons), and the update entity's state.

Home Assistant drops a whole message that has a key it does not know, or a value of the wrong kind: what is in here is checked
against its schema by tests/mqtt/test_discovery.py.
"""

import json

from micropython import const

_IN_PROGRESS = ("downloading", "installing", "rebooting", "trial")
_ENDED = ("up_to_date", "confirmed", "rolled_back")
_MAX_SUMMARY = const(255)  # Home Assistant takes no more
# object id, name, key below status/, unit, device class; or icon
_SENSORS = (
    ("freeram", "Free memory", "freeram", "B", "data_size", None),
    ("freedisk", "Free disk", "freedisk", "B", "data_size", None),
    ("rssi", "Signal", "rssi", "dBm", "signal_strength", None),
    ("ota_status", "OTA status", "ota/status", None, None, "mdi:update"),
    ("ota_error", "Last error", "ota/error", None, None, "mdi:alert-circle-outline"),
    ("ota_waiting", "Update waits for", "ota/waiting", None, None, "mdi:timer-sand"),
    ("restart_waiting", "Restart waits for", "restart/waiting_for", None, None, "mdi:timer-sand"),
)
_BUTTONS = (
    ("check", "Check for updates", "ota/check", {"icon": "mdi:cloud-search", "entity_category": "diagnostic"}),
    ("restart", "Restart", "restart", {"device_class": "restart", "entity_category": "config"}),
)


def messages(mqtt):
    """Every discovery message: (topic, JSON), as bytes. Generator."""
    name = mqtt.platform.profile["shortName"]
    board = mqtt.platform.board.unique_id()
    common = _common(mqtt, name, board)
    if mqtt.platform.module("ota"):
        value = {
            "name": "Firmware",
            "state_topic": mqtt.base + "/update",
            "command_topic": mqtt.base + "/command/ota/update",
            "payload_install": "install",
            "device_class": "firmware",
            "entity_category": "config",
        }
        yield _message(mqtt, "update", "firmware", value, common)
    for row in _SENSORS:
        value = {"name": row[1], "state_topic": mqtt.base + "/status/" + row[2], "entity_category": "diagnostic"}
        if row[3]:
            value.update({"unit_of_measurement": row[3], "device_class": row[4], "state_class": "measurement"})
        else:
            value["icon"] = row[5]
        yield _message(mqtt, "sensor", row[0], value, common)
    for row in _BUTTONS:
        value = {"name": row[1], "command_topic": mqtt.base + "/command/" + row[2]}
        yield _message(mqtt, "button", row[0], dict(value, **row[3]), common)


def _common(mqtt, name, board):
    """What all of them share, as the end of a JSON object: made once."""
    device = {
        "identifiers": [mqtt.base.replace("/", "-")],
        "name": "%s %s" % (name, board),
        "model": name,
        "manufacturer": "iot-platform",
        "sw_version": mqtt.platform.bus.get("version") or "unknown!",
    }
    ip = mqtt.platform.bus.get("ip")
    if ip:
        device["configuration_url"] = "http://%s/" % ip
    availability = {
        "availability_topic": mqtt.base + "/status/online",
        "payload_available": "true",
        "payload_not_available": "false",
        "device": device,
        "origin": {"name": "iot-platform"},
    }
    return json.dumps(availability)[1:]


def _message(mqtt, component, name, value, common):
    """The topic and the text of one entity."""
    value["unique_id"] = "%s-%s" % (mqtt.base.replace("/", "-"), name)
    topic = "%s/%s/%s/%s/config" % (mqtt.cfg["discovery"], component, mqtt.base.replace("/", "-"), name)
    return topic.encode(), (json.dumps(value)[:-1] + ", " + common).encode()


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
    latest = None if status in _ENDED else get("ota/available")
    at_work = platform.update_boot and status not in _ENDED and status != "failed"  # nothing else is done in such a boot
    value = {
        "installed_version": version,
        "latest_version": latest or version,
        "title": platform.profile["shortName"],
        "in_progress": status in _IN_PROGRESS or bool(at_work),
        "update_percentage": get("ota/progress") if status == "downloading" else None,
        "release_url": mqtt.cfg["release_url"] or "%s/%s/" % (ota.cfg["url"].rstrip("/"), ota.name_on_server.lower()),
    }
    if ota.notes:
        value["release_summary"] = ota.notes[:_MAX_SUMMARY]
    return json.dumps(value).encode()
