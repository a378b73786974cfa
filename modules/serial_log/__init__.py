"""The serial console and its commands. The log itself is iot_platform.log."""

import select
import sys

from iot_platform.log import SerialLog
from iot_platform.module import Module as Base
from micropython import const

_MAX_COMMAND = const(120)
_HELP = const(
    "commands: status | values | log | log LEVEL | purge | reset | "
    "ota check|update|force|install|verify|plan|rollback|confirm|cancel|status|channel NAME"
)


class Module(Base):
    name = "serial_log"

    def start(self):
        self._line = bytearray()
        self._dropped = 0  # bytes of this line that nobody can have typed
        self._poll = select.poll()
        self._poll.register(sys.stdin, select.POLLIN)

    def tick(self):
        """Take what was typed, a byte at a time: reading never waits, as it would for the rest of what looks like UTF-8."""
        for _ in range(32):
            if not self._poll or not self._poll.poll(0):
                return
            byte = sys.stdin.buffer.read(1)
            if not byte:  # the console was closed
                self._poll = None
                return
            if byte in b"\r\n":
                self._end()
            elif byte < b" " or byte == b"\x7f" or len(self._line) >= _MAX_COMMAND:
                self._dropped += 1
            else:
                self._line += byte

    def _end(self):
        """Noise is dropped: byte by byte, and the line when most of it was that."""
        line, dropped = self._line, self._dropped
        self._line, self._dropped = bytearray(), 0
        try:
            text = str(line, "utf-8")
        except UnicodeError:
            text = "".join([chr(byte) for byte in line if byte < 128])
            dropped += len(line) - len(text)
        text = text.strip()
        if text and dropped < len(text):
            self.execute(text)

    def execute(self, line, source="console"):
        """Run one command of the console; what it says goes to the log. Words that mean nothing here are for the bus."""
        platform = self.platform
        words = line.split()
        if words[0] == "ota" and len(words) > 1:
            _ota(platform.module("ota"), words[1], words[2:])
        elif words[0] == "log" and len(words) == 2:
            if not SerialLog.set_level(words[1]):
                SerialLog.log(_HELP)
        elif words == ["log"]:
            for remembered in SerialLog.history():
                print(remembered)
        elif words[0] == "purge":
            SerialLog.purge()
        elif words[0] == "reset":
            platform.request_reset("asked for at the console")
        elif words[0] == "status":
            SerialLog.log("running: %s failed: %s" % (", ".join(platform.modules), platform.failed or "none"))
            for key, value in sorted(platform.board.about().items()):
                SerialLog.log(key, "=", value)
        elif words[0] == "values":
            for key, value in sorted(platform.bus.items()):
                SerialLog.log(key, "=", value)
        elif words[0] == "help":
            SerialLog.log(_HELP)
        else:
            self._command(words[0], " ".join(words[1:]), source)

    def _command(self, path, text, source):
        try:
            if not self.platform.order(path, text, source):
                SerialLog.warning("too many commands at once")
        except ValueError as error:
            SerialLog.warning(error)


def _ota(ota, verb, words):
    try:
        if ota is None:
            SerialLog.warning("the ota module does not run")
            return
        if verb == "channel":
            if words:
                ota.set_channel(words[0])
            result = ota.channel
        elif verb == "force":
            result = ota.request_update(True)
        elif verb in ("check", "update", "install", "verify", "plan"):
            result = getattr(ota, "request_" + verb)()
        elif verb in ("rollback", "confirm", "cancel", "status"):
            result = getattr(ota, verb)()
        else:
            result = _HELP
        SerialLog.log("ota %s:" % verb, result)
    except Exception as error:  # such as an OtaError, whose class this module does not know: it may not be on this board
        SerialLog.warning("ota %s:" % verb, error)
