"""When to ask the server next: pure decisions, no clock and no file. All times in seconds.

What is known at a start is `due`, which the last plan has left in the state: the time of the next check, 0 if the board did
not know the time then, None if nothing was ever asked or an update was under way.

1. Between two checks lies `check_interval_s`, up to an eighth shorter: boards that start together drift apart.
2. After a failure of the network or the server: 30 s, twice as long after each further one, never longer than the interval,
   up to an eighth longer at random; never shorter than the server's ``Retry-After``.
3. A restart asks nothing earlier. Where the time is not known, any moment of a whole interval is as likely as any other: a
   board that restarts every ten minutes so asks once an interval, on average, and a fleet that gets its power back at once
   spreads over the interval.
4. What is overdue is asked within a twenty-fourth of the interval. What was never asked, and an interrupted update, at once.
"""

SOON_S = 2
_FIRST_RETRY_S = 30
_LONGEST_S = 5 * 86_400  # ticks_ms cannot look further ahead
_DEEP_WAKES = 16  # a board that sleeps deeply, and does not know the time, asks at about one wake in so many


def after_check(interval, chance):
    """The pause after a check that got an answer. `chance` is a random number from 0 to 1, as below."""
    return min(interval - interval * chance / 8, _LONGEST_S)


def after_failure(interval, failures, retry, chance):
    """The pause after `failures` failures running; `retry` is what the server asked for, or None."""
    pause = max(min(_FIRST_RETRY_S * 2 ** min(failures - 1, 15), interval), retry or 0)
    return min(pause + pause * chance / 8, _LONGEST_S)


def at_start(due, now, interval, chance, deep=False):
    """The pause after a start, once there is a network.

    :param now: the time, or None where the board does not know it.
    :param deep: True when it woke from deep sleep.
    """
    if due is None:
        return SOON_S
    left = due - now if due and now else None
    if left is None or left > 2 * _LONGEST_S:  # a clock that was wrong then, or is now
        if deep and chance < 1 / _DEEP_WAKES:
            return SOON_S
        return max(min(interval, _LONGEST_S) * chance, SOON_S)
    return min(left, _LONGEST_S) if left > 0 else overdue(interval, chance)


def overdue(interval, chance):
    """The pause before what should have been asked already."""
    return max(interval * chance / 24, SOON_S)
