"""Plans the next check, and notes in the state when it is due: schedule decides, this knows the clock and the board."""

import os
import time

from . import schedule

_DAY = 86_400


def after_job(job, error):
    """A job has ended; `error` is what it failed with, or None. Plans what follows from it; the caller saves the state."""
    module = job.module
    if module.state == "rebooting":
        return
    if module.check_soon:
        module.check_soon = False
        _check_in(module, 0)
    elif job.name in ("check", "fetch", "update") or job.asked:
        _after_check(job, error)
    elif module.next_check is None and (module.online or module.platform.module("wifi") is None):
        at_start(module)  # else wifi says when there is a network


def at_start(module):
    """After a start, or when the network has come back."""
    interval = module.cfg.get("check_interval_s", _DAY)
    if module.next_check is not None or module.platform.safe_mode:  # there only a newer release helps
        pause = schedule.overdue(interval, _chance())
    else:
        deep = module.platform.board.reset_cause() == "deepsleep"
        pause = schedule.at_start(module.store.get("next"), module.platform.board.now(), interval, _chance(), deep)
    if pause > schedule.SOON_S:
        module.platform.log("ota: next check in about %d s" % pause)
    _check_in(module, pause)


def later(module):
    """After a job that was cancelled: not before the interval is over."""
    _check_in(module, schedule.after_check(module.cfg.get("check_interval_s", _DAY), _chance()))


def _after_check(job, error):
    interval = job.cfg.get("check_interval_s", _DAY)
    failures = None
    if error and (error.kind == "transport" or error.reason == "no_memory"):
        failures = job.store.get("failures", 0) + 1
        pause = schedule.after_failure(interval, failures, error.retry, _chance())
        job.log("next try in about %d s" % pause)
    else:
        pause = schedule.after_check(interval, _chance())
    now = job.now()
    job.store.set("failures", failures)
    job.store.set("next", now + int(pause) if now else 0)
    _check_in(job.module, pause)


def _check_in(module, seconds):
    module.next_check = time.ticks_add(time.ticks_ms(), int(seconds * 1000))


def _chance():
    """A random number from 0 to 1: the hardware's, for a seed could be the same after every start."""
    return int.from_bytes(os.urandom(2), "big") / 65536


def waits_for(ota):
    """What a found update waits for before it is installed unasked; "" for nothing.

    :param ota: the module, or its job.
    """
    if not ota.cfg.get("auto_install", True):
        return "asked: auto_install is off"
    window = ota.cfg.get("window")
    if not window or window_open(ota):
        return ""
    return "window %s%s" % (window, "" if ota.platform.board.time_known() else ", and the time is not known")


def window_open(ota):
    """True within ``ota.window``; False while the board does not know the time."""
    from .policy import in_window

    now = ota.platform.board.now()
    return now is not None and in_window(now, ota.cfg["window"])
