"""Which files an update leaves alone: those that the profile excludes, and ``boot.py``."""


def inside(path, folder):
    """True when `path` is `folder` or lies below it, compared without case."""
    path, folder = path.lower(), folder.lower().rstrip("/")
    return path == folder or path.startswith(folder + "/")


def excluded(path, names):
    """True when the profile's ``excluded_files`` keep an update away from `path`: a file or a whole folder."""
    return any(inside(path, name.lstrip("/")) for name in names)


def skips(path, names):
    """True for what no update writes: see excluded(), and ``boot.py``."""
    return path == "boot.py" or excluded(path, names)
