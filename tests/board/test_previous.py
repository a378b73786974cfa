"""The kept version makes room for the next update where the disk is too short for both."""

from __future__ import annotations

from typing import Any

from tests.board.test_short_disk import STREAMED, noise
from tests.support.world import ARCHIVE, PATIENCE_S, Changes, Release, World, assert_tree

GIVEN_UP = "ota: short of space: giving up the kept previous version"
NOTHING_KEPT = "no previous version is kept on this board (no_update)"
FREE = 400_000
Ballast = dict[str, bytes]


def crowded(world: World, before: Changes, after: Changes, **ota: Any) -> tuple[Release, Ballast]:
    """A board with 1.1.0, the kept 1.0.0 and some FREE bytes: what it runs, and what fills the disk."""
    world.ota["keep_previous"] = True
    old, new = world.release("1.0.0", before, **ota), world.release("1.1.0", after, **ota)
    world.flash(old)
    world.offer(new)
    world.boot("is ready to install|confirmed")
    world.update_to(new, "ota update")
    free = int(world.board.expect(r" freedisk = (\d+)", PATIENCE_S, world.type("values"))[1])
    world.assert_runs(new, previous=True)
    ballast = {"ballast.bin": bytes(free - FREE)}
    world.board.write(ballast)
    world.boot()
    return new, ballast


def test_the_kept_version_makes_room_for_the_download(world: World) -> None:
    """There is no way back from then on, until the update is confirmed and its own is kept."""
    zoo: Changes = {"www/zoo": noise(2, FREE)}  # the same in the next version: in the archive, not in the stage
    now, ballast = crowded(world, {"www/zoo": noise(1, FREE)}, zoo, auto_install=False)
    new = world.release("1.2.0", {**zoo, "www/a": b"new"}, auto_install=False)
    world.offer(new)
    since = world.type("ota check")
    world.board.expect(GIVEN_UP, PATIENCE_S, since)
    world.board.expect("1.2.0 is ready to install", PATIENCE_S, since)
    assert NOTHING_KEPT in world.refused("no_update", "ota rollback")
    assert_tree(world.peek().without(ARCHIVE, ".ota/list"), now.with_files(ballast))
    world.update_to(new, "ota update")
    assert len(world.requested("1.2.0.tar.gz")) == 1
    world.assert_runs(new, ballast, previous=True)
    world.boot()
    since = world.type("ota rollback")
    world.wait_confirmed(now, since)
    assert_tree(world.stop(), now.with_files(ballast))


def test_the_kept_version_makes_room_for_the_stage(world: World) -> None:
    """And where the update's profile keeps nothing, a rollback is refused and changes nothing."""
    _now, ballast = crowded(world, {"www/zoo": b"0" * FREE}, {"www/zoo": b"1" * FREE})
    new = world.release("1.2.0", {"www/zoo": b"2" * FREE}, keep_previous=False)
    assert len(new.archive) < FREE / 2
    world.offer(new)
    since = world.update_to(new)
    said = world.lines_since(since)
    assert said.index("ota: verified:") < said.index(GIVEN_UP) < said.index("ota: staged www/zoo") and STREAMED not in said
    assert NOTHING_KEPT in world.refused("no_update", "ota rollback")
    world.assert_runs(new, ballast)
