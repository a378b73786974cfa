"""A simulated board on this terminal: its console is printed, what is typed goes to it."""

from __future__ import annotations

import fcntl
import json
import socket
import sys
import threading
from hashlib import sha256
from pathlib import Path
from typing import IO

from iotctl import bundle, project, terminal, tree
from iotctl import profile as profiles
from iotctl.errors import IotctlError
from sim.board import Board, BoardError
from sim.micropython import NoMicroPython
from sim.ports import PORTS

_claimed: list[IO[str]] = []  # open until the end
AIR = {"wifi.ssid": "sim-network", "wifi.password": "simulated"}  # the only network that it has, whatever the profile says


def run_sim(
    profile: Path,
    image: Path,
    fs: str,
    heap: str | None,
    device_id: str,
    version: str,
    wifi: str = "ok",
    web_port: int = 0,
    like: str = "unix",
    fresh: bool = False,
) -> int:
    """Boot a board from `image`, which is made from `profile` first when it does not exist, or with `fresh`.

    Ends with Ctrl-C or a dead board.

    Returns 0, or 1 when the board is dead at the REPL.
    """
    web_port = web_port or free_port()
    board = open_board(image, fs=fs, heap=heap, device_id=device_id, web_port=web_port, like=like)
    if fresh or not image.exists():
        flash(board, profiles.read_good(profile), version)
        terminal.say(f"made {image} with version {version} of {profile}")
    else:
        _compare(board, profile)
    board.wifi = wifi
    here = f" (here: http://127.0.0.1:{web_port})"
    board.on_line = lambda line: terminal.say(line + (here if terminal.LISTENS in line else ""))
    return live(board)


def live(board: Board) -> int:
    """Switch it on, with this terminal as its console, until Ctrl-C. Returns 0, or 1 when it is dead at the REPL."""
    board.start()
    forward_console(board)
    try:
        board.wait()
    except KeyboardInterrupt:
        terminal.say("power off")
    finally:
        board.stop()
    return 1 if board.restarts[-1:] == ["dead"] else 0


def open_board(image: Path, *, fs: str, heap: str | None, device_id: str, web_port: int = 0, like: str = "unix") -> Board:
    """A board on an image; IotctlError when there is no MicroPython, no such file system, or no such board."""
    if fs not in ("lfs", "fat"):
        raise IotctlError("the file system must be lfs or fat")
    if like not in PORTS:
        raise IotctlError(f"there is no board {like!r}; there are {', '.join(PORTS)}")
    claim(image)
    try:
        return Board(image, like=like, fs=fs, heap=heap, device_id=device_id, env={"SIMULATOR_WEB_PORT": str(web_port)})
    except NoMicroPython as error:
        raise IotctlError(str(error)) from error


def claim(image: Path) -> None:
    """Keep an image, or a folder of them, until this program ends. IotctlError when another one has it.

    The folder that it is in is made, for the first one on a computer.
    """
    image.parent.mkdir(parents=True, exist_ok=True)
    lock = image.with_name(image.name + ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise IotctlError(f"another simulated board runs on {image}: end it, or name another image") from None
    _claimed.append(lock)


def flash(board: Board, given: profiles.Profile, version: str) -> None:
    """An empty file system with the tree of a profile on it, as `iotctl tree` makes it, and its project's secrets."""
    made = bundle.make(given, tree.collect(given, version, chip=""), bundle.Options(version, bundle.default_sequence(version)))
    board.format()
    prefs = {**project.secrets(given.path.parent), **AIR}
    board.write({**made.flashed, "prefs.json": json.dumps(prefs).encode()})


def _compare(board: Board, profile: Path) -> None:
    """Tell when an image has not what the project would give it now. It runs on: it may have updated itself over the air.

    IotctlError for one that is another board's.
    """
    image, there = board.image, board.image.stat().st_size
    if there != board.size:
        disks = f"{there // 1024} KB of disk, {board.port.one} has {board.size // 1024}"
        raise IotctlError(f"{image} was made for another board ({disks}): name another --image, or make it anew with --fresh")
    try:
        listing = board.read().files.get(bundle.LIST)
    except BoardError as error:
        raise IotctlError(f"{image} cannot be read as {board.fs}: is it another --fs? --fresh makes it anew") from error
    if listing is None or not profile.exists():
        return
    runs = bundle.Bundle(listing, None, {}, b"")
    version = runs.header["version"]
    now = tree.collect(profiles.read_good(profile), version, chip="")
    if {entry.path: entry.digest for entry in runs.entries} != {path: sha256(data).digest() for path, data in now.items()}:
        said = f"this is {image} as it is, version {version}; profile.json or modules have changed since"
        terminal.say(f"{said}: --fresh makes it anew, preferences too")


def forward_console(board: Board) -> None:
    """Send every typed line to the board, from a thread of its own that ends with the program."""

    def forward() -> None:
        for line in sys.stdin:
            board.send(line.rstrip("\n"))

    threading.Thread(target=forward, daemon=True).start()


def free_port() -> int:
    """A TCP port of this computer that nobody uses at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
