"""The console without memory for the code of a command."""

from __future__ import annotations

import time
from typing import Any

import pytest
from iot_platform.log import SerialLog

from modules.serial_log import Module


class Platform:
    asked = ""

    def once(self, *_what: Any) -> None:
        raise MemoryError("memory allocation failed")

    def request_reset(self, reason: str) -> None:
        self.asked = reason


def test_without_memory_a_command_says_so_and_a_restart_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "ticks_ms", lambda: 0, raising=False)
    monkeypatch.setattr(time, "ticks_diff", lambda later, earlier: later - earlier, raising=False)
    platform = Platform()
    console = Module(platform)
    console.execute("ota update")
    assert SerialLog.line(SerialLog.count - 1).endswith("W too little memory for that now; reset always works")
    console.execute("reset ")
    assert platform.asked == "asked for at the console"
