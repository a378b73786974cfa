"""How often a board asks its server: an interval that survives restarts, growing pauses, and what the server asks for."""

from __future__ import annotations

import email.utils
import time
from http import HTTPStatus

import pytest

from tests.support.world import PATIENCE_S, Handler, World


@pytest.fixture(autouse=True)
def hourly(world: World) -> None:
    world.ota["check_interval_s"] = 3600


def restarted(world: World) -> int:
    """Restart by the console, and wait for the plan that the board has then: seconds to the next check."""
    since = world.type("reset")
    return int(world.board.expect(r"ota: next check in about (\d+) s", PATIENCE_S, since).group(1))


def away(request: Handler) -> bool:
    date = email.utils.formatdate(time.time() + 1800, usegmt=True)
    request.reply(HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": date}, b"")
    return True


def broken(request: Handler) -> bool:
    request.reply(HTTPStatus.INTERNAL_SERVER_ERROR, {}, b"")
    return True


def test_restarts_and_reconnects_do_not_make_a_board_ask_more_often(world: World) -> None:
    old = world.release("1.0.0")
    world.flash(old)
    world.offer(old)
    world.boot()
    for _restart in range(2):
        assert 3600 * 7 / 8 - PATIENCE_S <= restarted(world) <= 3600
    since = world.now()
    world.board.wifi = "off"
    world.board.expect("wifi: lost", PATIENCE_S, since)
    world.board.wifi = "ok"
    world.board.expect("wifi: connected", PATIENCE_S, since)
    world.board.expect("ota status", PATIENCE_S, world.type("ota status"))
    assert len(world.server.requests) == 1
    world.assert_runs(old)


def test_retry_after_is_honoured_and_a_restart_does_not_forget_it(world: World) -> None:
    old = world.release("1.0.0")
    world.flash(old)
    world.server.trick = away
    world.boot(r"next try in about (1[789]\d\d|20[012]\d) s$")
    assert restarted(world) >= 1800 - PATIENCE_S
    assert len(world.server.requests) == 1
    world.assert_runs(old)


def test_the_pause_grows_with_each_failure_also_across_a_restart(world: World) -> None:
    old = world.release("1.0.0")
    world.flash(old)
    world.server.trick = broken
    world.boot(r"next try in about 3\d s$")
    world.board.expect(r"next try in about 6\d s$", PATIENCE_S, world.type("ota check"))
    restarted(world)
    world.board.expect(r"next try in about 1[23]\d s$", PATIENCE_S, world.type("ota check"))
    world.server.trick = None
    world.offer(old)
    world.board.expect("up to date", PATIENCE_S, world.type("ota check"))
    world.server.trick = broken
    world.board.expect(r"next try in about 3\d s$", PATIENCE_S, world.type("ota check"))
    world.assert_runs(old)


def test_an_interrupted_update_goes_on_soon_after_the_restart(world: World) -> None:
    old, new = world.release("1.0.0"), world.release("1.1.0", {"www/a": b"a"})
    world.settled(old, new)
    since = world.type("ota check")
    world.board.expect("ota: verified", PATIENCE_S, since)
    world.board.power_cycle()
    world.wait_confirmed(new, since)
    world.assert_runs(new)


def test_a_confirmed_update_has_asked_already(world: World) -> None:
    old, new = world.release("1.0.0"), world.release("1.1.0", {"www/a": b"a"})
    world.settled(old, new)
    world.update_to(new)
    asked = len(world.server.requests)
    assert restarted(world) >= 3600 * 7 / 8 - PATIENCE_S
    assert len(world.server.requests) == asked
    world.assert_runs(new)
