"""The serial console: takes what is typed. The log itself is iot_platform.log, what a line does iot_platform.commands."""

import select
import sys

from iot_platform.log import SerialLog
from iot_platform.module import Module as Base
from micropython import const

_MAX_COMMAND = const(120)


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
        """Run one command of the console; what it says goes to the log. To restart takes no memory. MemoryError for others."""
        try:
            if line.split()[0] == "reset":
                self.platform.request_reset("asked for at the console")
            else:
                self.platform.once("iot_platform.commands", "execute", self.platform, line, source)
        except MemoryError:
            SerialLog.warning("too little memory for that now; reset always works")
            if source != "console":
                raise
