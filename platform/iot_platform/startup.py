"""What the runtime does once: the profile, the modules, their start. Imported for it, and forgotten afterwards."""

import gc

import ota_boot

from iot_platform.log import SerialLog

from . import profile, registry

_COLLECT_AFTER = 4_096  # bytes of allocation: early, so that what stays does not lie between pieces of garbage


def start(platform):
    """Read the profile, load and start the modules that it names."""
    gc.threshold(_COLLECT_AFTER)
    if hasattr(ota_boot, "forget"):  # an older loader has no such thing
        ota_boot.forget()
    platform.profile = _load_profile()
    if platform.prefs.warning:
        SerialLog.warning(platform.prefs.warning)
    platform.bus.publish("safe_mode", platform.safe_mode)
    platform.modules.update(registry.load(platform, _names(platform)))
    for name in list(platform.modules):
        gc.collect()
        try:
            platform.modules[name].start()
        except Exception as error:
            platform.switch_off(name, "start", error)
    SerialLog.info("running:", ", ".join(platform.modules), "free memory", platform.board.mem_free())
    gc.threshold(max(_COLLECT_AFTER, gc.mem_free() // 8))  # a board with much memory need not collect so often
    if platform.profile.get("watchdog_s"):
        platform.board.start_watchdog(platform.profile["watchdog_s"] * 1000)


def _load_profile():
    """The profile, without what is wrong in it."""
    loaded, errors = profile.read()
    for error in errors:
        SerialLog.error("profile.json: %s %s; expected: %s" % error)
    if "activeModules" not in loaded:
        SerialLog.error("no modules are named: only", ", ".join(registry.SAFE), "start")
    return loaded


def _names(platform):
    names = platform.profile.get("activeModules", registry.SAFE)
    if platform.safe_mode:
        SerialLog.error("safe mode after", ota_boot.failures, "bad boots: only", ", ".join(registry.SAFE), "start")
        names = [name for name in names if name in registry.SAFE]
    return names
