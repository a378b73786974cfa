"""A line of the console that no module has declared is said to be one; what a module may take is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from iot_platform import commands
from iot_platform.log import SerialLog
from iot_platform.profile import panels

HINGE = {
    "values": (("hinge/runs", "Runs", "", "switch"), ("hinge/minutes", "Minutes", "min")),
    "actions": (("reset", "Start again"),),
    "settings": (("hinge.step_s", "Step", "s", "number", 1, 60),),
}
UNKNOWN = ": no module has declared such a command; type help"


class Platform:
    def __init__(self) -> None:
        self.modules = {"hinge": SimpleNamespace(panels=HINGE), "door": SimpleNamespace(), "web": SimpleNamespace(panels=())}
        self.ordered: list[tuple[str, str, str]] = []
        panels(self.modules)
        self.module: Any = self.modules.get

    def order(self, *command: Any) -> bool:
        self.ordered.append(command)
        return True


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(SerialLog, "_add", classmethod(lambda _cls, _level, parts: lines.append(" ".join(map(str, parts)))))
    return lines


@pytest.mark.parametrize("line", ["helo", "hinge/nope", "hinge/minutes 5", "hinge.step_s 5", "ota", "hinges", "/", "a/b/c d"])
def test_what_no_module_has_declared_is_said_and_goes_to_them_all_the_same(said: list[str], line: str) -> None:
    platform = Platform()
    commands.execute(platform, line, "console")
    path, _, text = line.partition(" ")
    assert said == [path + UNKNOWN]
    assert platform.ordered == [(path, text, "console")]


@pytest.mark.parametrize("begun", [True, False])
def test_a_job_of_the_updater_has_been_started_or_not(said: list[str], begun: bool) -> None:
    """It said True, which looks like success, and a line later the job had failed."""
    platform = Platform()
    updater = SimpleNamespace(rollback=lambda: begun, request_update=lambda force: begun and force, cancel=lambda: begun)
    platform.module = lambda _name: updater
    for line in ("ota rollback", "ota force", "ota cancel"):
        commands.execute(platform, line, "console")
    word = "started" if begun else "not started: it is off, or busy"
    assert said == [f"ota rollback: {word}", f"ota force: {word}", f"ota cancel: {begun}"]


@pytest.mark.parametrize("line", ["hinge/runs true", "hinge/reset", "hinge", "web password", "door/open", "door 5"])
def test_what_a_module_may_take_is_not_doubted(said: list[str], line: str) -> None:
    """A module's own word says nothing of what it takes, and one without a panel may take all that begins with its name."""
    platform = Platform()
    commands.execute(platform, line, "console")
    assert said == [] and len(platform.ordered) == 1
