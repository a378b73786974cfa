"""MQTT: telemetry, commands and Home Assistant. See docs/mqtt.md for the topics."""


def __getattr__(name):
    """The module's class is imported when the runtime asks for it: the host wants nothing but the configuration's rules."""
    if name == "Module":
        from .module import Module

        return Module
    raise AttributeError(name)
