"""The beginning and the end of a connection. Imported for it, and forgotten afterwards."""

import random
import time

from iot_platform import dial, sockets

from .client import Client, MqttError

_FIRST_PAUSE_MS = 1_000
_MAX_DOUBLINGS = 8  # four minutes
_STABLE_MS = 30_000  # a connection that lasted so long was a good one
_REFUSALS = {
    1: "the broker does not speak MQTT 3.1.1",
    2: "the broker does not accept this board's id",
    3: "the broker is not available",
    4: "the broker refuses the user name or the password",
    5: "the broker does not let this board in: are the user name and the password right?",
}


def login(mqtt):
    """Connect: TCP, TLS, and the broker's yes. Generator; MqttError when that does not work in time."""
    cfg = mqtt.cfg
    limit = cfg["timeout_s"] * 1000
    began = time.ticks_ms()

    def check(_since=None):
        if time.ticks_diff(time.ticks_ms(), began) > limit:
            raise MqttError("timeout", "the broker has not answered for %d s" % (limit // 1000))

    if mqtt.failures > 2 or not mqtt.addresses:  # perhaps the broker has moved
        mqtt.addresses = dial.lookup(cfg["host"], cfg["port"], MqttError)
        yield
    sock = yield from dial.connect(mqtt.addresses, check, MqttError)
    done = False
    try:
        yield from _shake_hands(sock, mqtt, check)
        done = True
    finally:
        if not done:
            sock.close()


def _shake_hands(sock, mqtt, check):
    cfg = mqtt.cfg
    reason = "connection_lost"
    if cfg["tls"]:
        sock = dial.secure(sock, cfg["host"], cfg["ca"], MqttError)
        reason = "tls"
    data = memoryview(_hello(cfg, mqtt.base))
    while data:
        n = sockets.attempt(sock.write, data, reason, MqttError)
        if n:
            data = data[n:]
        else:
            check()
            yield
    answer = memoryview(bytearray(4))
    left = answer
    while left:
        n = sockets.attempt(sock.readinto, left, "connection_lost", MqttError)
        if n:
            left = left[n:]
        elif n == 0:
            raise MqttError("connection_lost", "the broker closes the connection at once")
        else:
            check()
            yield
    _judge(answer)
    _begin(mqtt, Client(sock, cfg["keepalive_s"], cfg["timeout_s"] * 1000, mqtt.received))


def _judge(answer):
    if answer[0] != 0x20 or answer[1] != 2:
        raise MqttError("protocol", "what answers there is no MQTT broker")
    if answer[3]:
        raise MqttError("refused", _REFUSALS.get(answer[3], "the broker refuses: code %d" % answer[3]))


def _hello(cfg, base):
    """The CONNECT packet (MQTT 3.1.1, section 3.1): a clean session, and a last will that says "offline"."""
    flags = 0x02 | 0x04 | 0x20
    parts = [base.replace("/", "-"), base + "/status/online", "false"]
    if cfg["user"]:
        flags |= 0x80
        parts.append(cfg["user"])
        if cfg["password"]:
            flags |= 0x40
            parts.append(cfg["password"])
    body = bytearray(b"\x00\x04MQTT\x04")
    body.extend(bytes((flags, cfg["keepalive_s"] >> 8, cfg["keepalive_s"] & 0xFF)))
    for part in parts:
        part = part.encode()
        body.extend(bytes((len(part) >> 8, len(part) & 0xFF)))
        body.extend(part)
    size = len(body)
    return bytes((0x10, size) if size < 128 else (0x10, size & 0x7F | 0x80, size >> 7)) + body


def _begin(mqtt, client):
    """Connected: ask for what concerns this board, and tell everything."""
    mqtt.client = client
    mqtt.told.clear()
    mqtt.enter("connected")
    mqtt.log("connected to", mqtt.cfg["host"])
    for topic in (mqtt.base + "/command/#", "iot-platform/version"):
        client.subscribe(topic.encode())
    if mqtt.cfg["discovery"]:
        client.subscribe((mqtt.cfg["discovery"] + "/status").encode())
        mqtt.announce_at = time.ticks_ms()
    mqtt.publish("status/online", True)
    mqtt.changed = {key for key, _value in mqtt.platform.bus.items()}
    mqtt.entity = True


def lost(mqtt, error):
    """The connection is lost, or there never was one: say why, once, and wait; longer each time, and not all boards alike."""
    pause = _FIRST_PAUSE_MS << min(mqtt.failures, _MAX_DOUBLINGS)
    pause += random.getrandbits(10) * pause >> 10
    mqtt.failures += 1
    mqtt.wait(pause)
    if len(mqtt.told) > 8:
        mqtt.told.clear()
    text = "no connection to %s: %s" % (mqtt.cfg["host"], error)
    if text not in mqtt.told:
        mqtt.told.add(text)
        mqtt.log("%s; trying again in %d s, then later and later" % (text, (pause + 500) // 1000))


def farewell(mqtt):
    """Before a restart. The broker need not find out by itself that this board is gone."""
    if mqtt.pending:
        mqtt.platform.prefs.set("mqtt.pending", mqtt.pending)
        mqtt.platform.prefs.save()
    if mqtt.client:
        try:
            mqtt.publish("status/ota/status", mqtt.platform.bus.get("ota/status"))
            mqtt.publish("status/online", False)
            mqtt.client.farewell()
        except OSError as error:
            mqtt.log("no farewell:", error)
