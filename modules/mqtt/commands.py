"""What a message to this board means, and what is answered. Imported for it, and forgotten afterwards."""

import json
import random
import time

_MAX = 256  # bytes
_MAX_VERSION = 32
_BIRTH_MS = 5_000


def received(mqtt, topic, data):
    """Deal with one message; garbage is logged once."""
    try:
        if len(data) > _MAX:
            raise ValueError("a message that is too long")
        _received(mqtt, topic.decode(), data.decode())
    except ValueError as error:  # what is no text is one in MicroPython
        mqtt.once("ignored: %s" % error)


def _received(mqtt, topic, text):
    if topic == "iot-platform/version":
        _broadcast(mqtt, text)
    elif topic.startswith(mqtt.base + "/command/"):
        if mqtt.client.retained:
            raise ValueError("a retained command, " + topic)
        _command(mqtt, topic[len(mqtt.base) + 9 :], text)
    elif text == "online" and not mqtt.client.retained:  # Home Assistant has started; all boards at once would be too much for it
        mqtt.announce_at = time.ticks_add(time.ticks_ms(), random.getrandbits(10) * _BIRTH_MS >> 10)


def _broadcast(mqtt, version):
    """A version that somebody has published: a newer one makes this board check, each board at a time of its own."""
    from modules.ota import versions

    if len(version) > _MAX_VERSION or not versions.valid(version):
        raise ValueError("a broadcast that is no version")
    ota = mqtt.platform.module("ota")
    if ota and versions.compare(version, mqtt.platform.bus.get("version")) > 0 and mqtt.check_at is None:
        delay = random.getrandbits(20) * mqtt.cfg["spread_s"] * 1000 >> 20
        mqtt.check_at = time.ticks_add(time.ticks_ms(), delay)
        mqtt.log("version %s was announced, checking in %d s" % (version, delay // 1000))


def _command(mqtt, path, text):
    if not path or len(path) > 64 or not all(33 <= ord(c) < 127 for c in path):
        raise ValueError("a command whose name cannot be one")
    mqtt.log("command", path)
    platform = mqtt.platform
    if path.startswith("ota/"):
        _ota(mqtt, platform.module("ota"), path, text)
    elif path == "restart":
        mqtt.reply(path, encode(True, state="restarting"))
        platform.request_reset("asked for over MQTT")
    elif platform.bus.command(path, text, "mqtt"):
        mqtt.reply(path, encode(True, state="passed_on"))
    else:
        mqtt.reply(path, encode(False, "busy", "too many commands at once"))


def _ota(mqtt, ota, path, text):
    verb = path[4:]
    if ota is None or not ota.cfg:
        return mqtt.reply(path, encode(False, "not_configured", "OTA does not run on this board"))
    try:
        if verb == "channel":
            ota.set_channel(text)
            return mqtt.reply(path, encode(True, channel=ota.channel))
        if verb == "check":
            started = ota.job not in ("trial", "clean_up") and ota.request_check()
        elif verb == "update":
            started = ota.request_update(text == "force")
        elif verb == "rollback":
            started = ota.rollback()
        elif verb == "confirm":
            started = ota.confirm()
            if not started:
                return mqtt.reply(path, encode(False, "not_allowed", "no version is on trial"))
        else:
            return mqtt.reply(path, encode(False, "not_allowed", "ota knows check, update, rollback, confirm and channel"))
    except Exception as error:  # an OtaError, whose class comes and goes with its module
        return mqtt.reply(path, encode(False, getattr(error, "reason", "internal"), str(error)))
    if started:
        mqtt.pending = path
        return mqtt.reply(path, encode(True, state="started"))
    return mqtt.reply(path, encode(False, "busy", "another job runs: %s" % (ota.job or ota.state)))


def settle(mqtt, ota):
    """Reply with the result of the job that a command has started: it has ended."""
    mqtt.reply(mqtt.pending, _result(ota, mqtt.pending, mqtt.restarted))
    mqtt.pending = None
    if mqtt.restarted:
        mqtt.restarted = False
        mqtt.platform.prefs.remove("mqtt.pending")
        mqtt.platform.prefs.save()


def _result(ota, path, restarted):
    if ota is None:
        return encode(False, "not_configured", "OTA does not run on this board")
    state = ota.state
    version = ota.local_version()
    if state == "confirmed":
        return encode(True, state=state, version=version)
    if state == "rolled_back":
        last = ota.store.get("last") or {}
        by_hand = path == "ota/rollback" and last.get("reason") == "by_hand"
        return encode(by_hand, last.get("reason"), last.get("message"), state=state, version=version)
    if state == "failed":
        reason = ota.error.reason if ota.error else "not_configured"
        return encode(False, reason, str(ota.error or ""), state=state, version=version)
    if state in ("up_to_date", "ready"):
        return encode(True, state=state, version=version, available=ota.offered if state == "ready" else None)
    why = "the board restarted before it was done" if restarted else "it was cancelled"
    return encode(False, "interrupted" if restarted else "cancelled", why, state=state, version=version)


def encode(ok, error=None, message=None, **more):
    """A reply's JSON; what is None is left out."""
    value = {"ok": ok}
    if not ok:
        value["error"] = error or "unknown"
    if message:
        value["message"] = message[:200]
    for key in more:
        if more[key] is not None:
            value[key] = more[key]
    return json.dumps(value)
