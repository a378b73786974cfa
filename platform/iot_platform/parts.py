"""Code that is only needed now and then: imported when it is, forgotten afterwards."""

import gc
import sys


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
