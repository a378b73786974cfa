"""What the runtime does once: the profile, the modules that it names, their start. Imported for it, and forgotten afterwards.

Adding a module is adding a folder: there is no table of them anywhere. Two kinds of boot start fewer of them:

    safe mode       boots keep failing: only what makes the board reachable and lets it be repaired
    update boot     an update did not fit beside the modules. OTA has left the note ``/.ota/job.<n>``: only what an update needs
                    starts, in a fresh heap. Each such boot is counted in the note's name before anything else happens, so that
                    none of them can be the reason for endless ones; only OTA removes the note.
"""

import gc
import os

import ota_boot
from micropython import const

from .log import SerialLog
from .profile import panels, read

_SAFE = const(("serial_log", "wifi", "ota", "web"))
_UPDATE = const(("serial_log", "wifi", "ota", "mqtt"))
_LEAST = const(("serial_log", "wifi", "ota"))
_OLDER_S = const(8)  # the watchdog under a loader that starts none itself
_UPDATE_BOOTS = const(3)  # that one note leads to
_ROOM = const(32 * 1024)
_COLLECT_AFTER = const(4_096)  # bytes of allocation: early, so that what stays does not lie between pieces of garbage

_WORDS = {
    "power": "power on",
    "deepsleep": "awake from deep sleep",
    "watchdog": "the watchdog: the program hung",
    "reset": "a restart by the program",
    "crash": "the program ended with an exception",
}


def start(platform):
    """Read the profile, load and start the modules that it names. Returns the bytes that an update boot would not use up."""
    gc.threshold(_COLLECT_AFTER)
    if hasattr(ota_boot, "forget"):  # an older loader has no such thing
        ota_boot.forget()
    said = getattr(ota_boot, "said", ())
    while said:
        SerialLog.info("loader:", said.pop(0))  # once more: a console on USB was not there yet
    platform.profile, errors = read()
    if not hasattr(ota_boot, "let_go"):  # an older loader starts none outside a trial
        seconds = platform.profile.get("watchdog_s", _OLDER_S)
        if seconds:
            ota_boot.start_watchdog(min(seconds, _OLDER_S) * 1000)
    for error in errors:
        SerialLog.error("profile.json: %s %s; expected: %s" % error)
    if "activeModules" not in platform.profile:
        SerialLog.error("no modules are named: only", ", ".join(_SAFE), "start")
    if platform.prefs.warning:
        SerialLog.warning(platform.prefs.warning)
    _show_crash(platform.board)
    platform.board.why = _WORDS.get(platform.board.reset_cause(), "unknown")
    platform.bus.publish("restart/reason", platform.board.why)
    platform.bus.publish("version", _version())
    platform.bus.publish("safe_mode", platform.safe_mode)
    for key in ("name", "group", "tags"):  # what its owner calls it, and has sorted it into
        if platform.prefs.text(key):
            platform.bus.publish(key, platform.prefs.text(key))
    platform.update_boot = _count_update_boot()
    platform.bus.publish("update_boot", platform.update_boot)
    names = _names(platform)
    others = 0
    for name in names:
        others += _measured(platform, name, "import")
    for name in sorted(platform.modules, key=names.index):
        others += _measured(platform, name, "start")
    _declared(platform)
    SerialLog.info("running:", ", ".join(sorted(platform.modules)), "free memory", platform.board.mem_free())
    gc.threshold(max(_COLLECT_AFTER, (gc.mem_free() - _ROOM) // 2))  # a board with memory need not collect often: it takes time
    return others


def _declared(platform):
    """What modules declare: each value is on the bus from now on, and what is wrong is left out."""
    bus, seen = platform.bus, set()
    for name in list(platform.modules):
        try:
            for wrong in panels({name: platform.modules[name]}, seen):
                SerialLog.warning("module %s: in its panel %s %s; it is left out" % wrong)
        except Exception as error:
            platform.switch_off(name, "panels", error)
    for name in platform.modules:
        for panel in getattr(platform.modules[name], "panels", ()):
            for item in panel.get("values", ()):
                bus.publish(item[0], bus.get(item[0], ""))


def _show_crash(board):
    """The traceback that survived a restart; once."""
    try:
        with open("/crash.log") as f:
            lines = f.read(2100).split("\n")
        board.crashed = "crash"
        SerialLog.warning("the last run ended with:")
        for line in lines:
            if line:
                SerialLog.warning(line)
        if "crash.log.1" in os.listdir("/"):
            os.remove("/crash.log.1")
        os.rename("/crash.log", "/crash.log.1")
    except (OSError, ValueError, MemoryError):  # none, or torn
        pass


def _version():
    try:
        with open("/version") as f:
            return f.read(64).strip()
    except (OSError, ValueError):  # none, or damaged
        return "unknown!"


def _measured(platform, name, where):
    """Import or start one module. The bytes that it took, if an update boot has it not."""
    platform.board.feed()  # each module has a watchdog's time
    gc.collect()  # what stays should not lie between pieces of garbage
    before = gc.mem_alloc()
    try:
        if where == "import":
            platform.modules[name] = __import__("modules." + name, None, None, ("Module",)).Module(platform)
        else:
            platform.modules[name].start()
    except Exception as error:  # whatever a module's import or start can raise: the others run on
        platform.switch_off(name, where, error)
    if name in _LEAST:
        return 0
    gc.collect()
    return gc.mem_alloc() - before


def _names(platform):
    """The modules of this boot; those of an update boot first, so that what they take is the same in every boot."""
    names = platform.profile.get("activeModules", _SAFE)
    if platform.safe_mode:
        SerialLog.error("safe mode after", ota_boot.failures, "bad boots: only", ", ".join(_SAFE), "start")
        names = [name for name in names if name in _SAFE]
    others = [] if platform.update_boot else [name for name in names if name not in _UPDATE]
    told = not platform.update_boot or (platform.update_boot == 1 and platform.setting("mqtt.host"))
    least = _UPDATE if told else _LEAST  # a second one has to succeed, told or not
    names = [name for name in names if name in least]
    if platform.update_boot:
        SerialLog.info("update boot %d of %d: only" % (platform.update_boot, _UPDATE_BOOTS), ", ".join(names), "start")
    return names + others


def _count_update_boot():
    """Which boot for OTA's note this is, from 1; 0 when none is due, or when an update has yet to come to its end."""
    if not ota_boot.ready or ota_boot.state:
        return 0
    n = -1
    try:
        for name in os.listdir(ota_boot.live(".ota")):
            digits = name[4:]
            if name.startswith("job.") and digits.isdigit() and digits == str(int(digits)):  # no other spelling of a number
                n = max(n, int(digits))  # FAT can show both names of a rename that was cut: the higher one counts
        if not 0 <= n < _UPDATE_BOOTS:
            return 0
        os.rename(ota_boot.ota("job.%d" % n), ota_boot.ota("job.%d" % (n + 1)))
    except OSError as error:
        SerialLog.error("the update boot cannot be counted, so this is none:", error)
        return 0
    return n + 1
