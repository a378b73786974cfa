"""Parts of a package that only work now and then: imported when they do, forgotten afterwards."""

import gc
import sys

PLATFORM = ("board", "bus", "module", "parts", "prefs", "runtime")  # what stays of iot_platform; the rest comes and goes


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
    module = sys.modules.get(package)
    for name in list(sys.modules):
        part = name[len(package) + 1 :] if name.startswith(package + ".") else ""
        if part and part not in stays:
            del sys.modules[name]
            if hasattr(module, part):
                delattr(module, part)
    gc.collect()
