"""What is ready and waits for its window: what ends the wait, what does not, and that exactly this is installed in the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from tests.support.caller import call, do, release
from tests.support.world import (
    ARCHIVE,
    NEVER,
    PATIENCE_S,
    Changes,
    Handler,
    Release,
    World,
    noise,
    state_of,
)

WAITS = "version 1.1.0 waits: window"
OPEN = "00:00-23:59"
SAME: Changes = {"www/same.txt": b"the same in each release"}


def three(world: World) -> tuple[Release, Release, Release]:
    """1.0.0 runs, 1.1.0 waits, 1.2.0 is brought by hand: in each of them all parts are others."""
    releases = []
    for minor in range(3):
        parts = {f"www/part{n}": noise(10 * minor + n, 8_000) for n in range(4)}
        releases.append(release(world, f"1.{minor}.0", {**SAME, **parts}, window=NEVER))
    old, new, third = releases
    world.flash(old, {ARCHIVE: third.archive})
    world.offer(new)
    world.board.start()
    world.board.expect(WAITS, PATIENCE_S)
    world.until(lambda found: {"ready", "next"} <= set(state_of(found)))
    return old, new, third


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Release, Release]]:
    """One board for all tests after which 1.0.0 still runs; the releases that run and wait."""
    with World(tmp_path_factory.mktemp("waiting")) as world:
        old, new, _third = three(world)
        yield world, old, new


@pytest.fixture
def waiting(shared: tuple[World, Release, Release]) -> World:
    """The board, when 1.1.0 waits on it."""
    world, _old, new = shared
    world.server.trick = None
    world.offer(new)
    do(world, "platform.prefs.set('ota.window', None)")
    since = world.now()
    assert call(world, "ota.request_check()") is True
    world.board.expect(WAITS, PATIENCE_S, since)
    still_waits(world)
    return world


def still_waits(world: World) -> None:
    """And the window is looked at again within ten seconds."""
    what, state, ready, look_in_ms = call(
        world, "ota.waiting, ota.state, ota.store.get('ready'), time.ticks_diff(ota.look_at, time.ticks_ms())"
    )
    assert what == f"window {NEVER}" and ready[0] == "1.1.0"
    assert state in ("ready", "failed")
    assert look_in_ms <= 10_000


def the_window_opens(world: World) -> None:
    """As time passes: nobody tells OTA. It is looked at once more, now."""
    do(world, f"platform.prefs.set('ota.window', '{OPEN}')")
    do(world, "setattr(ota, 'look_at', time.ticks_ms())")


def staged_anew(world: World, since: int) -> None:
    """All of 1.1.0 is fetched again, and waits."""
    world.board.expect(WAITS, PATIENCE_S, since)
    said = world.lines_since(since)
    assert all(f"staged www/part{n}" in said for n in range(4)), said
    still_waits(world)


# -- what does not end the wait


@pytest.mark.parametrize(
    ("job", "says"), [("verify", "ota: verified: 0"), ("plan", r"ota: plan: .* to 1\.1\.0"), ("check", "ota: check failed")]
)
def test_the_window_is_waited_for_after_another_job(waiting: World, job: str, says: str) -> None:
    """A look at the files, a look at the server, or a check that finds none."""

    def away(request: Handler) -> bool:
        request.reply(HTTPStatus.SERVICE_UNAVAILABLE, {}, b"")
        return True

    if job == "check":
        waiting.server.trick = away
    since = waiting.type(f"ota {job}")
    waiting.board.expect(says, PATIENCE_S, since)
    waiting.board.expect(WAITS, PATIENCE_S, since)
    still_waits(waiting)


def test_the_window_is_looked_at_after_a_week_without_an_update(waiting: World) -> None:
    """The clock of the looks goes round in twelve days: what is a week ago lies in the future."""
    do(waiting, "look_a_week_ago(ota)")
    since = waiting.type("ota check")
    waiting.board.expect(WAITS, PATIENCE_S, since)
    still_waits(waiting)


# -- what ends it


def test_what_waits_is_forgotten_with_its_channel(waiting: World) -> None:
    assert call(waiting, "ota.set_channel('canary'), ota.waiting, ota.offered") == (None, "", None)
    the_window_opens(waiting)
    assert call(waiting, "ota.job, ota.install_new_firmware()") == (None, False)
    assert call(waiting, "ota.error.reason") == "no_update"
    do(waiting, "ota.set_channel('stable')")


def test_what_was_withdrawn_is_not_installed(shared: tuple[World, Release, Release], waiting: World) -> None:
    waiting.offer(shared[1])
    assert call(waiting, "ota.check_for_updates()") is False
    the_window_opens(waiting)
    assert call(waiting, "ota.job, ota.install_new_firmware()") == (None, False)
    assert call(waiting, "ota.error.reason") == "no_update"


def test_what_has_expired_meanwhile_is_not_installed(waiting: World) -> None:
    late = release(waiting, "1.1.1", window=NEVER, expires=int(time.time()) + 3600)
    waiting.offer(late)
    since = waiting.type("ota check")
    waiting.board.expect("version 1.1.1 waits: window", PATIENCE_S, since)
    do(waiting, f"setattr(platform.board, 'now', lambda: {late.bundle.header['expires'] + 1})")
    the_window_opens(waiting)
    waiting.board.expect(r"ota: stage failed: the release has expired \(expired\)", PATIENCE_S, since)
    do(waiting, "delattr(platform.board, 'now')")
    waiting.until(lambda found: not any(path.startswith(".ota/stage") for path in found.files))


# -- what is found to be spoiled when it is installed is not installed, and fetched again


def test_a_signature_that_was_damaged_on_flash_is_fetched_again(waiting: World) -> None:
    do(waiting, "flip('/.ota/stage/id', 100)")
    waiting.refused("bad_signature", "ota update")
    staged_anew(waiting, waiting.type("ota check"))


def test_what_changed_in_the_tree_since_it_was_staged_is_seen(waiting: World) -> None:
    """The release has it as well, so it was not staged."""
    do(waiting, "flip('/www/same.txt', 0)")
    waiting.refused("no_update", "ota update")
    since = waiting.type("ota check")
    waiting.board.expect("staged www/same.txt", PATIENCE_S, since)
    staged_anew(waiting, since)
    do(waiting, "flip('/www/same.txt', 0)")


# -- another release in the stage


def test_an_upload_that_was_cancelled_keeps_no_update_away(waiting: World) -> None:
    assert call(waiting, "ota.request_install(), half_staged(ota), ota.cancel()") == (True, None, True)
    staged_anew(waiting, waiting.type("ota check"))


def test_half_a_release_is_never_committed(open_world: World) -> None:
    """The power fails in an upload, where no key is pinned that tells one list from another: the update brings all of its own."""
    world = open_world
    _old, new, _third = three(world)
    since = world.type("call ota.request_install(), half_staged(ota), nothing_goes_on(ota)")
    world.board.expect("caller: nothing goes on", PATIENCE_S, since)
    world.board.stop()
    assert ".ota/stage/id" in world.board.read().files
    since = world.now()
    world.board.start()
    world.board.expect("wifi: connected", PATIENCE_S, since)
    since = world.type("ota update")
    world.board.expect("confirmed: version 1.1.0 stays|update failed", PATIENCE_S, since)
    assert "failed" not in world.lines_since(since)
    world.assert_runs(new)
