"""A board of public-micropython-iot-platform becomes ours over the air: real MicroPython, real littlefs, its own updater."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iotctl import bundle, keys, migrate, publish, serve, tree
from iotctl.profile import Profile
from sim import flashlog
from sim.board import Board, BoardError, Cut
from tests.support import origin
from tests.support.scripted_server import ScriptedServer, proper
from tests.support.world import owner

PATIENCE_S = 60
# What versions before have left: in the way of ours, or not.
OLDER = {"modules/wifi/wifi_settings.py": b"old = 1\n", "modules/web/api.py": b"old = 1\n", "data.csv": b"1,2\n"}


class Place:
    """A board on 1.9.0 of the old platform, and the server that both platforms ask."""

    def __init__(self, folder: Path, server: serve.Server) -> None:
        self.folder, self.server = folder, server
        self.old = origin.tree(server.url)
        self.mine = {**OLDER, **origin.library()}
        (folder / "firmware.tar.gz").write_bytes(origin.archive(self.old))
        self.board = Board(folder / "board.img", size=2 * 1024 * 1024, heap="256k")

    def flash(self) -> None:
        self.board.format()
        self.board.write({**self.old, **self.mine, "prefs.json": json.dumps(origin.PREFS).encode()})

    def release(self, version: str, **ota: Any) -> tuple[bundle.Bundle, Profile]:
        """Publish a signed release of our platform, for boards that are called as before."""
        value = {
            "shortName": origin.NAME,
            "activeModules": ["serial_log", "wifi", "ota", "web"],
            "ota": {
                "url": self.server.url, "tmp_filename": "upload.tar.gz", "excluded_files": [], "delete": [],
                "public_keys": [keys.jwk(owner())], "confirm_timeout_s": 60, **ota,
            },
        }  # fmt: skip
        raw = json.dumps(value).encode()
        given = Profile(Path("profile.json"), raw, value)
        made = bundle.make(given, tree.collect(given, version), bundle.Options(version, bundle.default_sequence(version)))
        made = bundle.sign(made, owner())
        (self.folder / "made.tar.gz").write_bytes(bundle.pack(made))
        publish.publish(self.folder / "made.tar.gz", self.folder / "site", publish.Options(), owner())
        return made, given

    def migrate(self, version: str, **ota: Any) -> bundle.Bundle:
        made, given = self.release(version, **ota)
        old = [migrate.read_old(self.folder / "firmware.tar.gz")]
        migrate.write(migrate.pack(made, given, old), made.header, old, self.folder / "site", "stable")
        return made


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "site").mkdir()
    with serve.Server(tmp_path / "site") as server:
        made = Place(tmp_path, server)
        made.flash()
        yield made
        made.board.stop()


def test_an_old_board_becomes_ours_and_keeps_its_network_and_takes_a_signed_update(place: Place) -> None:
    board = place.board
    made = place.migrate("9.0.0", keep_previous=True)
    board.start()
    board.expect("Wifi Connected!", PATIENCE_S)
    board.expect("wifi: connected to sim-network", PATIENCE_S)
    board.expect("confirmed: version 9.0.0 stays", PATIENCE_S)
    board.send("ota rollback")  # the old platform knows no trial
    board.expect("no previous version is kept on this board", PATIENCE_S)
    newer, _given = place.release("9.1.0")
    board.send("ota update")
    board.expect("confirmed: version 9.1.0 stays", PATIENCE_S)
    board.stop()
    found = board.read()
    kept = {**OLDER, **origin.library()}
    del kept["modules/wifi/wifi_settings.py"], kept["modules/web/api.py"]
    live = found.without(".ota", "prefs.json", "prefs.json.1", "boot.keep")
    assert live.files == {**newer.files, **kept}
    assert made.files["main.py"] == newer.files["main.py"]
    assert not {path for path in found.files if path.startswith(".ota/")} - {".ota/release", ".ota/state.0", ".ota/state.1"}
    slots = [found.files[name].split(b"\n") for name in ("prefs.json", "prefs.json.1") if name in found.files]
    prefs = json.loads(max(slots, key=lambda slot: int((slot[1] or b"0").split()[0]))[0])
    assert (prefs["wifi.ssid"], prefs["wifi.password"], prefs["ledStrip.brightness"]) == ("sim-network", "simulated", 220)


def test_a_board_that_does_not_reach_the_server_goes_back_and_is_not_moved_again(place: Place) -> None:
    """Its own preferences too. It then says that it has the version, or it would fetch it for ever."""
    board = place.board
    place.migrate("9.0.0", url="http://127.0.0.1:1", confirm_timeout_s=10)
    board.start()
    board.expect("ota_boot: undoing 9.0.0 because of no_network", PATIENCE_S)
    board.expect("migrate: stays with the old platform: 9.0.0 was here and went back: no_network", PATIENCE_S)
    board.expect("origin: running 9.0.0", PATIENCE_S)
    assert len([request for request in place.server.requests if request.path.endswith("-migrate.tar.gz")]) == 2
    board.stop()
    found = board.read()
    assert json.loads(found.files["prefs.json"]) == origin.PREFS
    assert found.files["migrate.log"].startswith(b"9.0.0 was here and went back: no_network")
    assert found.without("prefs.json", "migrate.log").files == {**place.old, **place.mine, "version": b"9.0.0"}
    assert ".ota" not in found.folders
    place.migrate("9.0.1")
    since = len(board.lines)
    board.start()
    board.expect("confirmed: version 9.0.1 stays", PATIENCE_S, since)


def test_a_board_that_went_back_without_its_server_has_nothing_of_ours_with_the_next_restart(place: Place) -> None:
    place.migrate("9.0.0", url="http://127.0.0.1:1", confirm_timeout_s=10)
    place.board.start()
    place.board.expect("ota_boot: trial of 9.0.0 boot 1", PATIENCE_S)
    (place.folder / "site" / origin.NAME / "latest").unlink()
    place.board.expect("ota_boot: undoing 9.0.0 because of no_network", PATIENCE_S)
    place.board.expect("origin: running 1.9.0", PATIENCE_S)
    place.board.power_cycle()
    place.board.expect("migrate: stays with the old platform: 9.0.0 was here and went back: no_network", PATIENCE_S)
    place.board.expect("origin: running 9.0.0", PATIENCE_S)
    place.board.stop()
    found = place.board.read()
    assert found.without("prefs.json", "migrate.log").files == {**place.old, **place.mine, "version": b"9.0.0"}
    assert (json.loads(found.files["prefs.json"]), ".ota" in found.folders) == (origin.PREFS, False)


def test_a_board_that_loses_the_network_in_the_middle_of_the_archive_stays_as_it_is(place: Place) -> None:
    place.migrate("9.0.0")
    site = place.folder / "site" / origin.NAME
    with ScriptedServer() as server:
        server.routes[f"/{origin.NAME}/latest"] = proper((site / "latest").read_bytes())
        server.routes[f"/{origin.NAME}/9.0.0-migrate.tar.gz"] = proper((site / "9.0.0-migrate.tar.gz").read_bytes(), 60_000)
        place.old = origin.tree(server.url)
        place.flash()
        place.board.start()
        place.board.expect("wrong size, deleting it|OTA failed", PATIENCE_S)
        place.board.expect("origin: running 1.9.0", PATIENCE_S)
        place.board.stop()
    assert place.board.read().without(origin.ARCHIVE, "prefs.json").files == {**place.old, **place.mine}


def test_a_board_without_room_for_both_stays_as_it_is(place: Place) -> None:
    place.board.size = 480 * 1024
    place.flash()
    place.migrate("9.0.0")
    place.board.start()
    place.board.expect(r"OTA failed: OSError\(28", PATIENCE_S)
    place.board.expect("origin: running 1.9.0", PATIENCE_S)
    place.board.stop()
    live = place.board.read().without(".ota", origin.ARCHIVE, f"{origin.ARCHIVE}.1", "prefs.json").files
    assert live == {**place.old, **place.mine}


def test_a_disk_that_is_full_behind_the_archive_leaves_the_old_platform_wherever_power_fails(place: Place) -> None:
    """Unpacked, but without room for what a move needs: what was unpacked goes, and power fails while it does."""
    made, given = place.release("9.0.0")
    old = {**place.old, "main.py": b"import machine\nmachine.reset()\n"}
    before = migrate.Old(sorted(old), "1.9.0", json.loads(old["profile.json"]), old["boot.py"])
    unpacked = {name: data for name, data in migrate.members(made, given, [before]) if not name.endswith("/")}
    board, start, log = place.board, place.folder / "start.img", place.folder / "operations.log"
    board.size = 700 * 1024
    board.format()
    board.write({**old, **unpacked})
    ballast = _fill(board)
    board.snapshot(start)
    boot = board.boot_once(log=log)
    assert "migrate: stays with the old platform: the disk is full" in boot.output
    wanted = {**old, **ballast, "version": b"9.0.0", "migrate.log": b"the disk is full\n"}
    assert (board.read().files, ".ota" in board.read().folders) == (wanted, False)
    operations = flashlog.read(log)
    for n in range(3, len(operations), len(operations) // 12):
        board.image.write_bytes(flashlog.cut(start.read_bytes(), operations, Cut(n, "torn")))
        board.boot_once()
        assert board.read().without(".ota", "ota_boot.py", "boot.keep").files == wanted, f"cut at {n} of {len(operations)}"


def _fill(board: Board) -> dict[str, bytes]:
    """Files that take what is left of the disk."""
    for n, size in enumerate((64, 64, 64, 64, 16, 16, 16, 4, 4, 4)):
        with contextlib.suppress(BoardError):  # it does not fit any more
            board.write({f"full{n}": bytes(size * 1024)})
    return {path: data for path, data in board.read().files.items() if path.startswith("full")}
