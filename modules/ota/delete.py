"""Deleting by hand: anything but what the board needs."""

import ota_boot

from . import files, paths
from .errors import OtaError

_CRITICAL = ("boot.py", "ota_boot.py", "ota_boot_old.py", paths.GUARD, "main.py", "profile.json", "version", "iot_platform")


def recursive_delete(path):
    """Delete a file or folder of the tree, journal-free. Generator; True when something was there.

    OtaError ``protected_path`` for the root, for what belongs to the board (see paths), for the loader, for the running
    profile and ``main.py``, for the runtime, and for everything that contains one of them; ``bad_path`` for what escapes.
    """
    path = path.strip("/") if isinstance(path, str) else path
    paths.check(path)
    if paths.protected(path) or any(paths.inside(path, c) for c in _CRITICAL):
        raise OtaError("protected_path", "%s is critical and stays" % path)
    found = ota_boot.exists(ota_boot.live(path))
    yield from files.remove_tree(ota_boot.live(path))
    return found
