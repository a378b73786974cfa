"""Full disks, and servers that are away or talk nonsense: one clear line, nothing left, the rest goes on."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus

import pytest

from iotctl import boards, bundle
from tests.support.caller import QUICK
from tests.support.world import ARCHIVE, PATIENCE_S, Handler, World, assert_tree, changed, noise, tree_of

Trick = Callable[[Handler], bool]


def test_a_full_disk_is_said_before_the_files_are_downloaded(world: World) -> None:
    """And what the board asks for, and finds, is what `iotctl check --board` counts."""
    old = world.release("1.0.0")
    others = {path: data + b"\n" for path, data in old.files.items() if path not in ("version", "boot.py")}
    new, ballast = world.release("1.1.0", others), {"ballast.bin": bytes(300_000)}
    world.flash(old, ballast)
    world.offer(old)
    world.boot()
    world.offer(new)
    needs, free = re.findall(r"needs (\d+) bytes.*, (\d+) are free", world.refused("no_space"))[0]
    there = boards.budget({**old.files, **ballast, bundle.LIST: new.bundle.listing}, world.board.port)
    assert int(needs) == boards.update_blocks(new.files) * boards.BLOCK
    assert int(free) == world.board.port.flash - (there.tree + there.own) * boards.BLOCK
    assert world.downloads("1.1.0.tar.gz") == len(world.requested("1.1.0.tar.gz")) == 2, "the list, and what it says of deletions"
    since = world.type("ota check")
    world.board.expect(r"\(no_space\)", PATIENCE_S, since)
    assert_tree(world.stop(), old.with_files(ballast))


def test_a_disk_without_room_for_the_stage_refuses_and_clears_up(world: World) -> None:
    old, new = world.release("1.0.0"), world.release("1.1.0", {"www/a": bytes(600_000)})
    ballast = bytes(100_000)
    world.flash(old, {"ballast.bin": ballast})
    world.offer(old)
    world.boot()
    world.offer(new)
    world.refused("no_space")
    assert_tree(world.peek(), old.with_files({"ballast.bin": ballast}))
    fits = world.release("1.2.0", {"www/a": b"small"})
    world.offer(fits)
    world.update_to(fits)
    assert_tree(world.stop(), tree_of(changed(fits.files, {"ballast.bin": ballast})))


def test_an_upload_that_was_cut_by_power_keeps_no_update_away(world: World) -> None:
    """Nobody installs it, or knows of it any more: it goes when its space is needed."""
    parts = ({f"www/part{n}": noise(seed + n, 20_000) for n in range(4)} for seed in (0, 10))
    old, new = (world.release(version, {**QUICK, **files}) for version, files in zip(("1.0.0", "1.1.0"), parts, strict=True))
    there = boards.budget({**old.files, bundle.LIST: old.bundle.listing}, world.board.port)
    free = world.board.port.flash - (there.tree + there.own) * boards.BLOCK
    world.flash(old, {ARCHIVE: noise(20, free - 60_000)})
    world.offer(new)
    world.board.start()
    world.wait_confirmed(new, 0)
    assert "the disk was full" in world.board.console()
    world.assert_runs(new)


HOARDER = b"""
from iot_platform.module import Module as Base

class Module(Base):
    name = "hoarder"

    def start(self):
        self.kept = []
        for n in range(3):
            self.kept.append(open("/log/%d.txt" % n, "ab"))
            try:
                while True:
                    self.kept[n].write(bytes(20_000 if n else 4_000))
                    self.kept[n].flush()
            except OSError as error:
                print("hoarder:", error)
"""


def test_a_board_whose_disk_a_module_fills_at_every_start_takes_the_release_that_ends_it(world: World) -> None:
    """It has no block left when OTA starts, and holds its files open, so that their blocks stay taken when they are removed."""
    board, with_it = world.board, (*world.modules, "hoarder")
    listed = {"app/old.txt": b"of the running version", "app/kept/x": b"excluded"}
    world.ota["excluded_files"] = ["app/kept"]
    old = world.release("1.0.0", {"modules/hoarder/__init__.py": HOARDER, **listed}, modules=with_it)
    mine = {"log/x/y.txt": b"1", "app/x.txt": b"1", "mine.txt": b"2"}
    world.flash(old, {**mine, ".ota/previous/journal": b"", ".ota/previous/0/0": bytes(4096)})
    world.offer(world.release("1.1.0"))  # it deletes nothing
    since = world.now()
    board.start()
    board.expect("giving up the kept previous version", PATIENCE_S, since)
    board.expect(r"check failed: .* \(no_space\)$", PATIENCE_S, since)
    board.expect("restarting: the update boot is over", PATIENCE_S, since)
    since = world.now()
    board.expect("wifi: connected", PATIENCE_S, since)
    restarts = len(board.restarts)
    world.refused("no_space")  # and no restart for it: nothing would be different then
    new = world.release("1.2.0", delete=["log", "app"])
    world.offer(new)
    since = world.update_to(new)
    deleted = [line.split("deleted ")[1] for line in board.lines[since:] if "short of space: deleted" in line]
    assert sorted(deleted) == ["app/x.txt", "log/0.txt", "log/1.txt", "log/2.txt", "log/x/y.txt"]
    assert board.restarts[restarts:] == ["hard", "hard"], "into an update boot, and into the new version"
    world.assert_runs(new, {"app/kept/x": b"excluded", "mine.txt": b"2"})


# -- servers


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A board that runs 1.0.0 and has nothing to do."""
    with World(tmp_path_factory.mktemp("servers")) as world:
        world.ota["check_interval_s"] = 3600
        old = world.release("1.0.0")
        world.flash(old)
        world.offer(old)
        world.boot()
        yield world


def says(status: int, body: bytes = b"no", **headers: str) -> Trick:
    def trick(request: Handler) -> bool:
        request.reply(HTTPStatus(status), {name.replace("_", "-"): value for name, value in headers.items()}, body)
        return True

    return trick


def sends(data: bytes) -> Trick:
    def trick(request: Handler) -> bool:
        request.send_raw(data)
        return True

    return trick


def stalls(request: Handler) -> bool:
    time.sleep(17)
    request.close_connection = True
    return True


def trickles(request: Handler) -> bool:
    for char in b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345":
        request.wfile.write(bytes((char,)))
        time.sleep(0.02)
    request.close_connection = True
    return True


SERVERS: list[tuple[str, Trick, str]] = [
    ("404", says(404), "http_status"),
    ("500", says(500), "http_status"),
    ("503", says(503, Retry_After="7"), "http_status"),
    ("redirect loop", says(302, Location="/again"), "redirect"),
    ("redirect to nowhere", says(302), "redirect"),
    ("redirect to a file", says(302, Location="file:///etc/passwd"), "redirect"),
    ("garbage", sends(bytes(range(256)) * 40), "bad_response"),
    ("nothing", sends(b""), "connection_lost"),
    ("a page", says(200, b"<html>it works</html>"), "bad_response"),
    ("an empty file", says(200, b""), "bad_response"),
    ("a cut file", says(200, b'{"format":2,"name":"sim-board","chan'), "bad_response"),
    ("a cut signature", says(200, b"{}\n" + b"A" * 300), "bad_response"),
    ("too much", says(200, b"x" * 100_000), "too_large"),
    ("endless headers", sends(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 3000), "too_large"),
    ("a long line", sends(b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 9000), "bad_response"),
    ("cut answer", sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n12345"), "connection_lost"),
    ("trickled answer", trickles, "connection_lost"),
    ("stall", stalls, "timeout"),
]


@pytest.mark.parametrize(("trick", "reason"), [pytest.param(trick, reason, id=name) for name, trick, reason in SERVERS])
def test_a_bad_server_is_one_clear_line(running: World, trick: Trick, reason: str) -> None:
    running.server.trick = trick
    since = running.type("log info")
    running.refused(reason)
    said = [line for line in running.board.lines[since:] if " W " in line or " E " in line]
    assert len(said) == 1, said
    running.board.expect("next try in about", PATIENCE_S, since)
    running.server.trick = None
    gap_is_small(running)
    assert_tree(running.peek(), running.release("1.0.0").tree)


def gap_is_small(world: World) -> None:
    """The loop has gone on for the other modules all the time: no wait of several seconds held it up."""
    time.sleep(1)  # published every second
    since = world.type("values")
    gap = world.board.expect(r"loop/max_gap_ms = (\d+)", PATIENCE_S, since)
    assert int(gap.group(1)) < 2500, gap.string


def test_a_server_that_is_away_is_asked_at_growing_pauses(world: World) -> None:
    old = world.release("1.0.0")
    world.flash(old)
    world.server.close()
    since = world.now()
    world.board.start()
    world.board.expect(r"check failed: .* \(connect\)", PATIENCE_S, since)
    for _again in range(3):
        world.refused("connect")
    pauses = [int(n) for n in re.findall(r"next try in about (\d+) s", world.lines_since(since))]
    least = [30, 60, 120, 240][: len(pauses)]
    assert all(low <= pause <= low * 9 / 8 for low, pause in zip(least, pauses, strict=True)) and len(pauses) >= 3
    gap_is_small(world)
    world.board.expect("serial_log", 1, since)
    assert_tree(world.stop(), old.tree)


def test_the_pause_that_a_server_asks_for_is_kept_up_to_the_check_interval(running: World) -> None:
    running.server.trick = says(503, Retry_After="4000")
    since = running.now()
    running.refused("http_status")
    found = running.board.expect(r"next try in about (\d+) s", PATIENCE_S, since)
    running.server.trick = None
    assert 3600 <= int(found.group(1)) <= 4050


def test_a_bundle_that_is_missing_or_too_large_changes_nothing(running: World) -> None:
    old, new = running.release("1.0.0"), running.release("1.1.0")
    running.offer(new)
    target = running.site / "sim-board" / "1.1.0.tar.gz"
    target.unlink()
    running.refused("http_status")
    assert_tree(running.peek(), old.tree)
    target.write_bytes(new.archive + b"more")
    running.refused("too_large")
    assert_tree(running.peek().without(".ota/stage", ".ota/list"), old.tree)
