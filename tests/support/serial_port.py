"""A simulated board at a serial port of this computer: a pty, on which it takes a Ctrl-C as its firmware would."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import threading
import tty
from types import TracebackType

from sim.board import Board

_FILE = re.compile(rb"open\('[^']*','wb'\)")
_MOST = 256 * 1024  # bytes of the console that wait for somebody who reads


class SerialPort:
    """`name` is what a tool opens. With `cut_at` the cable is pulled, and the board off, when it begins with its n-th file."""

    def __init__(self, board: Board, cut_at: int | None = None) -> None:
        self.board = board
        self.files: list[bytes] = []  # that were begun
        self.starts = 0  # of the board
        self._cut_at = cut_at
        self._sent = b""
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> SerialPort:
        self._line, self._slave = pty.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._line, False)
        self.name = os.ttyname(self._slave)
        self._wake, self._end = os.pipe()
        self._power()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._end)
        self._thread.join(20)
        os.close(self._wake)

    def _power(self) -> None:
        self._process = self.board._spawn("power", None, {"SIMULATOR_REPL": "raw"})
        self.starts += 1
        self._up = False  # nobody hears a Ctrl-C before the board has begun to speak
        assert self._process.stdout
        self._console = self._process.stdout.fileno()

    def _run(self) -> None:
        said = b""
        try:
            while True:
                there = [self._wake, self._console, *([self._line] if self._up else [])]
                ready, writable, _none = select.select(there, [self._line] if said else [], [], 60)
                if self._wake in ready or (self._line in ready and not self._to_board(os.read(self._line, 4096))):
                    return
                if self._console in ready:
                    data = os.read(self._console, 4096)
                    if not data:  # it restarts
                        self._process.wait()
                        self._power()
                    else:
                        self._up = True
                    said = (said + data)[-_MOST:]
                if writable:
                    said = said[os.write(self._line, said) :]
        finally:  # the cable, which was the board's power
            self._process.kill()
            self._process.communicate()
            os.close(self._slave)
            os.close(self._line)

    def _to_board(self, data: bytes) -> bool:
        """False when the cable is pulled."""
        self._sent += data
        while found := _FILE.search(self._sent):
            self.files.append(found[0])
            self._sent = self._sent[found.end() :]
        self._sent = self._sent[-200:]
        if self._cut_at is not None and len(self.files) >= self._cut_at:
            return False
        assert self._process.stdin
        for part in re.split(b"(\x03)", data):
            with contextlib.suppress(BrokenPipeError, ProcessLookupError):
                if part == b"\x03":
                    self._process.send_signal(signal.SIGINT)
                else:
                    self._process.stdin.write(part)
                    self._process.stdin.flush()
        return True
