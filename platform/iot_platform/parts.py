"""Code that is only needed now and then: imported when it is, forgotten afterwards."""

import gc
import sys


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
