"""Loads the modules that the profile names. Adding a module is adding a folder: there is no table anywhere."""

import gc

SAFE = ("serial_log", "wifi", "ota", "web")  # all that runs in safe mode


def load(platform, names):
    """Import and make every module, in the order of `names`; returns {name: instance}. What fails is reported, not raised."""
    modules = {}
    for name in names:
        gc.collect()  # what stays should not lie between pieces of garbage
        try:
            modules[name] = _load_one(platform, name)
        except Exception as error:  # whatever a module's import can raise: the others run on
            platform.switch_off(name, "import", error)
    return modules


def _load_one(platform, name):
    package = __import__("modules." + name, None, None, ("Module",))
    return package.Module(platform)
