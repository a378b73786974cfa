"""What Home Assistant's MQTT integration accepts, key by key. It drops a whole message for one value of the wrong kind.

Written down because the package cannot be a test dependency here: homeassistant 2026.11 needs Python 3.14. What stands here was
read in the wheel of homeassistant 2026.11.0, file by file:

[A]  homeassistant/components/mqtt/abbreviations.py
[U]  https://www.home-assistant.io/integrations/update.mqtt/       DISCOVERY_SCHEMA and MQTT_JSON_UPDATE_SCHEMA of
     homeassistant/components/mqtt/update.py
[N]  homeassistant/components/mqtt/number.py    [SW] switch.py    [SE] select.py    [T] text.py
[S]  https://www.home-assistant.io/integrations/sensor.mqtt/       homeassistant/components/mqtt/sensor.py
[BS] https://www.home-assistant.io/integrations/binary_sensor.mqtt/  homeassistant/components/mqtt/binary_sensor.py
[EV] https://www.home-assistant.io/integrations/event.mqtt/  homeassistant/components/mqtt/event.py
[B]  https://www.home-assistant.io/integrations/button.mqtt/       homeassistant/components/mqtt/button.py
[D]  https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery  topics, availability, device, origin:
     MQTT_ENTITY_COMMON_SCHEMA and others of homeassistant/components/mqtt/schemas.py
[SC] DEVICE_CLASS_UNITS and DEVICE_CLASS_STATE_CLASSES of homeassistant/components/sensor/const.py
[BD] BinarySensorDeviceClass of homeassistant/components/binary_sensor/__init__.py
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


def flag(value: Any) -> bool:
    return isinstance(value, bool)


def number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(text, value))


def device(value: Any) -> bool:
    check(value, DEVICE, ("identifiers",))
    return True


def mac(value: Any) -> bool:
    return all(len(pair) == 2 and pair[0] == "mac" and re.fullmatch("([0-9a-f]{2}:){5}[0-9a-f]{2}", pair[1]) for pair in value)


def origin(value: Any) -> bool:
    check(value, ORIGIN, ("name",))
    return True


UNITS = {  # [SC]; of the two signs for micro it prefers the Greek letter, and takes the other for it
    name: {*units.split(), *units.replace("μ", "µ").split()}
    for name, units in {
        "atmospheric_pressure": "Pa atm bar cbar hPa inHg inH₂O kPa mPa mbar mmHg psi",
        "battery": "%",
        "carbon_dioxide": "ppm",
        "conductivity": "S/cm mS/cm μS/cm",
        "current": "A mA μA",
        "data_size": "B EB EiB GB Gbit GiB KiB MB Mbit MiB PB PiB TB TiB YB YiB ZB ZiB bit kB kbit",
        "distance": "cm ft in km m mi mm nmi yd",
        "duration": "d h min ms s μs",
        "energy": "GJ GWh Gcal J MJ MWh Mcal TWh Wh cal kJ kWh kcal mWh thm",
        "frequency": "GHz Hz MHz kHz mHz",
        "gas": "CCF L MCF ft³ m³",
        "humidity": "%",
        "illuminance": "lx",
        "moisture": "%",
        "pm10": "μg/m³",
        "pm25": "μg/m³",
        "power": "GW MW TW W kW mW",
        "pressure": "Pa atm bar cbar hPa inHg inH₂O kPa mPa mbar mmHg psi",
        "signal_strength": "dB dBm",
        "speed": "Beaufort ft/s in/d in/h in/s km/h kn m/min m/s mm/d mm/h mm/s mph",
        "temperature": "K °C °F",
        "voltage": "MV V kV mV μV",
        "volume_flow_rate": "L/h L/min L/s ft³/min gal/d gal/h gal/min mL/s m³/h m³/min m³/s",
        "water": "CCF L MCF ft³ gal m³",
        "weight": "g kg lb mg oz st μg",
        "wind_speed": "Beaufort ft/s in/s km/h kn m/min m/s mm/s mph",
    }.items()
}
COUNTS = ("energy", "gas", "water")  # [SC]: total or total_increasing, never measurement: else a warning for ever
BINARY = """
    battery battery_charging carbon_monoxide cold connectivity door garage_door gas glass_break heat light lock moisture motion
    moving occupancy opening plug power presence problem running safety smoke sound tamper update vibration window
""".split()
# (what it must be, where that is documented)
Keys = dict[str, tuple[Check, str]]
DEVICE: Keys = {
    "identifiers": (lambda value: isinstance(value, list) and bool(value) and all(text(item) for item in value), "D"),
    "name": (text, "D"),
    "model": (text, "D"),
    "manufacturer": (text, "D"),
    "sw_version": (text, "D"),
    "configuration_url": (link, "D"),
    "connections": (mac, "D"),
}
ORIGIN: Keys = {"name": (text, "D"), "sw_version": (text, "D"), "support_url": (link, "D")}
_COMMON: Keys = {
    "name": (lambda value: value is None or text(value), "D"),  # null: the device's
    "unique_id": (text, "D"),
    "availability_topic": (topic, "D"),
    "payload_available": (text, "D"),
    "payload_not_available": (text, "D"),
    "device": (device, "D"),
    "origin": (origin, "D"),
    "icon": (icon, "D"),
    "enabled_by_default": (flag, "D"),
    "entity_category": (one_of("config", "diagnostic"), "E"),
    "json_attributes_topic": (topic, "D"),
}
_READS: Keys = {"state_topic": (topic, "D"), "value_template": (text, "D")}
_WRITES: Keys = {"command_topic": (topic, "D")}
COMPONENTS: dict[str, tuple[Keys, tuple[str, ...]]] = {
    "update": (
        {**_COMMON, **_READS, **_WRITES, "payload_install": (text, "U"), "device_class": (one_of("firmware"), "UC")},
        ("state_topic",),
    ),
    "sensor": (
        {
            **_COMMON,
            **_READS,
            "unit_of_measurement": (text, "SC"),
            "device_class": (lambda value: value == "enum" or value in UNITS, "SC"),
            "state_class": (one_of("measurement", "total", "total_increasing"), "S"),
            "options": (texts, "S"),
            "entity_category": (one_of("diagnostic"), "E"),  # a sensor may not be of the category config
        },
        ("state_topic",),
    ),
    "binary_sensor": (
        {
            **_COMMON,
            **_READS,
            "payload_on": (text, "BS"),
            "payload_off": (text, "BS"),
            "device_class": (lambda value: value in BINARY, "BD"),
            "entity_category": (one_of("diagnostic"), "E"),
        },
        ("state_topic",),
    ),
    "event": ({**_COMMON, **_READS, "event_types": (texts, "EV")}, ("state_topic", "event_types")),
    "button": (
        {**_COMMON, **_WRITES, "payload_press": (text, "B"), "device_class": (one_of("identify", "restart", "update"), "BC")},
        ("command_topic",),
    ),
    "switch": ({**_COMMON, **_READS, **_WRITES, "payload_on": (text, "SW"), "payload_off": (text, "SW")}, ("command_topic",)),
    "select": ({**_COMMON, **_READS, **_WRITES, "options": (texts, "SE")}, ("command_topic", "options")),
    "text": ({**_COMMON, **_READS, **_WRITES}, ("command_topic",)),
    "number": (
        {
            **_COMMON,
            **_READS,
            **_WRITES,
            "min": (number, "N"),
            "max": (number, "N"),
            "step": (lambda value: number(value) and value >= 1e-3, "N"),
            "unit_of_measurement": (text, "N"),
        },
        ("command_topic",),
    ),
}
ABBREVIATIONS = {  # [A]: those that are used
    "avty_t": "availability_topic", "cmd_t": "command_topic", "dev": "device", "dev_cla": "device_class",
    "en": "enabled_by_default", "ent_cat": "entity_category", "evt_typ": "event_types", "ic": "icon",
    "json_attr_t": "json_attributes_topic", "o": "origin", "ops": "options", "pl_avail": "payload_available",
    "pl_inst": "payload_install", "pl_not_avail": "payload_not_available", "pl_off": "payload_off", "pl_on": "payload_on",
    "pl_prs": "payload_press", "stat_cla": "state_class", "stat_t": "state_topic", "uniq_id": "unique_id",
    "unit_of_meas": "unit_of_measurement", "val_tpl": "value_template",
}  # fmt: skip
DEVICE_ABBREVIATIONS = {
    "cns": "connections", "cu": "configuration_url", "ids": "identifiers", "mdl": "model", "mf": "manufacturer",
    "sw": "sw_version",
}  # fmt: skip
ORIGIN_ABBREVIATIONS = {"sw": "sw_version", "url": "support_url"}
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


def expand(message: dict[str, Any]) -> dict[str, Any]:
    """The message as Home Assistant reads it [A]: with whole words, and with its base topic in place of each "~"."""
    value = _replaced(message, ABBREVIATIONS)
    base = value.pop("~", "")
    for key in value:
        if key.endswith("topic"):
            value[key] = value[key].replace("~", base)
    value["device"] = _replaced(value.get("device", {}), DEVICE_ABBREVIATIONS)
    if "origin" in value:
        value["origin"] = _replaced(value["origin"], ORIGIN_ABBREVIATIONS)
    return value


def _replaced(value: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): content for key, content in value.items()}


def check_discovery(where: str, message: Any, prefix: str = "homeassistant") -> str:
    """Check a discovery message; returns its component. Every entity here has an id, availability and a device."""
    found = re.fullmatch(rf"{prefix}/([a-z_]+)/([A-Za-z0-9_-]+)/([A-Za-z0-9_-]+)/config", where)
    if not found or found[1] not in COMPONENTS:
        raise NotAccepted(f"{where} is no discovery topic")
    keys, required = COMPONENTS[found[1]]
    value = expand(message)
    check(value, keys, (*required, "name", "unique_id", "availability_topic", "device"))
    if found[1] == "sensor":
        _check_sensor(value)
    if found[1] == "number" and not value.get("min", 1) < value.get("max", 100):
        raise NotAccepted("max must be more than min: see [N]")
    return found[1]


def _check_sensor(value: dict[str, Any]) -> None:
    """validate_sensor_state_and_device_class_config [S], and what the sensor platform warns of [SC]."""
    name, unit, state_class = (value.get(key) for key in ("device_class", "unit_of_measurement", "state_class"))
    if (name == "enum") != ("options" in value) or (name == "enum" and (unit or state_class)):
        raise NotAccepted("options belong to the device class enum, and that has neither unit nor state class")
    if name in UNITS and unit not in UNITS[name]:
        raise NotAccepted("the unit does not belong to the device class")
    if name in COUNTS and state_class == "measurement":
        raise NotAccepted("the state class does not belong to the device class")
