"""The log that is told over MQTT: how fast, for how long, and what becomes of lines that have gone. With a clock of its own."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from iot_platform.log import SerialLog

from modules.mqtt import messages


def test_a_line_in_a_slot_for_five_minutes_and_none_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    now, sent = 0, []
    monkeypatch.setattr(time, "ticks_ms", lambda: now, raising=False)
    monkeypatch.setattr(time, "ticks_diff", lambda later, earlier: later - earlier, raising=False)
    monkeypatch.setattr(SerialLog, "count", 0)
    SerialLog.purge()

    def add(lines: int) -> None:
        for _ in range(lines):
            SerialLog.info("line", SerialLog.count)

    add(50)
    client = SimpleNamespace(publish=lambda topic, data: sent.append((now, topic, data.decode())))
    for n, said in enumerate(messages._lines(SimpleNamespace(base="door/1", client=client), 40)):
        assert said == (bool(sent) and sent[-1][0] == now)
        now += 10
        if n == 500:
            add(100)  # a burst, most of which the log does not remember
    assert {topic for _at, topic, _text in sent} == {b"door/1/log"}
    assert all(later[0] - earlier[0] >= 200 for earlier, later in zip(sent, sent[1:], strict=False))
    numbers = [int(text.split()[0]) for _at, _topic, text in sent]
    assert numbers[:10] == list(range(40, 50)) and numbers[10:] == list(range(numbers[10], 150)) and 60 < numbers[10] < 120
    assert all(text.endswith(f"] I line {n}") for n, (_at, _topic, text) in zip(numbers, sent, strict=True))
    assert 300_000 <= now < 320_000
