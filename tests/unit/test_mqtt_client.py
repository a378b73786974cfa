"""What MQTT may send: a message that its queue could never hold is refused, and harms nothing. umqtt itself is only on boards."""

from __future__ import annotations

import importlib
import sys
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class Umqtt:
    """As umqtt's client writes a message of QoS 0."""

    def publish(self: Any, topic: bytes, msg: bytes, retain: bool = False) -> None:
        self.sock.write(bytes(4))
        self._send_str(topic)
        self.sock.write(msg)

    def _send_str(self: Any, text: bytes) -> None:
        self.sock.write(bytes(2))
        self.sock.write(text)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client whose socket takes nothing."""
    package = ModuleType("umqtt")
    package.robust = SimpleNamespace(MQTTClient=Umqtt)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "umqtt", package)
    monkeypatch.setattr(time, "ticks_ms", lambda: 0, raising=False)
    monkeypatch.delitem(sys.modules, "modules.mqtt.client", raising=False)
    module = importlib.import_module("modules.mqtt.client")
    monkeypatch.delitem(sys.modules, "modules.mqtt.client")
    return module.Client(SimpleNamespace(write=lambda _data: None, close=lambda: None), {"timeout_s": 5, "keepalive_s": 6}, None)


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("topic", [1, 1000, 2000])
def test_the_longest_message_fits_into_the_empty_queue(client: Any, topic: int, qos: int) -> None:
    assert client.publish(b"t" * topic, b"m" * (2000 - topic), qos=qos)
    assert not client.idle() and client.acked == (not qos)


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize(("topic", "message"), [(1, 2000), (2000, 1), (2001, 0), (20, 100_000)])
def test_a_longer_one_is_refused_and_nothing_waits(client: Any, topic: int, message: int, qos: int) -> None:
    assert client.publish(b"t" * topic, b"m" * message, True, qos=qos) is False
    assert client.idle() and client.acked, "no answer is waited for"
