# Runs the recovery loader before anything else, and never raises: an exception here would leave esp32 and rp2 boards at
# the REPL for ever. This file never changes once it is on a board.
#
# /ota_boot.py has proven itself, /ota_boot_old.py had before it. A new loader is /.ota/loader_<n>.py, on trial: each boot that
# it gets is counted in that name before it is imported, under a watchdog. What raises, or is no loader, has failed, and the
# proven one goes on in the same boot; what hangs has three boots. After a good one OTA puts it in the proven one's place.
import sys

_TRIES = 3


def _recover():
    _settle()
    name, wdt = _on_trial()
    if name:
        if _works(name, "/.ota", wdt):
            return
        sys.modules.pop(name, None)  # its memory
    _works("ota_boot", "", wdt) or _works("ota_boot_old", "", wdt)


def _settle():
    # littlefs ends a rename between folders that power has cut with the next change, not when it is mounted. Until then
    # it hides the entry behind the one that was moved (measured in MicroPython 1.26), which may be the loader itself.
    # This changes nothing, but littlefs does not know that beforehand.
    import os

    try:
        os.mkdir("/.ota")
    except OSError as error:
        if error.errno != 17:  # EEXIST, as on every boot but the first
            print("boot: /.ota:", error)


def _on_trial():
    # The name of the loader on trial, counted, and the watchdog; nothing that cannot be counted or guarded is tried.
    import os

    for n in range(_TRIES, 0, -1):  # the furthest first, should FAT have kept both names of a rename that was cut
        try:
            os.rename("/.ota/loader_%d.py" % (n - 1), "/.ota/loader_%d.py" % n)
        except OSError:
            continue  # it is not there
        try:
            machine = sys.modules.get("machine") or __import__("machine")
            return "loader_%d" % n, machine.WDT(timeout=8000)
        except Exception as error:
            print("boot: no watchdog, so no new loader:", error)
            break
    return None, None


def _works(name, folder, wdt):
    # True when the loader `name` has done its work: from then on it is `ota_boot`.
    try:
        sys.path[:] = [folder]  # only the loader itself comes from a file
        loader = __import__(name)
        sys.path[:] = []
        loader.tries = _TRIES
        loader.wdt = wdt  # it runs already, unless it is None
        loader.feed()
        loader.run()
        if loader.ready is True:
            sys.modules["ota_boot"] = loader
            return True
        print("boot:", name, "is not ready")
    except BaseException as error:
        print("boot:", name, "failed:", type(error).__name__)
        _show(error)
    sys.path[:] = []
    return False


def _show(error):
    try:
        sys.print_exception(error)
    except BaseException:  # it is the loader's own
        print("boot: the exception cannot be printed")


_path = sys.path[:]
sys.path[:] = []  # no file of a release may stand in for a built-in module
try:
    _recover()
except BaseException as _error:  # such as Ctrl-C, or what only noise on the console looks like
    _show(_error)
sys.path[:] = _path
del _recover, _settle, _on_trial, _works, _show, _path
