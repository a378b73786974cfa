"""What is over stays over: an order once committed, a version that was left, the channel before, another version's failures."""

from __future__ import annotations

import pytest

from tests.support.caller import call, do, release
from tests.support.world import (
    NEVER,
    PATIENCE_S,
    Release,
    World,
    noise,
    state_of,
)


@pytest.mark.parametrize("setting", [{"auto_install": False}, {"window": NEVER}], ids=["asked", "window"])
def test_in_safe_mode_the_board_goes_back_even_when_an_update_waits(world: World, setting: dict[str, object]) -> None:
    """Boots keep failing: what waits for its window, or for somebody, is no reason to stay with the version that fails."""
    world.ota.update(keep_previous=True, **setting)
    old, new, third = (release(world, f"1.{n}.0") for n in range(3))
    world.settled(old, new)
    world.update_to(new, "ota update")
    world.offer(third)
    world.board.expect("version 1.2.0 waits", PATIENCE_S, world.type("ota check"))
    world.until(lambda found: {"offered", "next"} <= set(state_of(found)))
    world.board.stop()
    world.board.write({".ota/fails.3": b""})
    since = world.now()
    world.board.start()
    world.board.expect("safe mode after 3 bad boots", PATIENCE_S, since)
    world.board.expect("boots keep failing: going back to 1.0.0", PATIENCE_S, since)
    world.wait_confirmed(old, since)


def test_a_forced_update_whose_power_fails_at_its_commit_is_not_done_again(world: World) -> None:
    """The order is done with the commit: neither the new version, nor the old one after its trial, does it once more."""
    old, new = release(world, "1.0.0"), release(world, "1.1.0", {"www/a": b"new"})
    world.settled(old, new)
    since = world.type("call ota.request_update(True), committed(ota), nothing_goes_on(ota)")
    world.board.expect("caller: nothing goes on", PATIENCE_S, since)
    world.board.power_cycle()
    world.wait_confirmed(new, since)
    world.board.expect("wifi: connected", PATIENCE_S, since)
    world.until(lambda found: "order" not in state_of(found))
    assert "update failed" not in world.lines_since(since)


def test_a_release_that_fails_after_a_forced_commit_whose_power_failed_is_not_installed_again(world: World) -> None:
    old, bad = release(world, "1.0.0"), release(world, "1.1.0", {"modules/caller/__init__.py": b"raise ValueError('bad')\n"})
    world.settled(old, bad)
    since = world.type("call ota.request_update(True), committed(ota), nothing_goes_on(ota)")
    world.board.expect("caller: nothing goes on", PATIENCE_S, since)
    world.board.power_cycle()
    world.wait_rolled_back(bad, "module_failed", since)
    since = world.now()
    world.board.expect("ota: (next check|up to date|committed|update failed|check failed)", PATIENCE_S, since)
    assert "committed" not in world.lines_since(since)
    world.until(lambda found: "order" not in state_of(found))


def test_what_is_staged_while_the_channel_changes_does_not_wait_for_its_window(world: World) -> None:
    parts = {f"www/part{n}": noise(n, 8_000) for n in range(4)}
    old, new = release(world, "1.0.0", window=NEVER), release(world, "1.1.0", parts, window=NEVER)
    world.settled(old, new)
    since = world.type("call ota.request_check(), half_staged(ota), ota.set_channel('canary')")
    world.board.expect(r"I result", PATIENCE_S, since)
    world.board.expect(r"ota: (version \S+ waits: window|cancelled)", PATIENCE_S, since)
    assert call(world, "ota.channel, ota.waiting, ota.store.get('ready'), ota.offered") == ("canary", "", None, None)


def legacy(world: World, made: Release) -> None:
    """The server has it by the `latest` protocol, and no other way."""
    world.offer(made, legacy=True)
    world.channel_file().unlink()


def went_back(world: World, *versions: str) -> None:
    """A board that was flashed with the first one, had the others by the `latest` protocol, and has left the last one by hand."""
    world.ota.update(keep_previous=True)
    releases = [release(world, version, {"www/a": version.encode()}) for version in versions]
    world.flash(releases[0])
    legacy(world, releases[0])
    world.boot()
    for new in releases[1:]:
        legacy(world, new)
        world.update_to(new)
    since = world.type("ota rollback")
    world.wait_confirmed(releases[-2], since)
    world.board.expect("wifi: connected", PATIENCE_S, since)


def test_what_a_board_went_back_from_does_not_come_back_by_the_latest_protocol(open_world: World) -> None:
    world = open_world
    went_back(world, "1.0.0", "1.1.0", "1.2.0")
    since = world.type("ota check")
    told = world.board.expect(r"ota: (up to date|check failed|version 1\.2\.0 is available)", PATIENCE_S, since)
    assert told[1] != "version 1.2.0 is available", world.lines_since(since)


def test_a_way_back_to_the_flashed_version_does_not_end_the_latest_protocol(open_world: World) -> None:
    """The image's list has a sequence, but this board has never installed a bundle, and its server has none."""
    world = open_world
    went_back(world, "1.0.0", "1.1.0")
    third = release(world, "1.2.0")
    legacy(world, third)
    world.update_to(third)


def test_what_a_board_went_back_from_is_not_kept_by_the_latest_protocol(open_world: World) -> None:
    """In safe mode a board would go to and fro between two versions."""
    world = open_world
    went_back(world, "1.0.0", "1.1.0")
    assert call(world, "ota.previous") is None


def test_failures_of_another_version_are_not_counted_with_this_one(open_world: World) -> None:
    """Releases of the `latest` protocol have no sequence: what is remembered under 0 may be of another version."""
    world = open_world
    world.flash(release(world, "1.0.0"))
    world.boot("check failed")
    add = "__import__('modules.ota.state', None, None, ('x',)).add_failure(ota.store, 0, '{}', 'no_network', '')"
    for _ in range(3):
        do(world, add.format("1.1.0"))
    do(world, add.format("1.2.0"))
    assert call(world, "ota.store.get('failed')") == {"0": ["1.2.0", "no_network", "", 1, 0]}
