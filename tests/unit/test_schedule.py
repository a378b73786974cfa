"""When a board asks its server next: spread out, never hammering, soon where it matters. A day's interval where none is said."""

from __future__ import annotations

import random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.ota import schedule

DAY = 86_400
NOW = 1_790_000_000
intervals = st.integers(10, 30 * DAY)
chances = st.floats(0, 1, exclude_max=True)


@given(intervals, chances)
def test_checks_lie_an_interval_apart_or_up_to_an_eighth_less(interval: int, chance: float) -> None:
    pause = schedule.pause_after_check(interval, chance)
    assert min(interval * 7 / 8, 5 * DAY) <= pause <= interval


@given(intervals, st.integers(1, 100), st.one_of(st.none(), st.integers(0, 5 * DAY)), chances)
def test_a_failure_asks_no_more_often_than_every_30_s_and_retry_after_counts_up_to_the_interval(
    interval: int, failures: int, retry: int | None, chance: float
) -> None:
    pause = schedule.pause_after_failure(interval, failures, retry, chance)
    assert pause >= min(max(retry or 0, 30), interval)
    assert pause <= interval * 9 / 8


def test_the_pause_grows_with_each_failure_up_to_the_interval() -> None:
    pauses = [schedule.pause_after_failure(DAY, failures, None, 0) for failures in range(1, 16)]
    assert pauses[:4] == [30, 60, 120, 240] and pauses[-1] == DAY
    assert pauses == sorted(pauses)


@pytest.mark.parametrize(
    ("due", "now", "earliest", "latest"),
    [
        (None, NOW, 2, 2),  # never asked, or an update was under way
        (None, None, 2, 2),
        (NOW + 5000, NOW, 5000, 5000),  # planned: a restart does not bring it forward
        (NOW - 5000, NOW, 2, DAY / 24),  # overdue
        (NOW + 400 * DAY, NOW, 2, DAY),  # a clock that was wrong
        (0, NOW, 2, DAY),  # planned without a clock
        (NOW + 5000, None, 2, DAY),  # no clock now
    ],
)
def test_a_restart_keeps_to_the_plan(due: int | None, now: int | None, earliest: float, latest: float) -> None:
    pauses = [schedule.pause_at_start(due, now, DAY, chance / 100) for chance in range(100)]
    assert min(pauses) >= earliest and max(pauses) <= latest


@pytest.mark.parametrize("clock", [True, False])
def test_a_board_that_restarts_every_ten_minutes_asks_once_an_interval(clock: bool) -> None:
    """Followed for 300 days: however often it restarts, it asks no more often than the interval says, and not much less."""
    rng = random.Random(7)
    asked, now = [0.0], 0.0
    due: int | None = NOW + DAY if clock else 0
    while now < 300 * DAY:
        pause = schedule.pause_at_start(due, NOW + int(now) if clock else None, DAY, rng.random())
        if pause < 600:  # before the next restart
            asked.append(now + pause)
            due = NOW + int(asked[-1] + schedule.pause_after_check(DAY, rng.random())) if clock else 0
        now += 600
    gaps = [later - earlier for earlier, later in zip(asked, asked[1:], strict=False)]
    assert 0.85 * DAY < mean(gaps) < 1.2 * DAY
    if clock:
        assert min(gaps) > 0.85 * DAY


@pytest.mark.parametrize("due", [0, NOW - 3600])
def test_a_fleet_that_gets_its_power_back_at_once_spreads_out(due: int) -> None:
    """10,000 boards after an outage, without a clock and with one: in no minute more than a twentieth of them ask."""
    rng = random.Random(7)
    minutes: dict[int, int] = {}
    for _board in range(10_000):
        minute = int(schedule.pause_at_start(due, NOW if due else None, DAY, rng.random()) // 60)
        minutes[minute] = minutes.get(minute, 0) + 1
    assert max(minutes.values()) < 500
    assert len(minutes) > 55


def test_a_sleeper_without_a_clock_asks_at_one_wake_in_sixteen() -> None:
    pauses = [schedule.pause_at_start(0, None, DAY, chance / 1600, deep=True) for chance in range(1600)]
    assert sum(pause == schedule.SOON_S for pause in pauses) == 100
