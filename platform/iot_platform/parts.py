"""Parts of a package that only work now and then: imported when they do, forgotten afterwards."""

import gc
import sys

PLATFORM = ("board", "bus", "log", "module", "parts", "prefs", "runtime")  # what stays of iot_platform; the rest comes and goes


def drop(package, names):
    """Forget only these parts of `package`."""
    module = sys.modules.get(package)
    for name in names:
        sys.modules.pop(package + "." + name, None)
        if hasattr(module, name):
            delattr(module, name)
    gc.collect()


def forget(package, stays):
    """Forget the imported parts of `package` but for those named in `stays`: what nobody holds any more is free memory again."""
    found = [name[len(package) + 1 :] for name in sys.modules if name.startswith(package + ".")]
    drop(package, [part for part in found if part not in stays])
