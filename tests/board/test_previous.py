"""The kept version makes room for the next update where the disk is too short for both."""

from __future__ import annotations

from typing import Any

from tests.support.world import NEVER, PATIENCE_S, Changes, Release, World, assert_tree

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
