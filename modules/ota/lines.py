"""The lines of a list of files as `iotctl` writes them and a board keeps them, and their order. What is valid: see release."""

import json

HEADER = "format name version sequence base tree micropython mpy created expires notes files size delete"


def header_line(header):
    """A list's first line: bytes with their line feed."""
    pairs = ['"%s":%s' % (key, json.dumps(header[key], separators=(",", ":"))) for key in HEADER.split()]
    return ("{%s}\n" % ",".join(pairs)).encode()


def line(entry, excluded=False):
    """An entry's likewise."""
    if entry["size"] is None:
        return ('{"path":"%s","size":null}\n' % entry["path"]).encode()
    mark = ',"excluded":true' if excluded else ""
    return ('{"path":"%s","size":%d,"sha256":"%s"%s}\n' % (entry["path"], entry["size"], entry["sha256"], mark)).encode()


def tree_line(entry):
    """What the ``tree`` digest is made of: SHA-256 over these lines of the complete, sorted list."""
    return ("%s %d %s\n" % (entry["path"], entry["size"], entry["sha256"])).encode()


def key(path):
    """Sort key: lower case with ``/`` lowest, so that ``a/b`` comes right after ``a`` and before ``a.py``."""
    return path.lower().replace("/", "\x00")
