"""The serial console. The log itself is the platform's (see iot_platform.log): it works without this module."""

from iot_platform.log import DEBUG, ERROR, INFO, WARNING, SerialLog

__all__ = ("DEBUG", "ERROR", "INFO", "WARNING", "SerialLog")


def __getattr__(name):
    """The module's class is imported when the registry asks for it: the log itself must work before anything else."""
    if name == "Module":
        from modules.serial_log.module import Module

        return Module
    raise AttributeError(name)
