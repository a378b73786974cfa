"""The telemetry and command bus: the latest value of each key, what has changed, and commands in their order.

>>> bus = Bus()
>>> bus.publish("temperature", 21.5)
>>> bus.take_changes()
{'temperature': 21.5}
"""

from micropython import const

_MAX_COMMANDS = const(16)


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

    def publish(self, key, value):
        """Set a value. Only a changed one is passed on."""
        if key not in self._values or self._values[key] != value or type(self._values[key]) is not type(value):
            self._values[key] = value
            self._changes[key] = value

    def publish_all(self, values):
        for key in values:
            self.publish(key, values[key])

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
