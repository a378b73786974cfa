"""When to ask the server next, and for which channel. What decides is pure: no clock and no file, all times in seconds.

What is known at a start is `due`, which the last plan has left in the state: the time of the next check, 0 if the board did
not know the time then, None if nothing was ever asked or an update was under way.

1. Between two checks lies `check_interval_s`, up to an eighth shorter: boards that start together drift apart.
2. After a failure of the network or the server, or damage on the way: 30 s, twice as long after each further one, or what the
   server's ``Retry-After`` says, if that is longer; never longer than the interval; up to an eighth longer at random.
3. A restart asks nothing earlier. Where the time is not known, any moment of a whole interval is as likely as any other (why:
   docs/decisions.md).
4. What is overdue is asked within a twenty-fourth of the interval. What was never asked, and an interrupted update, at once.
"""

import os
import time

from iot_platform.module import name_ok
from micropython import const

from .errors import OtaError

SOON_S = 2
_DAY = const(86_400)
_FIRST_RETRY_S = const(30)
_LONGEST_S = const(5 * 86_400)  # ticks_ms cannot look further ahead
_DEEP_WAKES = const(16)  # a board that sleeps deeply, and does not know the time, asks at about one wake in so many


def pause_after_check(interval, chance):
    """The pause after a check that got an answer. `chance` is a random number from 0 to 1, as below."""
    return min(interval - interval * chance / 8, _LONGEST_S)


def pause_after_failure(interval, failures, retry, chance):
    """The pause after `failures` failures running; `retry` is what the server asked for, or None."""
    pause = min(max(_FIRST_RETRY_S * 2 ** min(failures - 1, 15), retry or 0), interval)
    return min(pause + pause * chance / 8, _LONGEST_S)


def pause_at_start(due, now, interval, chance, deep=False):
    """The pause after a start, or a wake from `deep` sleep, once there is a network. `now` is None where no time is known."""
    if due is None:
        return SOON_S
    left = due - now if due and now else None
    if left is None or left > 2 * _LONGEST_S:  # a clock that was wrong then, or is now
        if deep and chance < 1 / _DEEP_WAKES:
            return SOON_S
        return max(min(interval, _LONGEST_S) * chance, SOON_S)
    return min(left, _LONGEST_S) if left > 0 else pause_overdue(interval, chance)


def pause_overdue(interval, chance):
    """The pause before what should have been asked already."""
    return max(interval * chance / 24, SOON_S)


def in_window(now, window):
    """True when the time of day (UTC) of `now`, seconds since 1970, lies in ``"22:00-05:30"``."""
    begin, end = [60 * int(hours) + int(minutes) for hours, minutes in [part.split(":") for part in window.split("-")]]
    minute = now // 60 % 1440
    return begin <= minute < end if begin <= end else minute >= begin or minute < end


# -- what knows the clock and the board


def after_job(job, error):
    """A job has ended; `error` is what it failed with, or None. Plans what follows from it; the caller saves the state."""
    module = job.module
    if module.state == "rebooting":
        return
    if module.check_soon:
        module.check_soon = False
        _check_in(module, 0)
    elif not module.platform.board.has_sockets():
        module.next_check = None  # there is nothing to ask
    elif job.name in ("check", "fetch", "update") or job.asked:
        after_check(module, error)
    elif module.next_check is None and (module.online or module.platform.module("wifi") is None):
        at_start(module)  # else wifi says when there is a network


def at_start(module):
    """After a start, or when the network has come back."""
    interval = module.cfg.get("check_interval_s", _DAY)
    if module.ordered:
        pause = SOON_S
    elif module.next_check is not None or module.platform.safe_mode:  # there only a newer release helps
        pause = pause_overdue(interval, _chance())
    else:
        deep = module.platform.board.reset_cause() == "deepsleep"
        pause = pause_at_start(module.store.get("next"), module.platform.board.now(), interval, _chance(), deep)
    if pause > SOON_S:
        module.platform.log("ota: next check in about %d s" % pause)
    _check_in(module, pause)


def after_check(module, error):
    """A check has ended, well or with `error`: the next one, whatever restarts. The caller saves the state."""
    interval, store = module.cfg.get("check_interval_s", _DAY), module.store
    failures = None
    if error and (error.kind in ("transport", "damage") or error.reason == "no_memory"):
        failures = store.get("failures", 0) + 1
        pause = pause_after_failure(interval, failures, error.retry, _chance())
        module.platform.log("ota: next try in about %d s" % pause)
    else:
        pause = pause_after_check(interval, _chance())
    now = module.platform.board.now()
    store.set("failures", failures)
    store.set("next", now + int(pause) if now else 0)
    _check_in(module, pause)


def waits_for(ota):
    """What a found update waits for before it is installed unasked; "" for nothing. `ota` is the module, or its job."""
    if not ota.platform.setting("ota.auto_install", True):
        return "asked: auto_install is off"
    window, now = ota.platform.setting("ota.window"), ota.platform.board.now()
    try:
        if not window or (now is not None and in_window(now, window)):
            return ""
    except (AttributeError, ValueError):  # a preference that was written by hand
        return ""
    return "window %s%s" % (window, "" if now is not None else ", and the time is not known")


def chosen(ota):
    """Tell what is chosen, at the start and when it has changed: what waited may have to wait no more."""
    ota.platform.bus.publish("ota/channel", ota.channel)
    ota.platform.bus.publish("ota/auto_install", bool(ota.platform.setting("ota.auto_install", True)))
    if ota.waiting and not waits_for(ota):
        ota.request_check()


def set_channel(module, channel):
    if not name_ok(channel):
        raise OtaError("not_allowed", "a channel's name is made of letters, digits, _ . and -")
    if channel != module.channel and module.store:  # what waits, or is on its way, is the other one's
        if module.job in ("check", "fetch", "update"):
            module.cancel()
        module.store.set("ready", None)
        module.found(None)
        module.save()
        module.wait_for("")
    module.platform.prefs.set("ota.channel", channel)
    module.platform.prefs.save()
    module.platform.bus.publish("ota/channel", channel)


def _check_in(module, seconds):
    module.next_check = time.ticks_add(time.ticks_ms(), int(seconds * 1000))


def _chance():
    """A random number from 0 to 1: the hardware's, for a seed could be the same after every start."""
    return int.from_bytes(os.urandom(2), "big") / 65536
