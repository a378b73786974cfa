"""The serial console's commands, and the traceback that survived a restart."""

import os
import select
import sys

from iot_platform import parts
from iot_platform.log import SerialLog
from iot_platform.module import Module as Base

CRASH = "/crash.log"
_SHOWN = "/crash.log.1"
_MAX_COMMAND = 120


class Module(Base):
    name = "serial_log"

    def start(self):
        self._line = ""
        self._poll = select.poll()
        self._poll.register(sys.stdin, select.POLLIN)
        self._show_crash()

    def tick(self):
        """Take what was typed, a character at a time: reading never waits."""
        for _ in range(32):
            if not self._poll or not self._poll.poll(0):
                return
            char = sys.stdin.read(1)
            if not char:  # the console was closed
                self._poll = None
                return
            if char in "\r\n":
                line, self._line = self._line.strip(), ""
                if line:
                    self.execute(line)
            elif len(self._line) < _MAX_COMMAND:
                self._line += char

    def telemetry(self):
        SerialLog.relax()

    def relax(self):
        SerialLog.purge()

    def execute(self, line):
        """Run one command of the console; what it says goes to the log."""
        from modules.serial_log.console import execute

        execute(self.platform, line)
        parts.forget("modules.serial_log", ("module",))

    def _show_crash(self):
        try:
            with open(CRASH) as f:
                lines = f.read(2100).split("\n")
        except (OSError, ValueError):  # none, or torn
            return
        SerialLog.warning("the last run ended with:")
        for line in lines:
            if line:
                SerialLog.warning(line)
        if CRASH[1:] in os.listdir("/") and _SHOWN[1:] in os.listdir("/"):
            os.remove(_SHOWN)
        os.rename(CRASH, _SHOWN)
