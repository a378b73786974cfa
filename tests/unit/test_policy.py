"""Which release a board takes: pure decisions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.ota import schedule
from modules.ota.errors import OtaError
from modules.ota.release import policy

DAY = 86_400


@pytest.mark.parametrize("reason", ["no_network", "power", "no_memory"])
def test_what_may_not_have_been_its_fault_is_tried_a_few_times_at_growing_intervals(reason: str) -> None:
    assert [policy.retry_pause(reason, tries) for tries in range(1, 6)] == [4, 16, 64, None, None]


@pytest.mark.parametrize("reason", ["exception", "module_failed", "watchdog", "reset", "timeout", "no_space", "by_hand"])
def test_what_was_its_fault_is_not_tried_again(reason: str) -> None:
    assert policy.retry_pause(reason, 1) is None


@pytest.mark.parametrize(
    ("window", "minute", "inside"),
    [
        ("02:00-04:30", 119, False), ("02:00-04:30", 120, True), ("02:00-04:30", 269, True), ("02:00-04:30", 270, False),
        ("22:00-05:30", 1319, False), ("22:00-05:30", 1320, True), ("22:00-05:30", 0, True), ("22:00-05:30", 329, True),
        ("22:00-05:30", 330, False), ("00:00-24:00", 1439, True),
    ],
)  # fmt: skip
def test_a_window_is_a_time_of_day_and_may_pass_midnight(window: str, minute: int, inside: bool) -> None:
    assert schedule.in_window(1_700_006_400 // DAY * DAY + minute * 60, window) is inside


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40), st.booleans())
def test_force_allows_the_floor_itself_and_nothing_below(sequence: int, floor: int, force: bool) -> None:
    allowed = floor < sequence <= floor + policy.MAX_STEP or (sequence == floor and (force or not floor))
    try:
        policy.check_sequence(sequence, floor, force)
    except OtaError as error:
        assert error.reason == ("old_sequence" if sequence <= floor else "far_sequence") and not allowed
    else:
        assert allowed


@pytest.mark.parametrize(
    ("version", "sequence", "floor", "running", "newer"),
    [
        ("1.10", 11, 10, "1.9", True), ("1.9", 11, 10, "1.10", False), ("1.1", 10, 10, "1.0", False),
        ("1.1", 1, 0, "1.0", True), ("1.0", 11, 10, "1.0", False), ("1.0", 11, 10, "unknown!", True),
    ],
)  # fmt: skip
def test_newer_is_a_higher_sequence_and_a_higher_version(
    version: str, sequence: int, floor: int, running: str, newer: bool
) -> None:
    assert policy.is_newer(version, sequence, floor, running) is newer


def test_a_group_that_a_rollout_names_has_a_percentage_of_its_own() -> None:
    channel = {"sequence": 7, "rollout": {"percent": 30, "groups": {"house": 100, "barn": 0}}}
    ids = [f"b{n}" for n in range(2000)]

    def reached(group: str | None) -> int:
        return sum(policy.rollout_allows(channel, each, group) for each in ids)

    assert (reached("house"), reached("barn")) == (len(ids), 0)
    assert reached(None) == reached("cellar") and 0.25 < reached(None) / len(ids) < 0.35
    assert all(policy.rollout_allows({"sequence": 7}, each, "house") for each in ids), "no rollout: everybody"
