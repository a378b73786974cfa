"""What a message to this board means, and is answered. In memory only meanwhile."""

import json
import random
import time

from iot_platform.log import SerialLog
from iot_platform.module import name_ok, plain, printable
from micropython import const

_MAX = const(256)  # bytes
_BIRTH_MS = const(5_000)
_GUARDED = const(
    ("ota/rollback", "ota/confirm", "ota/channel", "ota/auto_install", "restart", "name", "group", "tags", "log", "wifi")
)
_MAX_NAME = const(32)
_SLOT_MS = const(200)  # of the log a line is told, not more often
_SLOTS = const(1_500)  # five minutes, for who has asked
_LEAST = const(8_000)  # bytes that must be free then: this file stays in memory


def received(mqtt, topic, data):
    """Deal with one message; ValueError for garbage."""
    if len(data) > _MAX:
        raise ValueError("a message that is too long")
    text = data.decode()
    if topic == "iot-platform/version":
        # Somebody has published it: where it is newer the board checks, each board at a time of its own
        ota = mqtt.platform.module("ota")
        if ota and ota.is_newer(text) and mqtt.check_at is None:
            delay = random.getrandbits(20) * mqtt.cfg["spread_s"] * 1000 >> 20
            mqtt.check_at = time.ticks_add(time.ticks_ms(), delay)
            mqtt.log("version %s was announced, checking in %d s" % (text, delay // 1000))
    elif topic.startswith("%s/command/" % mqtt.base):
        if mqtt.client.retained:
            raise ValueError("a retained command, " + topic)
        _command(mqtt, topic[len(mqtt.base) + 9 :], text)
    elif text == "online" and not mqtt.client.retained:  # Home Assistant has started; all boards at once are too much for it
        mqtt.announce_at = time.ticks_add(time.ticks_ms(), random.getrandbits(10) * _BIRTH_MS >> 10)


def _command(mqtt, path, text):
    if not path or len(path) > 64 or not printable(path):
        raise ValueError("a command whose name cannot be one")
    mqtt.log("command", path)
    platform = mqtt.platform
    name = path.split("/")[-1]
    if path in _GUARDED and name not in mqtt.cfg["commands"]:
        answer = encode(False, "not_allowed", "the profile's mqtt.commands does not name " + name)
    elif path.startswith("ota/") or path in ("name", "group", "tags", "wifi"):
        try:
            answer = _set(platform, path, text) if path == name else _ota(mqtt, platform.module("ota"), path, text)
        except Exception as error:  # an OtaError, whose class this module does not know
            answer = encode(False, getattr(error, "reason", "internal"), str(error))
    elif path == "log":
        if platform.board.mem_free() < _LEAST:
            raise MemoryError
        mqtt.console = _lines(mqtt, int(text) if text.isdigit() else 0)
        answer = encode(True, state="started")
    elif path == "restart":
        answer = encode(True, state="restarting")
        platform.request_reset("asked for over MQTT")
    else:
        try:
            taken = platform.order(path, text, "mqtt")
            answer = encode(True, state="passed_on") if taken else encode(False, "busy", "too many commands at once")
        except ValueError as error:  # it is no value for that
            answer = encode(False, "bad_value", str(error))
    mqtt.reply("reply/" + path, answer)


def _ota(mqtt, ota, path, text):
    """The first answer to a command for OTA; that to a job's end comes when it is over: see settle()."""
    verb = path[4:]
    if ota is None or not ota.cfg:
        return encode(False, "not_configured", "OTA does not run on this board")
    if verb == "channel":
        ota.set_channel(text)
        return encode(True, channel=ota.channel)
    if verb == "auto_install":
        if text not in ("true", "false"):
            return encode(False, "bad_value", "true or false")
        mqtt.platform.choose("ota.auto_install", text == "true", "mqtt")
        return encode(True)
    if verb == "check":
        started = ota.job != "start" and ota.request_check()
    elif verb == "update":
        started = ota.request_update(text == "force" or (text == "install" and _failed(ota)))
    elif verb == "rollback":
        started = ota.rollback()
    elif verb == "confirm":
        started = ota.confirm()
        if not started:
            return encode(False, "not_allowed", "no version is on trial")
    else:
        return encode(False, "not_allowed", "ota knows check, update, rollback, confirm, channel and auto_install")
    if not started:
        return encode(False, "busy", "another job runs: %s" % (ota.job or ota.state))
    if mqtt.pending and mqtt.pending != path:  # only one is remembered
        mqtt.reply("reply/" + mqtt.pending, encode(False, "interrupted", "%s came before it was done" % path))
    mqtt.pending, mqtt.restarted = path, False
    mqtt.platform.prefs.set("mqtt.pending", path)
    mqtt.platform.prefs.save()  # whatever becomes of it is told, also after a loss of power
    return encode(True, state="started")


def _set(platform, key, text):
    """Give the board a name or tags, or put it into a group; no text takes it away. Or send it to another network."""
    if key == "wifi":
        try:
            value = json.loads(text)
            platform.module("wifi").join(value["ssid"], value["password"])
            return encode(True, state="joining")
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # no such object, or nothing that a network could be
            return encode(False, "bad_value", str(error))
    if key == "name":  # of a host
        good = plain(text, b"-") and len(text) <= _MAX_NAME
    else:
        good = printable(text, 32) if key == "tags" else not text or name_ok(text)
    if not good:
        return encode(False, "bad_value", "a name or a group is letters and digits, tags are words")
    platform.prefs.set(key, text or None)
    platform.prefs.save()
    platform.bus.publish(key, text)
    return encode(True, state="saved")


def _lines(mqtt, n):
    """Tell the log's lines from number n on, for a while: one a slot. Generator of what a round did: True, something was sent."""
    for _ in range(_SLOTS):
        began = time.ticks_ms()
        while time.ticks_diff(time.ticks_ms(), began) < _SLOT_MS:
            yield False
        if not SerialLog.first <= n <= SerialLog.count:  # they have gone; or it is a number from before a restart
            n = SerialLog.first
        if n < SerialLog.count:
            mqtt.client.publish((mqtt.base + "/log").encode(), ("%d %s" % (n, SerialLog.line(n))).encode())
            n += 1
            yield True


def _failed(ota):
    """What is offered has failed or was refused here: whoever presses Install all the same means by force, but cannot say so."""
    failed = ota.store.get("failed", {})
    return ota.offered and (ota.store.get("refused") or any(failed[n][0] == ota.offered for n in failed))


def settle(mqtt, ota):
    """Reply with the result of the job that a command has started: it has ended."""
    path, prefs = mqtt.pending, mqtt.platform.prefs
    mqtt.reply("reply/" + path, _result(ota, path, mqtt.restarted))
    mqtt.pending = None
    prefs.set("mqtt.pending", None)
    prefs.save()


def _result(ota, path, restarted):
    if ota is None:
        return encode(False, "not_configured", "OTA does not run on this board")
    status = ota.status()
    state = status["state"]
    announced = ota.platform.bus.get("ota/announced")
    ok = state in ("confirmed", "up_to_date", "available", "ready")
    error = message = None
    if state == "rolled_back":
        last = status["last"] or {}
        error, message = last.get("reason"), last.get("message")
        ok = path == "ota/rollback" and error == "by_hand"
    elif state == "failed":
        error, message = status["error"] or "not_configured", status["message"]
    elif state == "up_to_date" and path == "ota/update" and announced not in (None, status["version"]):
        ok, error, message = False, "not_offered", "the channel has %s, and not for this board now" % announced
    elif not ok:
        error = "interrupted" if restarted else "cancelled"
        message = "the board restarted before it was done" if restarted else "it was cancelled"
    found = status["available"] if state in ("available", "ready") else None
    return encode(ok, error, message, state=state, version=status["version"], available=found)


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
