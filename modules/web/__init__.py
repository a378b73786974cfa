"""The web page and its API: see docs/api.md. The module is imported when it is asked for: the host checks profiles without it."""


def __getattr__(name):
    if name == "Module":
        from .module import Module

        return Module
    raise AttributeError(name)
