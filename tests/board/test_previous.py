"""The kept version: what a rollback brings back and what it leaves alone, and how it makes room where the disk is too short."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from iotctl import ROOT
from tests.support import caller, forge
from tests.support.world import (
    NEVER,
    PATIENCE_S,
    Changes,
    Handler,
    Release,
    World,
    assert_tree,
    changed,
    noise,
    place,
    tree_of,
)

GIVEN_UP = "ota: short of space: giving up the kept previous version"
NOTHING_KEPT = "no previous version is kept on this board (no_update)"
FREE = 120_000
Ballast = dict[str, bytes]


def crowded(world: World, before: Changes, after: Changes, **ota: Any) -> tuple[Release, Ballast]:
    """A board with 1.1.0, the kept 1.0.0 and some FREE bytes: what it runs, and what fills the disk."""
    world.ota["keep_previous"] = True
    old, new = world.release("1.0.0", before, **ota), world.release("1.1.0", after, **ota)
    world.flash(old)
    world.offer(new)
    since = world.now()
    world.board.start()
    if "waits" in world.board.expect("waits: window|ota: confirmed", PATIENCE_S, since).string:
        world.type("ota update")
    world.wait_confirmed(new, since)
    world.boot()  # which measures anew
    free = int(world.board.expect(r" freedisk = (\d+)", PATIENCE_S, world.type("values"))[1])
    world.assert_runs(new, previous=True)
    ballast = {"ballast.bin": bytes(free - FREE)}
    world.board.write(ballast)
    world.boot()
    return new, ballast


def test_the_kept_version_makes_room_for_the_stage(world: World) -> None:
    """There is no way back from then on, until the update is confirmed and its own is kept."""
    now, ballast = crowded(world, {"www/zoo": b"0" * FREE}, {"www/zoo": b"1" * FREE}, window=NEVER)
    new = world.release("1.2.0", {"www/zoo": b"2" * FREE}, window=NEVER)
    world.offer(new)
    since = world.type("ota check")
    world.board.expect("version 1.2.0 waits: window", PATIENCE_S, since)
    said = world.lines_since(since)
    assert said.index("ota: verified:") < said.index(GIVEN_UP) < said.index("ota: staged www/zoo")
    assert NOTHING_KEPT in world.refused("no_update", "ota rollback")
    assert_tree(world.peek().without(".ota/stage", ".ota/list"), now.with_files(ballast))
    asked = world.downloads("1.2.0.tar.gz")
    world.update_to(new, "ota update")
    assert world.downloads("1.2.0.tar.gz") == asked
    world.assert_runs(new, ballast, previous=True)
    world.boot()
    since = world.type("ota rollback")
    world.wait_confirmed(now, since)
    assert_tree(world.stop(), now.with_files(ballast))


def test_where_the_updates_profile_keeps_nothing_a_rollback_is_refused_and_changes_nothing(world: World) -> None:
    _now, ballast = crowded(world, {"www/zoo": b"0" * FREE}, {"www/zoo": b"1" * FREE})
    new = world.release("1.2.0", {"www/zoo": b"2" * FREE}, keep_previous=False)
    world.offer(new)
    since = world.update_to(new)
    assert GIVEN_UP in world.lines_since(since)
    assert NOTHING_KEPT in world.refused("no_update", "ota rollback")
    world.assert_runs(new, ballast)


# -- the way back

LOADER = (ROOT / "platform/ota_boot.py").read_bytes()
SLOT = ".ota/loader"  # where a release's own loader is staged
MINE = {"www/mine.txt": b"precious"}


def small(world: World, version: str, changes: Changes | None = None) -> Release:
    """A release that waits for its window, whose www/ differs from that of the others."""
    files = {"www/a": version.encode() * 100, "www/mine.txt": version.encode(), **(changes or {})}
    return caller.release(world, version, files, window=NEVER, keep_previous=True)


@pytest.fixture(scope="module")
def flashed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Release, Release]]:
    """A board that is off, with 1.1.0 and the kept 1.0.0, as it is in kept.img."""
    with World(tmp_path_factory.mktemp("kept")) as world:
        old, now = small(world, "1.0.0"), small(world, "1.1.0")
        world.flash(old)
        world.offer(now)
        world.board.start()
        world.board.expect("version 1.1.0 waits: window", PATIENCE_S)
        world.update_to(now, "ota update")
        world.until(lambda found: ".ota/previous/journal" in found.files)
        world.assert_runs(now, previous=True)
        world.board.snapshot(world.folder / "kept.img")
        yield world, old, now


@pytest.fixture
def kept(flashed: tuple[World, Release, Release]) -> Iterator[World]:
    """The same board, not yet started."""
    world = flashed[0]
    world.server.trick = None
    world.board.restore(world.folder / "kept.img")
    yield world
    world.board.stop()


def starts(world: World) -> None:
    """Power on, until the start has cleared up."""
    since = world.now()
    world.board.start()
    world.board.expect("ota: next check in", PATIENCE_S, since)


def goes_back(world: World, old: Release) -> None:
    """Roll back, until the board has confirmed the old version. There is nothing more that it restarts for."""
    since = world.type("ota rollback")
    world.wait_confirmed(old, since)
    world.board.expect("'state': 'confirmed'", PATIENCE_S, world.type("ota status"))
    assert "trying the new recovery loader" not in world.lines_since(since)


def test_a_forged_loader_that_was_refused_is_not_tried_by_a_rollback(
    kept: World, flashed: tuple[World, Release, Release]
) -> None:
    """It has the size that the list says, so what follows in the bundle is found; it stays in the stage, for another try."""
    world, old, _now = kept, *flashed[1:]
    good = LOADER + b"\n# " + noise(1, 2000).hex().encode() + b"\n"
    forged = LOADER + b"\nprint('forged code runs')\n"
    forged += b"#" * (len(good) - len(forged) - 1) + b"\n"
    new, other = (small(world, "1.2.0", {"ota_boot.py": loader}) for loader in (good, forged))

    at, (first, last) = place(new, "ota_boot.py")[0], place(other, "ota_boot.py")
    before, instead = forge.head_size(new.archive) + at, other.bundle.packed[first:last]
    spoiled = new.archive[:before] + instead + new.archive[before + len(instead) :]

    def between(request: Handler) -> bool:
        """Somebody between the board and its server, who needs no key for that: the head is right."""
        if not request.path.endswith("1.2.0.tar.gz") or request.headers["Range"].startswith("bytes=0-"):
            return False
        request.wfile.write(request.begin(spoiled))
        return True

    starts(world)
    world.offer(new)
    world.server.trick = between
    world.refused("bad_digest")
    world.until(lambda found: found.files.get(SLOT) == forged)
    goes_back(world, old)
    assert_tree(world.stop(), old.tree)


def test_the_loader_of_a_release_that_was_only_staged_is_not_tried_by_a_rollback(
    kept: World, flashed: tuple[World, Release, Release]
) -> None:
    world, old, _now = kept, *flashed[1:]
    new = small(world, "1.2.0", {"ota_boot.py": LOADER + b"\n# of 1.2.0\n"})
    starts(world)
    world.offer(new)
    world.board.expect("version 1.2.0 waits: window", PATIENCE_S, world.type("ota check"))
    world.until(lambda found: found.files.get(SLOT) == new.files["ota_boot.py"])
    goes_back(world, old)
    assert_tree(world.stop(), old.tree)


def test_a_rollback_leaves_alone_what_has_been_excluded_since(kept: World, flashed: tuple[World, Release, Release]) -> None:
    world, old, _now = kept, *flashed[1:]
    profile = world.profile(caller.MODULES, window=NEVER, keep_previous=True, excluded_files=[*MINE])
    mine = {**MINE, "profile.json": profile.raw}
    world.board.write(mine)
    starts(world)
    goes_back(world, old)
    assert_tree(world.stop(), tree_of(changed(old.files, mine)))


def test_a_repair_keeps_the_version_before(kept: World, flashed: tuple[World, Release, Release]) -> None:
    """And not what was damaged: that is nobody's version."""
    world, old, now = kept, *flashed[1:]
    world.board.write({"www/a": b"damaged"})
    world.offer(now)
    starts(world)
    since = world.type("ota verify")
    world.wait_confirmed(now, since)
    world.board.expect("'previous': '1.0.0'", PATIENCE_S, world.type("ota status"))
    assert_tree(world.peek(), now.tree, previous=True)
    goes_back(world, old)
    assert_tree(world.stop(), old.tree)
