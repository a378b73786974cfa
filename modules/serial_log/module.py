"""The serial console's commands, and the traceback that survived a restart."""

import os
import select
import sys

from iot_platform.module import Module as Base

from modules.serial_log import DEBUG, ERROR, INFO, WARNING, SerialLog

CRASH = "/crash.log"
_SHOWN = "/crash.log.1"
_MAX_COMMAND = 120
_LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}
_HELP = (
    "commands: status | values | log LEVEL | purge | reset | "
    "ota check|update|force|install|rollback|confirm|cancel|status|channel NAME"
)


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

    def execute(self, line):
        """Run one command of the console; what it says goes to the log."""
        words = line.split()
        if words[0] == "ota" and len(words) > 1:
            self._ota(words[1], words[2:])
        elif words[0] == "log" and len(words) == 2 and words[1] in _LEVELS:
            SerialLog.level = _LEVELS[words[1]]
        elif words[0] == "purge":
            SerialLog.purge()
        elif words[0] == "reset":
            self.platform.request_reset("asked for at the console")
        elif words[0] == "status":
            SerialLog.log("running:", ", ".join(self.platform.modules), "failed:", self.platform.failed or "none")
        elif words[0] == "values":
            for key, value in sorted(self.platform.bus.items()):
                SerialLog.log(key, "=", value)
        elif words[0] == "help" or not self.platform.bus.command(words[0], " ".join(words[1:]), "console"):
            SerialLog.log(_HELP)

    def _ota(self, verb, words):
        ota = self.platform.module("ota")
        if ota is None:
            SerialLog.warning("the ota module does not run")
            return
        actions = {
            "check": ota.request_check,
            "update": ota.request_update,
            "force": lambda: ota.request_update(True),
            "install": ota.request_install,
            "rollback": ota.rollback,
            "confirm": ota.confirm,
            "cancel": ota.cancel,
            "status": ota.status,
        }
        if verb == "channel" and words:
            SerialLog.log("ota channel:", ota.set_channel(words[0]) or words[0])
        elif verb in actions:
            SerialLog.log("ota %s:" % verb, actions[verb]())
        else:
            SerialLog.log(_HELP)

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
