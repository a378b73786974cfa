"""The simulated board: MicroPython's unix port on a flash image, started again whenever it resets, as a board is.

>>> board = Board(Path("board.img"))
>>> board.format()
>>> board.write({"main.py": b"print('hello')"})
>>> board.boot_once().output
'hello\\n...'

State lives only in the image. `boot_once` is one life of the process: it returns when the board resets, is bitten by its
watchdog, loses power or is dead at the REPL. `start` keeps a board running in the background;
`expect` waits for a line of its console.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path

from sim import micropython
from sim.ports import PORTS

BLOCK = 4096
_CAUSES = {0: "end", 3: "hard", 4: "dead", 5: "deepsleep", 9: "power", -14: "watchdog"}
_MOST_LINES = 20_000
_DRIVERS = 15_000  # bytes of heap that the simulator's drivers take; a chip's are C (tests/unit/test_sim_heap.py)
_DUMP = b"\nTREE\n"  # sim/device/start.py


@dataclass(frozen=True)
class Cut:
    """Power fails at flash operation `at` (programs and erases, from 0) of one life: before it, torn within it, or after it."""

    at: int
    mode: str = "before"


@dataclass(frozen=True)
class Counters:
    """What one life of the board did to its flash: how often; and bytes programmed and read.

    With SIMULATOR_METER=1 in its `env` also the bytes that it inflated and hashed.
    """

    operations: int = 0
    reads: int = 0
    programs: int = 0
    erases: int = 0
    programmed: int = 0
    read: int = 0
    inflated: int = 0
    hashed: int = 0

    def __sub__(self, other: Counters) -> Counters:
        return Counters(*(mine - its for mine, its in zip(astuple(self), astuple(other), strict=True)))

    def __add__(self, other: Counters) -> Counters:
        return Counters(*map(sum, zip(astuple(self), astuple(other), strict=True)))


@dataclass
class Tree:
    """The board's file system: contents by path, and folders."""

    files: dict[str, bytes] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)

    def without(self, *prefixes: str) -> Tree:
        """The same without some files and folders (and all below them)."""

        def keeps(path: str) -> bool:
            return not any(path == p or path.startswith(p + "/") for p in prefixes)

        return Tree({p: c for p, c in self.files.items() if keeps(p)}, {p for p in self.folders if keeps(p)})


@dataclass(frozen=True)
class Boot:
    """One life of the board: why it ended, what it said, what it did to its flash."""

    cause: str
    output: str
    counters: Counters
    tree: Tree | None = None  # with `dump`: the file system when boot.py had ended


class BoardError(Exception):
    """The simulated board did not do what was waited for; the message carries the end of its console."""


class Board:
    """A board with its own flash image, device id and weather."""

    def __init__(
        self,
        image: Path,
        *,
        like: str = "unix",
        fs: str = "lfs",
        size: int | None = None,
        heap: str | None = None,
        device_id: str = "sim-0001",
        env: Mapping[str, str] | None = None,
        interpreter: Path | None = None,
    ) -> None:
        """:param like: whose habits it has, of sim/ports.py; its flash and heap, too, where none are given.
        :param heap: what the board's own code has, such as ``128k``: the simulator's drivers come on top.
        """
        self.image = image
        self.port = PORTS[like]
        self.fs = fs
        self.size = size or self.port.flash
        self.heap = heap or self.port.heap
        self.device_id = device_id
        self.env = dict(env or {})
        self.restarts: list[str] = []
        self.cut: Cut | None = None  # for the next life
        self.on_line = lambda line: None  # called with each line of the console
        self._interpreter = interpreter or micropython.find()
        self._device = micropython.compiled_device()
        self._wifi = image.with_name(image.name + ".wifi")
        self._counters = image.with_name(image.name + ".counters")
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._stopping = threading.Event()  # of the life that was begun last
        self._power = threading.Lock()  # held by whoever switches it: no life begins after stop()
        self._wifi.write_text("ok")
        self._counters.write_text("")

    # -- the image

    def format(self) -> None:
        """An erased chip with an empty file system."""
        with self.image.open("wb") as f:
            erased = b"\xff" * BLOCK
            for _block in range(self.size // BLOCK):
                f.write(erased)
        self._tool("load", b"END\n", {"SIMULATOR_FORMAT": "1"})

    def write(self, files: Mapping[str, bytes], folders: Iterator[str] | tuple[str, ...] = ()) -> None:
        """Write files (and empty folders) as a flashing tool does."""
        records = [b"D 0 %s\n" % path.encode() for path in folders]
        records += [b"F %d %s\n%s" % (len(data), path.encode(), data) for path, data in files.items()]
        self._tool("load", b"".join(records) + b"END\n")

    def read(self) -> Tree:
        """Everything that is on the image."""
        return _parse_tree(self._tool("dump", b""))[0]

    def snapshot(self, target: Path) -> None:
        """A copy of the image, to come back to with restore()."""
        shutil.copyfile(self.image, target)

    def restore(self, source: Path) -> None:
        shutil.copyfile(source, self.image)

    # -- the weather

    @property
    def wifi(self) -> str:
        return self._wifi.read_text()

    @wifi.setter
    def wifi(self, weather: str) -> None:
        """``ok``, ``off``, ``wrong_password`` or ``slow``, and perhaps the names of all networks that there are."""
        self._wifi.write_text(f"{weather}\n")

    # -- one life

    def boot_once(
        self,
        *,
        timeout: float = 60,
        cut: Cut | None = None,
        cause: str = "power",
        only_boot: bool = False,
        dump: bool = False,
        log: Path | None = None,
    ) -> Boot:
        """Run until the board resets, loses power, is bitten or is dead; with `only_boot`, until boot.py has ended.

        :param dump: bring back the file system as it is between boot.py and main.py.
        :param log: a file for all operations on the flash (flashlog.read()).
        """
        extra = {"SIMULATOR_ONLY_BOOT": "1"} if only_boot else {}
        extra.update({"SIMULATOR_DUMP": "1"} if dump else {})
        extra.update({"SIMULATOR_LOG": str(log)} if log else {})
        process = self._spawn(cause, cut, extra)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            return Boot("timeout", output.decode(errors="replace"), self.counters())
        before, marker, dumped = output.partition(_DUMP) if dump else (output, b"", b"")
        tree, rest = _parse_tree(dumped) if marker else (None, dumped)
        return Boot(_cause(process.returncode), (before + rest).decode(errors="replace"), self.counters(), tree)

    def counters(self) -> Counters:
        """Of the life that ended last."""
        values = self._counters.read_text().split()
        return Counters(*map(int, values)) if len(values) == 8 else Counters()

    # -- a board that runs

    def start(self, cause: str = "power") -> None:
        """Power on, in the background; every end of the process but a dead board or stop() is a restart."""
        self._stopping = threading.Event()  # an older life that is slow to end has its own: it must not begin again
        self._thread = threading.Thread(target=self._live, args=(cause, self._stopping), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Power off, at once."""
        with self._power:
            self._stopping.set()
            if self._process:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
        if self._thread:
            self._thread.join(10)
            self._thread = None

    def wait(self) -> None:
        """Until the board is dead or stopped; Ctrl-C gets through."""
        while self._thread and self._thread.is_alive():
            self._thread.join(0.5)

    def power_cycle(self) -> None:
        """Pull the plug and put it back."""
        if self._process:
            self._process.kill()

    def send(self, line: str | bytes) -> None:
        """Type a line at the serial console; bytes as they are. What comes just when the board restarts is lost, as with any."""
        with self._power, contextlib.suppress(BrokenPipeError):
            if self._process and self._process.stdin:
                self._process.stdin.write(line if isinstance(line, bytes) else line.encode() + b"\n")
                self._process.stdin.flush()

    @property
    def lines(self) -> list[str]:
        """The console so far."""
        with self._news:
            return list(self._lines)

    def console(self) -> str:
        return "\n".join(self.lines)

    def expect(self, pattern: str, timeout: float = 60, since: int = 0) -> re.Match[str]:
        """Wait for a console line that matches `pattern`, looking from line `since` on. BoardError when none comes."""
        deadline = time.monotonic() + timeout
        seen = since
        compiled = re.compile(pattern)
        with self._news:
            while True:
                for line in self._lines[seen:]:
                    found = compiled.search(line)
                    if found:
                        return found
                seen = len(self._lines)
                left = deadline - time.monotonic()
                if left <= 0 or not self._news.wait(left):
                    tail = "\n".join(self._lines[-40:])
                    raise BoardError(f"no line matches {pattern!r} within {timeout} s; the console ends:\n{tail}")

    def __enter__(self) -> Board:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    # -- inside

    def _live(self, cause: str, stopping: threading.Event) -> None:
        while True:
            with self._power:
                if stopping.is_set():
                    return
                cut, self.cut = self.cut, None
                process = self._process = self._spawn(cause, cut, {})
            assert process.stdout
            for raw in process.stdout:
                self._add_line(raw.decode(errors="replace").rstrip("\r\n"))
            cause = _cause(process.wait())
            if cause == "killed":
                cause = "power"
            self.restarts.append(cause)
            if cause == "dead":
                self._add_line("(the board is dead at the REPL)")
                return

    def _add_line(self, line: str) -> None:
        with self._news:
            self._lines.append(line)
            del self._lines[:-_MOST_LINES]
            self._news.notify_all()
        self.on_line(line)

    def _spawn(self, cause: str, cut: Cut | None, extra: Mapping[str, str]) -> subprocess.Popen[bytes]:
        env = {
            **os.environ,
            "MICROPYPATH": str(self._device),
            "SIMULATOR_DEVICE": str(self._device),
            "SIMULATOR_IMAGE": str(self.image.resolve()),
            "SIMULATOR_BLOCKS": str(self.size // BLOCK),
            "SIMULATOR_FS": self.fs,
            "SIMULATOR_WIFI": str(self._wifi.resolve()),
            "SIMULATOR_COUNTERS": str(self._counters.resolve()),
            "SIMULATOR_DEVICE_ID": self.device_id,
            "SIMULATOR_RESET_CAUSE": str(self.port.cause(cause)),
            "SIMULATOR_RESTART": cause,  # what it was, whatever the port makes of it
            **self.port.environment(),
            "TZ": "UTC",  # boards know no other
            **self.env,
            **extra,
        }
        if cut:
            env.update(SIMULATOR_CUT=str(cut.at), SIMULATOR_CUT_MODE=cut.mode)
        heap = f"heapsize={_bytes(self.heap) + _DRIVERS}w"  # w: twice as much where the interpreter's words have 64 bits
        command = [str(self._interpreter), "-X", heap, "-m", "start"]
        return subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def _tool(self, action: str, stdin: bytes, extra: Mapping[str, str] | None = None) -> bytes:
        env = {"SIMULATOR_TOOL": "image_tool", "SIMULATOR_TOOL_ACTION": action, "SIMULATOR_MOUNT": "", **(extra or {})}
        heap, self.heap = self.heap, "512k"
        try:
            process = self._spawn("power", None, env)
        finally:
            self.heap = heap
        output, _ = process.communicate(stdin, timeout=120)
        if process.returncode:
            raise BoardError(f"the image cannot be {action}ed: {output.decode(errors='replace')[-500:]}")
        return output


def _bytes(size: str) -> int:
    """``128k`` -> 131072."""
    return int(size[:-1]) * 1024 if size[-1] in "kK" else int(size)


def _cause(code: int) -> str:
    return _CAUSES.get(code, "killed" if code == -9 else "crash")


def _parse_tree(raw: bytes) -> tuple[Tree, bytes]:
    """What image_tool has dumped, and what follows it. BoardError when that is no tree: FAT can have names of any bytes."""
    tree = Tree()
    at = 0
    try:
        while True:
            end = raw.index(b"\n", at)
            line, at = raw[at:end], end + 1
            if line == b"END":
                return tree, raw[at:]
            kind, size, path = line.decode().split(" ", 2)
            if kind == "D":
                tree.folders.add(path)
            else:
                tree.files[path] = raw[at : at + int(size)]
                at += int(size)
    except ValueError as error:
        raise BoardError(f"the file system cannot be read: {error}; the last of it: {raw[at:][-200:]!r}") from error
