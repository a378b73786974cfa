"""When a found update is installed, for whom a restart waits, and where the time comes from."""

from __future__ import annotations

import calendar
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mqtt.conftest import BASE, LAMP, LAMP_FILES, WITH_LAMP
from tests.mqtt.test_commands import start
from tests.support.broker import Observer, parsed
from tests.support.world import PATIENCE_S, Changes, World, patched, state_of

_1900 = 2_208_988_800
IN_WINDOW = calendar.timegm((2031, 5, 6, 3, 0, 0))
BEFORE = calendar.timegm((2031, 5, 6, 1, 59, 48))  # time enough to find the update and to bring it
WINDOW = "02:00-04:30"


@dataclass
class TimeServer:
    """What the server says: its time when it is asked first, and how it answers."""

    port: int
    begins: float
    mode: int = 4
    stratum: int = 2
    leap: int = 0
    echo: bool = True
    asked: int = 0
    before: bytes = b""  # what somebody else sends just before the answer


@contextmanager
def time_server(begins: float) -> Iterator[TimeServer]:
    """An SNTP server on this machine."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    server = TimeServer(sock.getsockname()[1], begins)

    def serve() -> None:
        started = 0.0
        while True:
            question, who = sock.recvfrom(256)
            if len(question) != 48:
                return
            started = started or time.monotonic()
            server.asked += 1
            now = int(server.begins + time.monotonic() - started) + _1900
            echo = question[40:48] if server.echo else bytes(8)
            if server.before:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                    stranger.sendto(server.before, who)
            head = bytes((server.leap << 6 | 0x20 | server.mode, server.stratum, 6, 0xEC)) + bytes(20)
            sock.sendto(head + echo + struct.pack(">II", now & 0xFFFFFFFF, 0) * 2, who)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        sock.sendto(b"end", ("127.0.0.1", server.port))
        thread.join(5)
        sock.close()


def clockless(folder: Path, server: TimeServer, **ota: object) -> World:
    """A board whose clock nobody has set."""
    world = World(folder, ota=dict(ota), sections={"ntp": f"127.0.0.1:{server.port}"})
    world.board.env["SIMULATOR_CLOCK"] = "unset"
    return world


def test_the_clock_is_set_by_the_network_and_an_update_waits_for_its_window(tmp_path: Path) -> None:
    with time_server(BEFORE) as server, clockless(tmp_path, server, window=WINDOW) as world:
        old, new = world.release("1.0.0"), world.release("1.1.0", {"www/a.txt": b"a" * 9_000})
        world.flash(old)
        world.offer(new)
        since = world.now()
        world.board.start()
        world.board.expect(r"version 1\.1\.0 waits: window 02:00-04:30", PATIENCE_S, since)
        world.board.expect(r"the clock is set: 2031-05-06 0[12]:", PATIENCE_S, since)
        values = world.type("values")
        world.board.expect(r"ota/waiting = window 02:00-04:30", PATIENCE_S, values)
        world.wait_confirmed(new, since)
        assert server.asked >= 1
        published = json.loads(world.channel_file().read_bytes().splitlines()[0])["published"]
        assert state_of(world.assert_runs(new, {"www/a.txt": b"a" * 9_000}))["since"] == published


LIES: dict[str, dict[str, Any]] = {
    "wrong echo": {"echo": False},
    "not a server": {"mode": 3},
    "says to go away": {"stratum": 0},
    "out of step": {"stratum": 16},
    "not in step yet": {"leap": 3},
    "2001": {"begins": 1_000_000_000},
    "1970": {"begins": 5},
    "2106": {"begins": 4_294_967_000},
    "before what was confirmed": {"begins": 1_899_900_000},
    "2090": {"begins": calendar.timegm((2090, 1, 1, 0, 0, 0))},
}
SOON: Changes = patched("iot_platform/clock.py", ("_RETRY_MS = const(15_000)", "_RETRY_MS = const(4)"))


def test_an_answer_that_makes_no_sense_sets_no_clock_and_the_pause_grows(tmp_path: Path) -> None:
    """The server lies in each of the ways, one after the other, and is asked later and later; then it tells the truth."""
    with time_server(IN_WINDOW) as server, clockless(tmp_path, server) as world:
        world.flash(world.release("1.0.0", SOON), {".ota/state.0": b'{"since": 1900000000}\n'})
        truth = {name: getattr(server, name) for lie in LIES.values() for name in lie}
        answers = iter(LIES.values())

        def next_lie(line: str) -> None:
            if "makes no sense" in line:
                vars(server).update(truth, **next(answers, {}))

        vars(server).update(next(answers))
        world.board.on_line = next_lie
        world.board.start()
        world.board.expect("the clock is set: 2031-05-06", PATIENCE_S)
        told = [line for line in world.board.lines if "the answer of the time server" in line]
        assert len(told) == len(LIES)
        assert "asking again in 0 s" in told[0] and "asking again in 2 s" in told[-1]


def test_somebody_elses_answer_sets_no_clock(tmp_path: Path) -> None:
    with time_server(IN_WINDOW) as server, clockless(tmp_path, server) as world:
        lie = calendar.timegm((2033, 1, 1, 0, 0, 0)) + _1900
        server.before = bytes((0x24, 2)) + bytes(38) + struct.pack(">II", lie & 0xFFFFFFFF, 0)
        world.flash(world.release("1.0.0"))
        world.board.start()
        world.board.expect("the clock is set: 2031-05-06", PATIENCE_S)


def test_no_time_no_unasked_install_and_a_silent_time_server_harms_nobody(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        server = TimeServer(silent.getsockname()[1], 0)
        with clockless(tmp_path, server, window=WINDOW) as world:
            old, new = world.release("1.0.0"), world.release("1.1.0")
            world.flash(old)
            world.offer(new)
            since = world.now()
            world.board.start()
            world.board.expect(r"waits: window 02:00-04:30, and the time is not known", PATIENCE_S, since)
            world.board.expect(
                r"wifi: the time server 127\.0\.0\.1:\d+ does not answer; asking again in 15 s", PATIENCE_S, since
            )
            world.update_to(new, "ota update")


def test_what_waits_to_be_asked_for_is_visible_and_installed_when_it_is(world: World, seen: Observer) -> None:
    world.ota["auto_install"] = False
    start(world, seen)
    new = world.release("1.1.0", LAMP_FILES)
    world.offer(new)
    since = seen.publish(f"{BASE}/command/ota/check")
    reply = parsed(seen.wait(f"{BASE}/reply/ota/check", "version", since))
    assert reply == {"ok": True, "state": "available", "version": "1.0.0", "available": "1.1.0"}
    seen.wait(f"{BASE}/status/ota/waiting", "asked: auto_install is off", since)
    seen.wait_for(lambda m: m.topic == f"{BASE}/update" and parsed(m)["latest_version"] == "1.1.0", since)
    since = seen.publish(f"{BASE}/command/ota/update", "install")
    seen.wait(f"{BASE}/reply/ota/update", "confirmed", since)
    assert seen.of(f"{BASE}/status/ota/waiting", since)[0].text == ""


def test_a_busy_module_postpones_the_restart_and_is_named(world: World, seen: Observer) -> None:
    start(world, seen)
    new = world.release("1.1.0", LAMP_FILES)
    world.offer(new)
    since = seen.publish(f"{BASE}/command/lamp/busy", "the door is moving")
    seen.wait(f"{BASE}/reply/lamp/busy", "", since)
    seen.publish(f"{BASE}/command/ota/update")
    seen.wait(f"{BASE}/status/restart/waiting_for", "lamp: the door is moving", since)
    assert world.board.restarts == []
    seen.publish(f"{BASE}/command/lamp/busy", "")
    final = parsed(seen.wait(f"{BASE}/reply/ota/update", "version", since))
    assert final == {"ok": True, "state": "confirmed", "version": "1.1.0"}


def test_a_module_that_is_always_busy_delays_the_restart_for_a_bounded_time(tmp_path: Path) -> None:
    always = LAMP.replace(b"    why = None", b"    why = 'always'").replace(
        b"import time", b"import time\nfrom iot_platform import runtime\nruntime.BUSY_LIMIT_S = 2"
    )
    with World(tmp_path, modules=tuple(name for name in WITH_LAMP if name != "mqtt")) as world:
        old, new = world.release("1.0.0", {"modules/lamp/__init__.py": always}), world.release("1.1.0", LAMP_FILES)
        world.settled(old, new)
        since = world.type("ota update")
        world.board.expect("committed", PATIENCE_S, since)
        values = world.type("values")
        world.board.expect("restart/waiting_for = lamp: always", PATIENCE_S, values)
        world.wait_confirmed(new, since)
