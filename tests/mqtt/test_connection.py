"""A connection that is secure, lost, refused or hostile: bounded waits, a clear line, and everything else unharmed."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mqtt.conftest import BASE, LAMP_FILES, MODULES, WITH_LAMP, mqtt_world
from tests.support.broker import Broker, Observer
from tests.support.world import PATIENCE_S, World

LIMIT_MS = 200
CONNACK = b"\x20\x02\x00\x00"
SUBACKS = b"".join(bytes((0x90, 3, 0, number, 0)) for number in (1, 2, 3, 4))


@contextmanager
def fake_broker(answer: Callable[[socket.socket], None], port: int = 0) -> Iterator[int]:
    """A server that deals with each connection in its own way; its port."""
    server = socket.create_server(("127.0.0.1", port))
    open_ones = []

    def serve(sock: socket.socket) -> None:
        try:
            answer(sock)
        except OSError:
            sock.close()

    def accept() -> None:
        while True:
            try:
                sock, _address = server.accept()
            except OSError:
                return
            open_ones.append(sock)
            threading.Thread(target=serve, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        for sock in open_ones:
            sock.close()


def say(data: bytes) -> Callable[[socket.socket], None]:
    """Take the CONNECT packet, send this, and say nothing any more."""

    def answer(sock: socket.socket) -> None:
        sock.recv(1024)
        sock.sendall(data)
        while sock.recv(4096):
            pass

    return answer


def hang_up(sock: socket.socket) -> None:
    sock.recv(1024)
    sock.close()


def drown(sock: socket.socket) -> None:
    """A packet that never ends, as fast as it is taken."""
    sock.recv(1024)
    sock.sendall(CONNACK + SUBACKS + b"\x30\xff\xff\xff\x7f")
    while True:
        sock.sendall(b"x" * 65536)


def boot(world: World, more: dict[str, bytes] | None = None) -> None:
    release = world.release("1.0.0", LAMP_FILES)
    world.flash(release, more)
    world.offer(release)
    world.boot()


def longest_gap(world: World, seconds: float, wait_for: str = "") -> int:
    """Milliseconds: the longest pause between two ticks of another module meanwhile; the best of three, for a busy machine."""
    gaps = []
    for _ in range(3):
        world.type("lamp/reset")
        time.sleep(seconds)
        since = world.type("lamp/gap")
        gaps.append(int(world.board.expect(r"lamp: longest gap (\d+) ms", PATIENCE_S, since)[1]))
        if gaps[-1] <= LIMIT_MS:
            break
    return min(gaps)


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (hang_up, "closes the connection at once|ECONNRESET|connection was lost"),
        (say(b""), "has not answered for 1 s"),
        (say(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "no MQTT broker"),
        (say(b"\x20\x02\x00\x05"), "does not let this board in"),
        (say(CONNACK), "has not answered for 1 s"),
        (say(CONNACK + b"\x90\x03\x00\x01\x80"), "does not let this board subscribe"),
        (say(CONNACK + SUBACKS + b"\x30\xff\xff\xff\xff\xff"), "EINVAL|not connected|ENOTCONN"),
        (say(CONNACK + SUBACKS + b"\x30\x04\x00\xffxx"), "EINVAL|not connected|ENOTCONN"),
        (say(CONNACK + SUBACKS + b"\xf0\x00"), "sends what it must not"),
    ],
    ids=["hangs up", "no answer", "no broker", "refuses", "no SUBACK", "no subscription", "endless length", "short", "nonsense"],
)
def test_a_broker_that_misbehaves_is_left_with_one_line_and_growing_pauses(
    tmp_path: Path, answer: Callable[[socket.socket], None], line: str
) -> None:
    with fake_broker(answer) as port, mqtt_world(tmp_path, port, WITH_LAMP, timeout_s=1) as world:
        boot(world)
        found = world.board.expect(rf"mqtt: no connection to 127\.0\.0\.1: .*({line}).*; trying again in (\d+) s", PATIENCE_S)
        assert int(found[2]) <= 2
        assert longest_gap(world, 2) <= LIMIT_MS
        told = [text for text in world.board.lines if "mqtt: no connection" in text]
        assert len(told) <= 3, told
        since = world.type("ota check")
        world.board.expect("ota: up to date", PATIENCE_S, since)
        assert not [text for text in world.board.lines if "module mqtt" in text]


def test_a_reply_comes_after_a_connection_that_was_lost_in_between_and_each_has_its_last_will(tmp_path: Path) -> None:
    hello: list[bytes] = []
    said = bytearray()
    told = threading.Event()

    def answer(sock: socket.socket) -> None:
        """A command, and nothing more; whoever comes again is listened to."""
        hello.append(sock.recv(1024))
        sock.sendall(CONNACK + SUBACKS)
        if len(hello) == 1:
            topic = f"{BASE}/command/lamp/level".encode()
            sock.sendall(bytes((0x30, len(topic) + 3, 0, len(topic))) + topic + b"7")
            sock.shutdown(socket.SHUT_WR)
        while data := sock.recv(4096):
            if len(hello) > 1:
                said.extend(data)
                if f"{BASE}/reply/lamp/level".encode() in said and b"status/lamp/level7" in said:
                    told.set()

    with fake_broker(answer) as port, mqtt_world(tmp_path, port, WITH_LAMP) as world:
        boot(world)
        assert told.wait(PATIENCE_S), bytes(said)
    flags, keepalive = hello[0][9], hello[0][10] << 8 | hello[0][11]
    assert (flags & 0x3F, keepalive) == (0x26, 6), "a clean session, and a will that is retained; it comes within 1.5 times that"
    assert f"{BASE}/status/online".encode() + b"\0\5false" in hello[0] and len(set(hello)) == 1


def test_an_endless_packet_holds_nothing_up(tmp_path: Path) -> None:
    with fake_broker(drown) as port, mqtt_world(tmp_path, port, WITH_LAMP) as world:
        boot(world)
        world.board.expect("mqtt: connected", PATIENCE_S)
        assert longest_gap(world, 3) <= LIMIT_MS
        since = world.type("ota check")
        world.board.expect("ota: up to date", PATIENCE_S, since)


def test_the_loop_goes_on_while_the_broker_is_away(tmp_path: Path) -> None:
    """Away in three ways: a connection that dies without a word, somebody who never answers, and nobody who listens."""
    with fake_broker(say(CONNACK + SUBACKS)) as port:
        world = mqtt_world(tmp_path / "world", port, WITH_LAMP, timeout_s=1, keepalive_s=2)
        with world:
            boot(world)
            world.board.expect("has not answered for 1 s", PATIENCE_S)
            gaps = {"dead": longest_gap(world, 3)}
            with fake_broker(say(b"")) as other:
                world.board.stop()
                world.sections["mqtt"]["port"] = other
                boot(world)
                world.board.expect("has not answered for 1 s", PATIENCE_S)
                gaps["silent"] = longest_gap(world, 3)
            gaps["refusing"] = longest_gap(world, 4)
    print("longest gap between two ticks of another module, broker away:", ", ".join(f"{k} {v} ms" for k, v in gaps.items()))
    assert max(gaps.values()) <= LIMIT_MS


@pytest.mark.parametrize(
    ("server", "ca", "line"),
    [
        ("server", "/ca.pem", "mqtt: connected to"),
        ("server", "not verified", "mqtt: connected to"),
        ("server", None, "mqtt.ca is missing"),
        ("server", "/other.pem", "no connection to 127.0.0.1: no secure connection"),
        ("stranger", "/ca.pem", "no connection to 127.0.0.1: no secure connection"),
        ("server", "/none.pem", "no connection to 127.0.0.1: TLS cannot be set up"),
    ],
    ids=["pinned", "not verified", "not said", "another authority", "another name", "no file"],
)
def test_tls(tmp_path: Path, certificates: Path, server: str, ca: str | None, line: str) -> None:
    with (
        Broker(tmp_path / "broker", certificates=certificates, server=server) as broker,
        mqtt_world(tmp_path / "world", broker.port, WITH_LAMP, tls=True, ca=ca) as world,
    ):
        boot(world, {name: (certificates / name).read_bytes() for name in ("ca.pem", "other.pem")})
        world.board.expect(line, PATIENCE_S)
        assert longest_gap(world, 1) <= LIMIT_MS
        if "connected" in line and ca:
            with Observer(broker) as seen:
                seen.wait(f"{BASE}/status/version", "1.0.0")


def test_the_users_name_and_password_come_first_and_appear_nowhere(tmp_path: Path) -> None:
    with (
        Broker(tmp_path / "broker", users={"board": "s3cret-one", "watcher": "other"}) as broker,
        mqtt_world(tmp_path / "world", broker.port, WITH_LAMP, user="board", password="wr0ng-one") as world,
    ):
        boot(world)
        world.board.expect("does not let this board in|refuses the user name", PATIENCE_S)
        world.board.stop()
        world.board.write({"prefs.json": json.dumps({"mqtt.password": "s3cret-one"}).encode()})
        since = world.now()
        world.board.start()
        world.board.expect("mqtt: connected", PATIENCE_S, since)
        with Observer(broker, "watcher", "other") as seen:
            seen.wait(f"{BASE}/status/version", "1.0.0")
            since = world.type("values")
            world.board.expect("mqtt/state = connected", PATIENCE_S, since)
            texts = [message.text for message in seen.messages] + world.board.lines
        assert not [text for text in texts if re.search("s3cret|wr0ng", text)]


def test_a_board_without_a_broker_is_quiet_and_a_wrong_setting_is_named(tmp_path: Path) -> None:
    with mqtt_world(tmp_path / "none", 1, host="") as world:
        boot(world)
        since = world.type("values")
        world.board.expect("mqtt/state = off", PATIENCE_S, since)
        assert not [line for line in world.board.lines if "mqtt:" in line]
    with mqtt_world(tmp_path / "wrong", 1) as world:
        world.sections["mqtt"]["keepalive_s"] = 60
        release = world.release("1.0.0", LAMP_FILES)
        world.flash(release, {"prefs.json": json.dumps({"mqtt.port": "many"}).encode()})
        world.offer(release)
        world.boot()
        world.board.expect(r"mqtt: off: mqtt\.port is wrong; expected: a port", PATIENCE_S)


_ODD = b"""from iot_platform.module import Module as Base

class Module(Base):
    name = "odd"
    panels = {
        "title": "Odd",
        "values": (
            ("odd/mode", "Mode", "", "select") + tuple("effect number %d" % n for n in range(90)),
            ("odd/label", "L" * 2100, ""),
            ("odd/text", "Text", "", "text", 5),
        ),
    }

    def telemetry(self):
        return {"odd/" + "k" * 2100: 1, "odd/long": "x" * 9000}
"""


def test_what_is_too_long_or_no_pattern_in_a_module_costs_nobody_the_connection(tmp_path: Path) -> None:
    with (
        Broker(tmp_path / "broker") as broker,
        mqtt_world(tmp_path / "world", broker.port, (*MODULES, "odd")) as world,
        Observer(broker) as seen,
    ):
        release = world.release("1.0.0", {"modules/odd/__init__.py": _ODD})
        world.flash(release)
        world.offer(release)
        world.board.start()
        for line in (
            "mqtt: too long for Home Assistant: homeassistant/select/.*odd_mode",
            "mqtt: too long for Home Assistant: homeassistant/sensor/.*odd_label",
            "mqtt: this is too long to be published: status/odd/k+",
            "mqtt: this cannot be published: status/odd/long",
        ):
            found = world.board.expect(rf"{line}|mqtt: no connection", PATIENCE_S)
            assert "no connection" not in found.string
        seen.wait("homeassistant/text/sim-board-sim-0001/odd_text/config")
        since = seen.publish(f"{BASE}/command/odd/text", "a")
        world.board.expect("mqtt: a message failed: ", PATIENCE_S)
        seen.publish(f"{BASE}/command/odd/hello", "x")
        seen.wait(f"{BASE}/reply/odd/hello", "passed_on", since)
        text = world.board.console()
        assert text.count("mqtt: connected to") == 1 and "no connection" not in text and "module mqtt" not in text


def test_wifi_that_goes_and_comes_back(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker") as broker, mqtt_world(tmp_path / "world", broker.port) as world, Observer(broker) as seen:
        boot(world)
        seen.wait(f"{BASE}/status/online", "true")
        since = world.now()
        world.board.wifi = "off"
        world.board.expect("wifi: lost", PATIENCE_S, since)
        seen.wait(f"{BASE}/status/online", "false")
        assert not [line for line in world.board.lines[since:] if "mqtt: no connection" in line]
        world.board.wifi = "ok"
        world.board.expect("mqtt: connected", PATIENCE_S, since)
