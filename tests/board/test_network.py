"""What ports do differently about the network: names that nobody can look up, access points, no network at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.name_server import NameServer, silence
from tests.support.world import ARCHIVE, PATIENCE_S, Handler, Server, World

HOST = "update.test"


@pytest.fixture
def names() -> Iterator[NameServer]:
    with NameServer({HOST: "127.0.0.1"}) as server:
        yield server


def world_like(folder: Path, like: str, names: NameServer | None = None) -> World:
    """A board with a port's habits, whose network has this name server."""
    world = World(folder, like=like)
    if names:
        world.board.env["SIMULATOR_DNS"] = str(names.port)
        world.ota["url"] = world.server.url.replace("127.0.0.1", HOST)
    return world


def test_a_silent_name_server_is_not_the_releases_fault(tmp_path: Path, names: NameServer) -> None:
    """It falls silent with the restart into a new version: that goes back for want of a network, and gets another chance."""
    with world_like(tmp_path, "pico-w", names) as world:
        world.board.env["SIMULATOR_PORT_DNS_SILENT_MS"] = "14000"  # lwIP, two name servers
        old, new = world.release("1.0.0"), world.release("1.1.0", {"www/a.txt": b"a"})
        world.settled(old, new)
        since = world.type("ota check")
        world.board.expect("committed: installing 1.1.0", PATIENCE_S, since)
        names.trick = silence
        line = world.wait_rolled_back(new, "no_network", since)
        undone = world.board.lines.index(world.board.expect("restarting: rolling back", PATIENCE_S, since).string)
        assert "watchdog" not in world.board.restarts
        assert "the name update.test cannot be looked up: nobody answers" in line
        names.trick = None
        world.board.expect("wifi: connected", PATIENCE_S, undone)
        for _check in range(6):
            since = world.type("ota check")
            said = world.board.expect(r"not tried again before \d more checks|committed: installing 1.1.0", PATIENCE_S, since)
            if "committed" in said[0]:
                break
            world.board.expect("free disk", PATIENCE_S, since)
        world.wait_confirmed(new, since)
        world.assert_runs(new)


def test_a_name_that_changes_its_address_in_mid_update(tmp_path: Path, names: NameServer) -> None:
    with contextlib.ExitStack() as closing, world_like(tmp_path, "pico-w", names) as world:
        old, new = world.release("1.0.0"), world.release("1.1.0", {"www/a.bin": bytes(range(256)) * 200})
        world.settled(old, new)
        moved: list[Server] = []

        def move(handler: Handler) -> bool:
            """The server sends half of what it is asked for, and moves to another address."""
            data = handler._find()
            if moved or data is None or not handler.path.endswith("1.1.0.tar.gz"):
                return False
            moved.append(Server(world.site, world.server.port, "127.0.0.2"))
            closing.enter_context(moved[0])
            names.hosts[HOST] = "127.0.0.2"
            handler.send_half(data, 600)
            world.server._http.socket.close()
            return True

        world.server.trick = move
        since = world.type("ota check")
        world.board.expect(r"\((connection_lost|connect)\)$", PATIENCE_S, since)
        asked = len(names.questions)
        world.update_to(new)
        assert len(names.questions) > asked, "what was remembered did not answer"
        assert [r for r in moved[0].requests if r.path.endswith("1.1.0.tar.gz")]
        world.assert_runs(new)


# What is told to the port, what must be on the air, and what the log says of it
ACCESS_POINTS = [
    ("pico-w", "", "open", "open to all"),
    ("pico-w", "birdhouse", "key birdhouse", "with a password"),
    ("esp32", "", "open", "open to all"),
    ("esp32", "birdhouse", "key birdhouse", "with a password"),
]


@pytest.mark.parametrize(("like", "password", "air", "said"), ACCESS_POINTS)
def test_an_access_point_is_what_the_log_says(tmp_path: Path, like: str, password: str, air: str, said: str) -> None:
    with world_like(tmp_path, like) as world:
        world.sections["wifi"] = {"ap_password": password}
        world.flash(world.release("1.0.0"))
        world.board.start()
        world.board.expect(rf"wifi: access point sim-board-0001, {said}, at 192\.168\.4\.1", PATIENCE_S)
        seen = [line for line in world.board.lines if line.startswith("(on the air:")]
        assert seen[-1] == f"(on the air: sim-board-0001, {air})"
        assert like == "esp32" or len(seen) == 1, "at no moment was it there with the port's own password"


@pytest.mark.parametrize("like", ["pico-w", "esp32"])
def test_an_access_point_has_a_password_of_its_own_that_the_console_alone_shows(tmp_path: Path, like: str) -> None:
    """Made once; unless the profile says in so many words that it is to be open."""
    with world_like(tmp_path, like) as world:
        world.sections["wifi"] = {}
        world.flash(world.release("1.0.0"))
        world.board.start()
        shown = r"^wifi: the password of this board's access point is ([a-z]{12})$"
        made = world.board.expect(shown, PATIENCE_S)[1]
        world.board.expect("wifi: access point sim-board-0001, with a password, at ", PATIENCE_S)
        assert f"(on the air: sim-board-0001, key {made})" in world.board.lines
        since = world.now()
        world.board.power_cycle()
        world.board.expect("wifi: access point sim-board-0001, with a password, at ", PATIENCE_S, since)
        assert f"(on the air: sim-board-0001, key {made})" in world.board.lines[since:]
        assert sum(made in line for line in world.board.lines) == 3, "it is shown when it is made, and by whoever asks"
        assert world.board.expect(shown, PATIENCE_S, world.type("wifi password"))[1] == made


def test_an_access_points_password_that_is_too_short_leaves_no_open_one(tmp_path: Path) -> None:
    with world_like(tmp_path, "pico-w") as world:
        world.sections["wifi"] = {"ap_password": "short"}
        world.flash(world.release("1.0.0"))
        world.board.start()
        world.board.expect("wifi: no access point: its password must have 8 to 63 characters", PATIENCE_S)
        assert not [line for line in world.board.lines if line.startswith("(on the air:")]


def install_when_idle(world: World) -> int:
    """Have the board install its archive; what the start has to do comes first. Returns the number of the line before."""
    while True:
        since = world.type("ota install")
        if not world.board.expect("ota install: (not )?started", PATIENCE_S, since)[1]:
            return since


def test_a_board_without_a_network_says_so_in_a_line_and_updates_from_a_file(tmp_path: Path) -> None:
    with World(tmp_path, modules=("serial_log", "wifi", "ota", "web", "mqtt"), like="pico") as world:
        old, new = world.release("1.0.0"), world.release("1.1.0", {"www/a.txt": b"a" * 5000})
        world.flash(old)
        world.board.start()
        for name in ("wifi", "web", "mqtt"):
            world.board.expect(rf"W module {name} is switched off: this board has no module named '\w+'", PATIENCE_S)
        world.board.expect("running: ota, serial_log", PATIENCE_S)
        assert "there is no network" in world.refused("no_network")
        world.board.stop()
        world.board.write({ARCHIVE: new.archive})
        since = world.now()
        world.board.start()
        world.board.expect("running: ota, serial_log", PATIENCE_S, since)
        since = install_when_idle(world)
        world.wait_confirmed(new, since)
        console = world.board.console()
        assert "Traceback" not in console and "internal" not in console
        assert console.count("no_network") == 1, "nobody asks a server by itself where there is no network"
        world.assert_runs(new)
