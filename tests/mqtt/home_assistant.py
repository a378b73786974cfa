"""What Home Assistant's MQTT integration accepts, key by key. It drops a whole message for one key too many or one null.

Written down because the package cannot be a test dependency here: the last `homeassistant` for Python 3.11 is 2024.3, and its
update entity does not know `in_progress` and `update_percentage` yet (they came with 2024.11, for Python 3.12 and later). Every
message of docs/mqtt.md was also given to the real schemas of homeassistant 2025.1.4 under Python 3.13 once. Sources:

[U]  https://www.home-assistant.io/integrations/update.mqtt/       DISCOVERY_SCHEMA and MQTT_JSON_UPDATE_SCHEMA of
     homeassistant/components/mqtt/update.py
[S]  https://www.home-assistant.io/integrations/sensor.mqtt/       homeassistant/components/mqtt/sensor.py
[BS] https://www.home-assistant.io/integrations/binary_sensor.mqtt/  homeassistant/components/mqtt/binary_sensor.py
[EV] https://www.home-assistant.io/integrations/event.mqtt/  homeassistant/components/mqtt/event.py
[B]  https://www.home-assistant.io/integrations/button.mqtt/       homeassistant/components/mqtt/button.py
[D]  https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery  topics, availability, device, origin:
     homeassistant/components/mqtt/schemas.py
[SC] https://www.home-assistant.io/integrations/sensor/#device-class  units: homeassistant/components/sensor/const.py
[BC] https://www.home-assistant.io/integrations/button/#device-class
[UC] https://www.home-assistant.io/integrations/update/#device-class
[E]  https://developers.home-assistant.io/docs/core/entity/#generic-properties  entity_category
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

Check = Callable[[Any], bool]


class NotAccepted(Exception):
    """Home Assistant would drop the message; the text says for what."""


def text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def topic(value: Any) -> bool:
    """valid_publish_topic and valid_subscribe_topic [D]; no wildcard is used here."""
    return text(value) and len(value.encode()) <= 65535 and not re.search(r"[#+\x00-\x1f\x7f]", value)


def link(value: Any) -> bool:
    return text(value) and urlsplit(value).scheme in ("http", "https") and bool(urlsplit(value).netloc)


def one_of(*values: str) -> Check:
    return lambda value: value in values


def icon(value: Any) -> bool:
    return text(value) and re.fullmatch(r"mdi:[a-z0-9-]+", value) is not None


def device(value: Any) -> bool:
    check(value, DEVICE, ("identifiers",))
    return True


def origin(value: Any) -> bool:
    check(value, ORIGIN, ("name",))
    return True


# (what it must be, where that is documented)
Keys = dict[str, tuple[Check, str]]
DEVICE: Keys = {
    "identifiers": (lambda value: isinstance(value, list) and bool(value) and all(text(item) for item in value), "D"),
    "name": (text, "D"),
    "model": (text, "D"),
    "manufacturer": (text, "D"),
    "sw_version": (text, "D"),
    "configuration_url": (link, "D"),
}
ORIGIN: Keys = {"name": (text, "D"), "sw_version": (text, "D"), "support_url": (link, "D")}
_COMMON: Keys = {
    "name": (text, "D"),
    "unique_id": (text, "D"),
    "availability_topic": (topic, "D"),
    "payload_available": (text, "D"),
    "payload_not_available": (text, "D"),
    "device": (device, "D"),
    "origin": (origin, "D"),
    "icon": (icon, "D"),
}
COMPONENTS: dict[str, tuple[Keys, tuple[str, ...]]] = {
    "update": (
        {
            **_COMMON,
            "state_topic": (topic, "U"),
            "command_topic": (topic, "U"),
            "payload_install": (text, "U"),
            "device_class": (one_of("firmware"), "UC"),
            "entity_category": (one_of("config", "diagnostic"), "E"),
        },
        ("state_topic",),
    ),
    "sensor": (
        {
            **_COMMON,
            "state_topic": (topic, "S"),
            "unit_of_measurement": (one_of("B", "dBm"), "SC"),
            "device_class": (one_of("data_size", "signal_strength"), "SC"),
            "state_class": (one_of("measurement", "total", "total_increasing"), "S"),
            "entity_category": (one_of("diagnostic"), "E"),  # a sensor may not be of the category config
        },
        ("state_topic",),
    ),
    "binary_sensor": (
        {
            **_COMMON,
            "state_topic": (topic, "BS"),
            "value_template": (text, "BS"),
            "json_attributes_topic": (topic, "BS"),
            "device_class": (one_of("problem"), "BS"),
            "entity_category": (one_of("diagnostic"), "E"),
        },
        ("state_topic",),
    ),
    "event": (
        {
            **_COMMON,
            "state_topic": (topic, "EV"),
            "event_types": (lambda value: isinstance(value, list) and bool(value) and all(map(text, value)), "EV"),
        },
        ("state_topic", "event_types"),
    ),
    "button": (
        {
            **_COMMON,
            "command_topic": (topic, "B"),
            "payload_press": (text, "B"),
            "device_class": (one_of("identify", "restart", "update"), "BC"),
            "entity_category": (one_of("config", "diagnostic"), "E"),
        },
        ("command_topic",),
    ),
}
UNITS = {"data_size": ("B",), "signal_strength": ("dB", "dBm")}  # [SC]
STATE: Keys = {  # the update entity's state topic [U]
    "installed_version": (text, "U"),
    "latest_version": (text, "U"),
    "title": (text, "U"),
    "release_summary": (lambda value: isinstance(value, str) and len(value) <= 255, "U"),
    "release_url": (link, "U"),
    "in_progress": (lambda value: isinstance(value, bool), "U"),
    "update_percentage": (lambda value: value is None or (isinstance(value, int | float) and 0 <= value <= 100), "U"),
}


def check(value: Any, keys: Keys, required: tuple[str, ...]) -> None:
    """NotAccepted for what Home Assistant would drop."""
    if not isinstance(value, dict):
        raise NotAccepted(f"{value!r} is no object")
    for name in required:
        if name not in value:
            raise NotAccepted(f"{name} is missing")
    for name, content in value.items():
        if name not in keys:
            raise NotAccepted(f"{name} is not known")
        if not keys[name][0](content):
            raise NotAccepted(f"{name} must not be {content!r}: see [{keys[name][1]}]")


def check_discovery(where: str, value: Any, prefix: str = "homeassistant") -> str:
    """Check a discovery message; returns its component. Every entity here has an id, availability and a device."""
    found = re.fullmatch(rf"{prefix}/([a-z_]+)/([A-Za-z0-9_-]+)/([A-Za-z0-9_-]+)/config", where)
    if not found or found[1] not in COMPONENTS:
        raise NotAccepted(f"{where} is no discovery topic")
    keys, required = COMPONENTS[found[1]]
    check(value, keys, (*required, "name", "unique_id", "availability_topic", "device"))
    if "unit_of_measurement" in value and value["unit_of_measurement"] not in UNITS[value["device_class"]]:
        raise NotAccepted("the unit does not belong to the device class")
    return found[1]
