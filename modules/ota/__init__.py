"""The OTA plugin: keeps the board's files up to date, and never leaves them half changed."""


def __getattr__(name):
    """The module's class is imported when the registry asks for it: the pure parts serve the host without a runtime."""
    if name == "Module":
        from .module import Module

        return Module
    raise AttributeError(name)
