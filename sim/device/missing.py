"""Modules that the port has not and the unix port has: a file system that holds nothing but modules that cannot be imported."""

import io
import os
import sys

import vfs


class _Missing:
    def __init__(self, names):
        self._names = names

    def mount(self, *_):
        pass

    def ilistdir(self, _path):
        return iter(())

    def stat(self, path):
        if path[-3:] == ".py" and path[1:-3] in self._names:
            return (0x8000, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        raise OSError(2)

    def open(self, path, _mode):
        return io.BytesIO(b"raise ImportError(\"no module named '%s'\")" % path[1:-3].encode())


def install():
    """Comes before the firmware's own on sys.path. The root shows it as a folder: MicroPython lists what is mounted there."""
    names = (os.getenv("SIMULATOR_PORT_MISSING") or "").split()
    if names:
        for name in names:
            sys.modules.pop(name, None)
        vfs.mount(_Missing(names), "/missing")
        sys.path.insert(0, "/missing")
