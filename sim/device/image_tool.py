"""Reads or writes the files of a flash image for the host, in one process: records on stdout or stdin.

A record is a line `F <size> <path>` followed by so many bytes, or `D 0 <path>` for a folder; `END` ends them.
"""

import os
import sys

from micropython import const

_CHUNK = const(1024)


def run():
    (_load if os.getenv("SIMULATOR_TOOL_ACTION") == "load" else _dump)()


def _dump():
    out = sys.stdout.buffer
    view = memoryview(bytearray(_CHUNK))
    _dump_folder("", out, view)
    out.write(b"END\n")


def _dump_folder(folder, out, view):
    for entry in os.ilistdir("/" + folder):
        path = folder + "/" + entry[0] if folder else entry[0]
        if entry[1] & 0x4000:
            out.write(b"D 0 %s\n" % path.encode())
            _dump_folder(path, out, view)
            continue
        out.write(b"F %d %s\n" % (os.stat("/" + path)[6], path.encode()))
        with open("/" + path, "rb") as f:
            n = f.readinto(view)
            while n:
                out.write(view[:n])
                n = f.readinto(view)


def _load():
    source = sys.stdin.buffer
    view = memoryview(bytearray(_CHUNK))
    while True:
        line = source.readline()
        if line == b"END\n" or not line:
            return
        kind, size, path = line.decode().rstrip("\n").split(" ", 2)
        if kind == "D":
            _make_folder("/" + path)
            continue
        _make_folder("/" + path.rpartition("/")[0])
        _load_file(source, "/" + path, int(size), view)


def _load_file(source, path, left, view):
    with open(path, "wb") as f:
        while left:
            part = view if left >= _CHUNK else view[:left]
            n = source.readinto(part)
            f.write(part if n == len(part) else part[:n])
            left -= n


def _make_folder(path):
    if path in ("", "/"):
        return
    try:
        os.stat(path)
    except OSError:
        _make_folder(path.rpartition("/")[0])
        os.mkdir(path)
