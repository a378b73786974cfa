"""Connecting, step by step: TCP, TLS, and the broker's yes. Imported for it, and forgotten afterwards."""

import time

from iot_platform import dial

from .client import Client, MqttError

_REFUSALS = {
    1: "the broker does not speak MQTT 3.1.1",
    2: "the broker does not accept this board's id",
    3: "the broker is not available",
    4: "the broker refuses the user name or the password",
    5: "the broker does not let this board in: are the user name and the password right?",
}


def login(cfg, client_id, will_topic, addresses):
    """Generator; returns ``(client, addresses)``, connected. MqttError when that does not work in time.

    :param cfg: see config.settings.
    :param addresses: what an earlier lookup gave, or None.
    """
    limit = cfg["timeout_s"] * 1000
    began = time.ticks_ms()

    def check(_since=None):
        if time.ticks_diff(time.ticks_ms(), began) > limit:
            raise MqttError("timeout", "the broker has not answered for %d s" % (limit // 1000))

    client = Client(client_id, cfg["host"], cfg["port"], _bytes(cfg["user"]), _bytes(cfg["password"] or ""), cfg["keepalive_s"])
    client.set_last_will(will_topic, b"false", True)
    addresses = addresses or dial.lookup(cfg["host"], cfg["port"], MqttError)
    yield
    sock = yield from dial.connect(addresses, check, MqttError)
    done = False
    try:
        reason = "connection_lost"
        if cfg["tls"]:
            sock = dial.secure(sock, cfg["host"], cfg["ca"], MqttError)
            reason = "tls"
        data = memoryview(_hello(client))
        while data:
            n = dial.attempt(sock.write, data, reason, MqttError)
            if n:
                data = data[n:]
            else:
                check()
                yield
        answer = memoryview(bytearray(4))
        left = answer
        while left:
            n = dial.attempt(sock.readinto, left, "connection_lost", MqttError)
            if n:
                left = left[n:]
            elif n == 0:
                raise MqttError("connection_lost", "the broker closes the connection at once")
            else:
                check()
                yield
        _judge(answer)
        done = True
    finally:
        if not done:
            sock.close()
    client.open(sock)
    return client, addresses


def _judge(answer):
    if answer[0] != 0x20 or answer[1] != 2:
        raise MqttError("protocol", "what answers there is no MQTT broker")
    if answer[3]:
        raise MqttError("refused", _REFUSALS.get(answer[3], "the broker refuses: code %d" % answer[3]))


def _hello(client):
    """The CONNECT packet (MQTT 3.1.1, section 3.1) of what the client was made with: a clean session."""
    flags = 0x02 | 0x04 | (0x20 if client.lw_retain else 0)
    body = bytearray(b"\x00\x04MQTT\x04\x00")
    body.extend(bytes((client.keepalive >> 8, client.keepalive & 0xFF)))
    parts = [client.client_id, client.lw_topic, client.lw_msg]
    if client.user is not None:
        flags |= 0x80
        parts.append(client.user)
        if client.pswd:
            flags |= 0x40
            parts.append(client.pswd)
    body[7] = flags
    for part in parts:
        body.extend(bytes((len(part) >> 8, len(part) & 0xFF)))
        body.extend(part)
    size = len(body)
    head = bytes((0x10, size)) if size < 128 else bytes((0x10, size & 0x7F | 0x80, size >> 7))
    return head + body


def _bytes(text):
    return text.encode() if text is not None else None
