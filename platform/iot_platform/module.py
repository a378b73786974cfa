"""The contract of every module: one lifecycle with everything that it may leave out, and the bus, where modules meet.

>>> bus = Bus()
>>> bus.publish("temperature", 21.5)
>>> bus.take_changes()
{'temperature': 21.5}

Beside it what may be called a name, of what kind a panel's value is, and borrow() and forget(): code that is needed now and then
is in memory only meanwhile.
"""

import gc
import sys

from micropython import const

from .log import SerialLog

_MAX_COMMANDS = const(16)
_LETTERS = const(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


def name_ok(text, most=64):
    """True for a plain name that is safe in a URL and as a file: 1 to 64 of ``[A-Za-z0-9_.-]``, not beginning with a dot."""
    return isinstance(text, str) and 0 < len(text) <= most and text[:1] != "." and plain(text, b"_.-")


def octets(text):
    """The bytes of a str, to be looked at one by one: a character taken out of a str becomes a name of MicroPython's, which stays
    in memory for ever.
    """
    return text.encode("utf-8", "surrogatepass")  # CPython's JSON reader can make half a character


def plain(text, more=b""):
    """True when a str is made of ASCII letters, digits and what is in `more`."""
    return all(c in _LETTERS or c in more for c in octets(text))


def printable(text, low=33):
    """True when a str has printable ASCII characters only. `low`: 32 lets spaces pass."""
    return all(low <= c < 127 for c in octets(text))


def kind_of(item):
    """Of a panel's value or setting: sensor, binary_sensor, switch, number, select or text."""
    return item[3] if len(item) > 3 else "sensor"


class Module:
    """What the runtime calls. Each method is short: other modules wait meanwhile."""

    name = ""

    def __init__(self, platform):
        self.platform = platform

    def start(self):
        """Once, after every module exists."""

    def tick(self):
        """Every loop; returns fast."""

    def telemetry(self):
        """Values to publish on the bus, as a dict, about once a second; None for nothing."""

    def on_telemetry(self, values):
        """What changed on the bus since the last loop: {key: value}."""

    def on_command(self, command):
        """A command from the bus: command.path, command.payload, command.source."""

    def routes(self, web):
        """Register routes with the web server."""

    def busy(self):
        """None, or why a restart must wait: a door is moving, the battery is low."""

    def stop(self):
        """Before a restart, or when the module is switched off."""


class Command:
    """Something that a user or a server wants: a path such as ``door/open``, a payload, and where it came from."""

    def __init__(self, path, payload=None, source=""):
        self.path = path
        self.payload = payload
        self.source = source


class Bus:
    """Holds values; copies none."""

    def __init__(self):
        self._values = {}
        self._changes = {}
        self._commands = []

    def publish(self, key, value, who=""):
        """Set a value. Only a changed one is passed on.

        :param who: the module that says it.
        """
        if not isinstance(key, str):
            raise TypeError("a key of the bus is text, not %r" % (key,))
        if isinstance(value, float) and value - value != 0:  # NaN or infinite: JSON has no word for it
            if self._values.get(key, self) is not None:
                SerialLog.warning(who, key, "is no number:", value)
            value = None
        if key not in self._values or self._values[key] != value or type(self._values[key]) is not type(value):
            self._values[key] = value
            self._changes[key] = value

    def publish_all(self, values, who=""):
        for key in values:
            self.publish(key, values[key], who)

    def get(self, key, default=None):
        return self._values.get(key, default)

    def items(self):
        """All values: (key, value)."""
        return self._values.items()

    def take_changes(self):
        """What has changed since the last call."""
        changes = self._changes
        if changes:
            self._changes = {}
        return changes

    def command(self, path, payload=None, source=""):
        """Queue a command for every module. False when the queue is full: then it is dropped."""
        if len(self._commands) >= _MAX_COMMANDS:
            return False
        self._commands.append(Command(path, payload, source))
        return True

    def take_commands(self):
        commands = self._commands
        if commands:
            self._commands = []
        return commands


def borrow(name, function, *args):
    """Run the generator `function` of this package's file `name`: its code is in memory only meanwhile. Generator."""
    part = __import__("iot_platform." + name, None, None, ("x",))
    try:
        return (yield from getattr(part, function)(*args))
    finally:
        part = None
        forget("iot_platform", [path[13:] for path in sys.modules if path[13:] != name])


def forget(package, stays):
    """Forget the imported parts of `package` but for those in `stays`: what nobody holds any more is free memory again.

    :param stays: names below the package, such as ``module`` or ``transport.http``; the folders of those stay as well.
    """
    package += "."
    name = _going(package, stays)  # this is called where there is no memory: no list of all that there is
    while name:
        folder, _, last = name.rpartition(".")
        del sys.modules[name]
        if hasattr(sys.modules.get(folder), last):
            delattr(sys.modules[folder], last)
        name = _going(package, stays)
    gc.collect()


def _going(package, stays):
    for name in sys.modules:
        if name.startswith(package) and name[len(package) :] not in stays:
            folder = name[len(package) :] + "."
            if not any(stay.startswith(folder) for stay in stays):
                return name
    return None
