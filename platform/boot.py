# Runs the recovery loader before anything else, and never raises: an exception here would leave esp32 and rp2 boards at
# the REPL for ever. This file never changes once it is on a board.
import sys


def _recover():
    path = sys.path[:]
    for name in ("ota_boot", "ota_boot_old"):
        try:
            sys.path[:] = [""]  # find the loader at the root ...
            loader = __import__(name)
            sys.path[:] = []  # ... and let no file of a release stand in for the built-ins that it imports
            sys.modules["ota_boot"] = loader
            loader.run()
            break
        except BaseException as error:
            print("boot:", name, "failed:", repr(error))
    sys.path[:] = path


_recover()
