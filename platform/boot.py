# Runs the recovery loader before anything else, and never raises: an exception here would leave esp32 and rp2 boards at
# the REPL for ever. This file never changes once it is on a board.
import sys


def _recover():
    path = sys.path[:]
    for name in ("ota_boot", "ota_boot_old"):
        try:
            sys.path[:] = []  # no file of a release may stand in for a built-in module
            _settle()
            sys.path[:] = [""]  # only the loader itself comes from the root
            loader = __import__(name)
            sys.path[:] = []
            sys.modules["ota_boot"] = loader
            loader.run()
            break
        except BaseException as error:
            print("boot:", name, "failed:", repr(error))
    sys.path[:] = path


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


_recover()
