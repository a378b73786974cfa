"""Code that is only needed now and then: imported when it is, forgotten afterwards."""

import gc
import sys


def borrow(name, function, *args):
    """Run the generator `function` of this package's file `name`: its code is in memory only meanwhile. Generator."""
    part = __import__("iot_platform." + name, None, None, ("x",))
    try:
        return (yield from getattr(part, function)(*args))
    finally:
        part = None
        forget("iot_platform", [path[13:] for path in sys.modules if path[13:] != name])


def forget(package, stays):
    """Forget the imported parts of `package` but for those in `stays`: what nobody holds any more is free memory again.

    :param stays: names below the package, such as ``module`` or ``transport.http``; the folders of those stay as well.
    """
    for name in list(sys.modules):
        part = name[len(package) + 1 :]
        if name.startswith(package + ".") and not any((stay + ".").startswith(part + ".") for stay in stays):
            folder, _, last = name.rpartition(".")
            del sys.modules[name]
            if hasattr(sys.modules.get(folder), last):
                delattr(sys.modules[folder], last)
    gc.collect()
