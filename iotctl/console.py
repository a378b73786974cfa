"""A board's console on this terminal: what it says is printed, what is typed goes to it, through its restarts."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
import time
from collections.abc import Iterable

import serial

from iotctl import terminal
from iotctl.errors import IotctlError

_BAUD = 115_200
_LISTENS = re.compile(rf"{terminal.LISTENS} (\d+)")
_ADDRESS = re.compile(r"wifi: connected to .* as (\d+\.\d+\.\d+\.\d+)$")
_BACK_S = 15  # that a port may be away: a board on USB leaves when it restarts


class _Line:
    """A serial port, which is opened again when it comes back."""

    def __init__(self, port: str) -> None:
        self.port = port
        self._serial = self._open(0)

    def read(self) -> bytes:
        try:
            return bytes(self._serial.read(max(1, self._serial.in_waiting)))
        except OSError:
            terminal.say(f"{self.port} is away", err=True)
            self._serial = self._open(_BACK_S)
            return b""

    def write(self, text: str) -> None:
        """What is typed while the port is away is lost."""
        with contextlib.suppress(OSError):
            self._serial.write(text.encode())

    def _open(self, patience_s: float) -> serial.Serial:
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return serial.Serial(self.port, _BAUD, exclusive=True)
            except OSError:
                if time.monotonic() > deadline:
                    raise IotctlError(f"{self.port} cannot be opened: is a board there, and no other program at it?") from None
                time.sleep(0.2)


class _Page:
    """Hears from the console where the board's page is: its web server listens, and it has an address."""

    def __init__(self) -> None:
        self._port = self._address = ""

    def hear(self, line: str) -> str | None:
        """What to say of it after this line of the board's."""
        listens, joined = _LISTENS.search(line), _ADDRESS.search(line)
        self._port = listens[1] if listens else self._port
        self._address = joined[1] if joined else self._address
        if not self._port or not self._address or not (listens or joined):
            return None
        return f"(its page: http://{self._address}{'' if self._port == '80' else ':' + self._port})"


def console(port: str, typed: Iterable[str] = sys.stdin) -> None:
    """Until Ctrl-C. IotctlError when there is no such port, or it does not come back."""
    line = _Line(port)

    def forward() -> None:
        for text in typed:
            line.write(text)

    threading.Thread(target=forward, daemon=True).start()
    rest, page = b"", _Page()
    while True:
        *lines, rest = (rest + line.read()).split(b"\n")
        for each in lines:
            text = each.rstrip(b"\r").decode(errors="replace")
            terminal.say(text)
            where = page.hear(text)
            if where:
                terminal.say(where)
