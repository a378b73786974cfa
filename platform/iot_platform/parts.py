"""Code that is only needed now and then: imported when it is, forgotten afterwards."""

import gc
import sys

# All that OTA's own forget() must leave alone.
PLATFORM = ("board", "bus", "clock", "log", "module", "parts", "profile", "runtime", "slots", "sockets", "startup", "words")


def forget(package, stays):
    """Forget the imported parts of `package` but for those in `stays`: what nobody holds any more is free memory again.

    :param stays: names below the package, such as ``module`` or ``transport.http``; the folders of those stay as well.
    """
    for name in list(sys.modules):
        if name.startswith(package + "."):
            part = name[len(package) + 1 :]
            folder = part + "."
            if not any(stay == part or stay.startswith(folder) for stay in stays):
                _drop(name)
    gc.collect()


def _drop(name):
    folder, _, part = name.rpartition(".")
    del sys.modules[name]
    if hasattr(sys.modules.get(folder), part):
        delattr(sys.modules[folder], part)


def drop(package, names):
    """Forget only these parts of `package`."""
    for name in names:
        if package + "." + name in sys.modules:
            _drop(package + "." + name)
    gc.collect()
