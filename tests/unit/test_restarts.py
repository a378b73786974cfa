"""What the loader makes of restarts: a version is blamed for its hangs and crashes, never for power or for what was asked."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import types
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ATTEMPTS = 3
CONSTANTS = {"PWRON_RESET": 1, "HARD_RESET": 2, "WDT_RESET": 3, "DEEPSLEEP_RESET": 4, "SOFT_RESET": 5}
RESTARTS = {"power": 1, "brownout": 1, "deepsleep": 4, "watchdog": 3, "reset": 2, "asked": 2, "asked, power": 1}  # as esp32 says


class Lives:
    """A board's lives: how each but the first began, and what the loader made of it."""

    def __init__(self, root: Path, state: str = "trial.0") -> None:
        self.root = root
        (root / ".ota").mkdir()
        if state:
            body = json.dumps({"format": 1, "old": "1", "new": "2", "attempts": ATTEMPTS, "timeout_s": 60}) + "\n"
            (root / ".ota" / state).write_text(body + f"end {hashlib.sha256(body.encode()).hexdigest()}\n")

    def boot(self, restart: str = "power") -> types.ModuleType:
        """The loader after this boot."""
        sys.modules["machine"].reset_cause = lambda: RESTARTS[restart]  # type: ignore[attr-defined]
        sys.modules.pop("ota_boot", None)
        import ota_boot

        ota_boot.ROOT = str(self.root)
        ota_boot.run()
        return ota_boot

    def follow(self, restarts: list[str]) -> types.ModuleType:
        loader = self.boot()
        for restart in restarts:
            if loader.state != "trial":
                break
            if restart.startswith("asked"):
                loader.asked()
            loader = self.boot(restart)
        return loader


@pytest.fixture(autouse=True)
def board_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    machine = types.ModuleType("machine")
    for name, value in CONSTANTS.items():
        setattr(machine, name, value)
    monkeypatch.setitem(sys.modules, "machine", machine)
    monkeypatch.setitem(sys.modules, "ota_boot", types.ModuleType("ota_boot"))  # so that the one that others use comes back
    monkeypatch.setattr(time, "ticks_ms", lambda: 0, raising=False)
    monkeypatch.setattr(time, "ticks_add", lambda a, b: a + b, raising=False)


# How lives of a trial end, one after the other; what is left then, and the reason of an undo.
TRIALS: list[tuple[list[str], str, str]] = [
    (["watchdog", "watchdog"], "trial", ""),
    (["watchdog"] * 3, "undone", "watchdog"),
    (["reset"] * 3, "undone", "reset"),
    (["asked"] * 9, "trial", ""),
    (["asked"] * 9 + ["watchdog"] * 2, "trial", ""),
    (["watchdog", "asked", "watchdog", "asked"], "trial", ""),
    (["watchdog", "asked", "watchdog", "asked", "watchdog"], "undone", "watchdog"),
    (["brownout"] * 9, "trial", ""),
    (["brownout"] * 12, "undone", "power"),
    (["asked, power"] * 9, "trial", ""),
    (["deepsleep"] * 9, "trial", ""),
    (["asked"] * 12, "undone", "reset"),
    (["brownout", "reset", "asked", "reset", "brownout", "reset"], "undone", "reset"),
]


@pytest.mark.parametrize(("restarts", "state", "reason"), TRIALS)
def test_a_trial_ends_by_what_the_version_did(tmp_path: Path, restarts: list[str], state: str, reason: str) -> None:
    loader = Lives(tmp_path).follow(restarts)
    assert loader.state == state
    if reason:
        assert loader.reason()[0] == reason


def test_ten_brownouts_in_a_row_are_no_failure_in_a_trial_or_outside(tmp_path: Path) -> None:
    trial, outside = tmp_path / "trial", tmp_path / "outside"
    trial.mkdir()
    outside.mkdir()
    assert Lives(trial).follow(["brownout"] * 10).state == "trial"
    lives = Lives(outside, "")
    for _start in range(10):
        assert lives.boot("brownout").failures == 0


@settings(max_examples=60, deadline=None)
@given(restarts=st.lists(st.sampled_from(sorted(RESTARTS)), max_size=20))
def test_no_order_of_restarts_blames_too_early_or_never_ends(
    tmp_path_factory: pytest.TempPathFactory, restarts: list[str]
) -> None:
    loader = Lives(tmp_path_factory.mktemp("lives")).follow(restarts)
    its_fault = sum(restart in ("watchdog", "reset") for restart in restarts)
    if len(restarts) <= 9:
        assert (loader.state == "undone") == (its_fault >= ATTEMPTS)
    if len(restarts) >= 9 + ATTEMPTS:
        assert loader.state == "undone"
    if not any(restart in ("watchdog", "reset", "asked") for restart in restarts) and loader.state == "undone":
        assert loader.reason()[0] == "power"


@pytest.mark.parametrize("restart", ["watchdog", "reset", "power", "brownout", "deepsleep"])
def test_outside_a_trial_only_a_hang_is_a_failed_boot(tmp_path: Path, restart: str) -> None:
    loader, failures = Lives(tmp_path, "").boot(restart), int(restart == "watchdog")
    assert loader.failures == failures and loader.restart == ("power" if restart == "brownout" else restart)
    assert os.listdir(tmp_path / ".ota") == (["fails.1"] if failures else [])


def test_the_loader_keeps_its_first_lines_and_no_more(tmp_path: Path) -> None:
    loader = Lives(tmp_path).boot()
    assert loader.said[0] == "trial of 2 boot 1"
    for n in range(20):
        loader.note_failure("x" * 1000 + str(n))
    assert len(loader.said) == 8 and max(map(len, loader.said)) == 200
