"""The web page and its API: see docs/api.md. The module is imported when it is asked for: the host checks profiles without it."""


def password_ok(value):
    """True for what may become a password, in the profile or on the page: 8 characters to 64 bytes."""
    return isinstance(value, str) and len(value) >= 8 and len(value.encode()) <= 64


def __getattr__(name):
    if name == "Module":
        from .module import Module

        return Module
    raise AttributeError(name)
