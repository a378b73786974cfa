"""The state of Home Assistant's update entity: what is installed, what there is, and how far an update has come."""

import json

_IN_PROGRESS = ("downloading", "installing", "rebooting", "trial")
_MAX_SUMMARY = 255  # Home Assistant takes no more


def state(mqtt):
    """As JSON; an empty message, which Home Assistant ignores, while there is nothing to say."""
    get = mqtt.platform.bus.get
    ota = mqtt.platform.module("ota")
    status, version = get("ota/status"), get("version")
    if not ota or not ota.cfg or not version:
        return b""
    latest = None if status in ("up_to_date", "confirmed", "rolled_back") else get("ota/available")
    value = {
        "installed_version": version,
        "latest_version": latest or version,
        "title": mqtt.platform.profile["shortName"],
        "in_progress": status in _IN_PROGRESS,
        "update_percentage": get("ota/progress") if status == "downloading" else None,
        "release_url": mqtt.cfg["release_url"] or ota.url(""),
    }
    if ota.notes:
        value["release_summary"] = ota.notes[:_MAX_SUMMARY]
    return json.dumps(value).encode()
