"""Every method that other modules call, called from a module on a running board: its name, its arguments, what it returns."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from tests.support import caller as callers
from tests.support.caller import FILES, MODULES, call
from tests.support.world import ARCHIVE, PATIENCE_S, Handler, Release, Slowly, World, noise


def release(world: World, version: str, **files: bytes) -> Release:
    return world.release(version, {**FILES, **files}, modules=MODULES, auto_install=False)


@pytest.fixture
def caller(world: World) -> World:
    """A board that runs 1.0.0 and installs nothing unasked."""
    old = release(world, "1.0.0")
    world.flash(old, {"junk/a/b.txt": b"1", "junk/c.txt": b"2", "one.txt": b"3"})
    world.offer(old)
    world.boot()
    return world


def test_what_needs_no_server(caller: World) -> None:
    assert call(caller, "ota.load_ota_cfg()") is True
    assert call(caller, "ota.local_version()") == "1.0.0"
    since = caller.now()
    assert call(caller, "ota.check_free_space(1000)") is True
    caller.board.expect(r"free disk \d+ bytes, free memory \d+ bytes", PATIENCE_S, since)
    assert call(caller, "platform.bus.get('freedisk')") > 300_000 and call(caller, "platform.bus.get('freeram')") > 1000
    assert call(caller, "ota.check_free_space(100 * 1024 * 1024)") is False
    assert call(caller, "ota.check_free_space('much')") is False
    status = call(caller, "ota.status()")
    assert status["state"] == "up_to_date" and status["version"] == "1.0.0" and status["channel"] == "stable"
    assert status["job"] is None and status["previous"] is None
    assert call(caller, "ota.set_channel('../x')") == ["not_allowed"]
    assert call(caller, "ota.confirm()") is False and call(caller, "ota.cancel()") is False


def test_recursive_delete_deletes_and_refuses(caller: World) -> None:
    assert call(caller, "ota.recursive_delete('/junk')") is True
    assert call(caller, "ota.recursive_delete('one.txt')") is True
    assert call(caller, "ota.recursive_delete('junk')") is False
    for path in ("/", "", ".", "..", "../x", "a/../main.py", "a//b"):
        assert call(caller, f"ota.recursive_delete({path!r})") in (["bad_path"], ["protected_path"]), path
    for path in ("boot.py", "BOOT.py", "ota_boot.py", "main.py", "version", "prefs.json", ".ota", ".ota/state.0", "iot_platform"):
        assert call(caller, f"ota.recursive_delete({path!r})") == ["protected_path"], path
    found = caller.stop()
    assert not [path for path in found.files if path.startswith(("junk", "one.txt"))] and "junk" not in found.folders
    assert {"main.py", "version", "boot.py"} <= set(found.files)


def test_the_blocking_methods_check_download_and_install(caller: World) -> None:
    assert call(caller, "ota.check_for_updates()") is False
    assert call(caller, "ota.install_new_firmware()") is False, "nothing was downloaded"
    new = release(caller, "1.1.0")
    caller.offer(new)
    assert call(caller, "ota.check_for_updates()") is True
    assert call(caller, "ota.state") == "ready" and call(caller, "ota.status()")["available"] == "1.1.0"
    since = caller.now()
    assert call(caller, "ota.install_new_firmware(quiet=True)") is True
    caller.wait_confirmed(new, since)
    assert "staged" not in caller.lines_since(since)
    caller.assert_runs(new, {"junk/a/b.txt": b"1", "junk/c.txt": b"2", "one.txt": b"3"})


def test_check_for_updates_without_a_version_check_takes_the_same_version_again(caller: World) -> None:
    assert call(caller, "ota.check_for_updates(version_check=False)") is True
    assert [request.status for request in caller.requested("1.0.0.tar.gz")] == [206], "the list: nothing is needed"


def test_force_update_returns_a_text(caller: World) -> None:
    new = release(caller, "1.1.0")
    caller.offer(new)
    since = caller.now()
    assert call(caller, "ota.force_update()") == "restarting to install version 1.1.0"
    caller.wait_confirmed(new, since)
    caller.server.close()
    assert call(caller, "ota.force_update()").startswith("not updated: ")


def test_a_bundle_that_came_some_other_way_is_installed(caller: World) -> None:
    new = release(caller, "1.1.0")
    caller.board.stop()
    caller.board.write({ARCHIVE: new.archive})
    since = caller.now()
    caller.boot()
    assert f"/{ARCHIVE} waits for `ota install`" in caller.lines_since(since)
    assert call(caller, "ota.request_install()") is True
    caller.wait_confirmed(new, since)
    assert caller.requested("1.1.0.tar.gz") == []


def test_a_cancelled_download_is_resumed(caller: World) -> None:
    new = release(caller, "1.1.0", **{"www/a": noise(1, 30_000), "www/b": noise(2, 150_000)})
    caller.offer(new)
    caller.server.trick = Slowly(6)
    since = caller.type("ota update")
    caller.board.expect(r"downloading [67]\d%", PATIENCE_S, since)
    assert call(caller, "ota.request_check()") is False, "one job at a time"
    assert call(caller, "ota.cancel()") is True
    caller.board.expect("ota: cancelled", PATIENCE_S, since)
    caller.server.trick = None
    before = len(caller.requested("1.1.0.tar.gz"))
    since = caller.now()
    assert call(caller, "ota.check_for_updates()") is True
    assert "staged www/a" not in caller.lines_since(since)
    assert sum(request.sent for request in caller.requested("1.1.0.tar.gz")[before:]) < 110_000
    assert call(caller, "ota.install_new_firmware()") is True
    caller.wait_confirmed(new, since)
    caller.assert_runs(new, {"junk/a/b.txt": b"1", "junk/c.txt": b"2", "one.txt": b"3"})


def test_what_is_committed_is_not_cancelled(caller: World) -> None:
    new = release(caller, "1.1.0")
    caller.offer(new)
    since = caller.now()
    assert call(caller, "ota.request_update(), committed(ota), ota.cancel()") == (True, "installing", False)
    caller.wait_confirmed(new, since)
    caller.assert_runs(new, {"junk/a/b.txt": b"1", "junk/c.txt": b"2", "one.txt": b"3"})


def test_a_restart_waits_for_a_busy_module_and_says_for_whom(caller: World) -> None:
    new = release(caller, "1.1.0")
    caller.offer(new)
    caller.type("work the door is moving")
    since = caller.type("ota update")
    caller.board.expect("committed: installing 1.1.0", PATIENCE_S, since)
    assert call(caller, "platform.bus.get('restart/waiting_for')") == "caller: the door is moving"
    assert "loader: applying" not in caller.lines_since(since)
    caller.type("work")
    caller.wait_confirmed(new, since)


def test_a_trial_is_confirmed_by_hand(caller: World) -> None:
    new = release(caller, "1.1.0")
    caller.offer(new)
    since = caller.type("ota update")
    caller.board.expect("ota: version 1.1.0 is on trial", PATIENCE_S, since)
    caller.type("ota confirm")
    caller.wait_confirmed(new, since)
    assert call(caller, "ota.confirm()") is False


# -- in a trial


@pytest.fixture
def on_trial(world: World) -> World:
    """A board on which 1.1.0 is on trial for as long as the test needs it: from then on the server is away."""
    old, new = (callers.release(world, version, confirm_timeout_s=600) for version in ("1.0.0", "1.1.0"))
    world.flash(old)
    world.offer(new)

    def away(request: Handler) -> bool:
        if not (request.path.endswith("stable.json") and world.requested("1.1.0.tar.gz")):
            return False
        request.reply(HTTPStatus.SERVICE_UNAVAILABLE, {}, b"")
        return True

    world.server.trick = away
    world.board.start()
    world.board.expect("trial: the check did not succeed yet", PATIENCE_S)
    return world


def test_a_rollback_ends_a_trial_at_once_however_busy_a_module_is(on_trial: World) -> None:
    """The restart waits for the module; nothing confirms the version meanwhile, neither the trial nor somebody's hand."""
    world = on_trial
    world.type("work the door is moving")
    since = world.now()
    assert call(world, "ota.rollback()") is True
    assert call(world, "ota.state, ota.job, ota.confirm()") == ("rebooting", None, False)
    assert call(world, "ota_boot.confirm()") is None
    assert call(world, "platform.bus.get('restart/waiting_for')") == "caller: the door is moving"
    world.type("work")
    found = world.board.expect("rolled back from 1.1.0 to 1.0.0: .*|confirmed: version", PATIENCE_S, since)
    assert found[0].endswith("(by_hand)")


def test_a_confirmation_by_hand_that_finds_no_memory_comes_to_its_end_all_the_same(on_trial: World) -> None:
    """The loader knows that the version stays; what is left to do is done as soon as there is memory."""
    world = on_trial
    since = world.now()
    assert "MemoryError" in call(world, "no_memory_once(), ota.confirm()")[0]
    world.board.expect("confirmed: version 1.1.0 stays", PATIENCE_S, since)
    assert call(world, "ota.state, ota_boot.state") == ("confirmed", "")
