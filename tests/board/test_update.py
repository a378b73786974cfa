"""The main job: a newer release on a server is found, checked, installed, tried and kept; the tree is then exactly it."""

from __future__ import annotations

from typing import Any

import pytest

from iotctl import keys
from tests.support.world import PATIENCE_S, SHORT_NAME, USERS, World, assert_told, owner, state_of

LAMP = b"""
from iot_platform.module import Module as Base

class Module(Base):
    name = "lamp"
    def start(self):
        self.platform.log("lamp: %s")
"""
WITH_LAMP = ("serial_log", "wifi", "ota", "lamp")


@pytest.mark.parametrize("like", ["pico-w", "esp32"])
def test_a_signed_update_is_taken_tried_and_confirmed(world: World) -> None:
    red = {"modules/lamp/__init__.py": LAMP % b"red", "modules/old/gone.txt": b"old"}
    green = {"modules/lamp/__init__.py": LAMP % b"green", "www/new/index.html": b"new" * 3000}
    old, new = world.release("1.0.0", red, modules=WITH_LAMP), world.release("1.1.0", green, modules=WITH_LAMP)
    world.flash(old, {"prefs.json": b'{"ota.note": "mine"}'})
    world.offer(old)
    world.boot()
    world.offer(new)
    since = world.update_to(new)
    story = world.lines_since(since)
    steps = (
        r"version 1\.1\.0 is available",
        r"verified: \d+ files, signed",
        r"downloading \d+% \(",
        r"staged www/new/index\.html",
        r"ready to install",
        r"committed: installing 1\.1\.0",
        r"loader: applying 1\.1\.0",
        r"loader: trial of 1\.1\.0 boot 1",
        r"lamp: green",
        r"confirmed: version 1\.1\.0 stays",
    )
    assert_told(story, steps)
    assert "lamp: red" not in story
    since = world.type("values")
    world.board.expect(r"ota/status = confirmed", PATIENCE_S, since)
    world.board.expect(r"version = 1\.1\.0", PATIENCE_S, since)
    tree = world.assert_runs(new)
    assert b'"ota.note": "mine"' in tree.files["prefs.json"]
    state = state_of(tree)
    assert state["floor"] == new.sequence and state["last"]["result"] == "confirmed" and "part" not in state
    assert world.board.restarts[0] == "hard" and world.board.restarts.count("hard") == 1


def test_an_etag_is_asked_about_every_other_time_and_never_by_a_person(world: World) -> None:
    """Some servers' ETags never change: the update would be missed for ever."""
    old = world.release("1.0.0", check_interval_s=10)
    world.flash(old)
    world.offer(old)
    world.boot()
    since = world.type("ota check")
    world.board.expect("ota: up to date: running 1.0.0", PATIENCE_S, since)
    for _n in range(2):  # nobody asks
        since = world.now()
        world.board.expect("ota: up to date: running 1.0.0", PATIENCE_S, since)
    asked = world.requested("stable.json")
    assert [request.status for request in asked[:4]] == [200, 200, 304, 200]
    assert world.requested("1.0.0.tar.gz") == []
    world.assert_runs(old)


def test_a_board_follows_the_channel_it_was_told(world: World) -> None:
    old, new = world.release("1.0.0"), world.release("1.1.0")
    world.flash(old)
    world.offer(old)
    world.offer(new, "canary")
    world.boot()
    world.type("ota channel canary")
    world.update_to(new)
    world.assert_runs(new)


def test_versions_are_numbers_and_a_missing_one_is_no_obstacle(world: World) -> None:
    old, new = world.release("1.9"), world.release("1.10", {"version": b"1.10\n"})
    world.settled(old, new)
    world.update_to(new)
    world.stop()
    newer = world.release("1.11")
    files = {path: data for path, data in new.files.items() if path != "version"}
    world.board.format()
    world.board.write({**files, ".ota/release": new.bundle.listing})
    world.offer(newer)
    since = world.now()
    world.board.start()
    world.wait_confirmed(newer, since)
    world.board.expect("running unknown!", 1, since)
    world.assert_runs(newer)


def test_excluded_files_stay_and_deletions_happen(world: World) -> None:
    settings: dict[str, Any] = {"excluded_files": ["/mine.txt", "www/theirs"], "delete": ["junk", "one.txt"]}
    old = world.release("1.0.0", {"mine.txt": b"1", "www/theirs/a": b"1", "www/ours": b"1"}, **settings)
    new = world.release("1.1.0", {"mine.txt": b"2", "www/theirs/a": b"2", "www/ours": b"2"}, **settings)
    excluded: dict[str, bytes | None] = {"mine.txt": b"edited", "www/theirs/a": b"edited", "www/theirs/b": b"own"}
    own = {"junk/a/b.txt": b"junk", "junk/c.txt": b"junk", "one.txt": b"junk", "stays.txt": b"own"}
    world.flash(old, {**{path: data for path, data in excluded.items() if data}, **own})
    world.offer(old)
    world.boot()
    world.offer(new)
    world.update_to(new)
    found = world.stop()
    assert found.without(".ota", *USERS).files == {
        **new.files,
        "mine.txt": b"edited",
        "www/theirs/a": b"edited",
        "www/theirs/b": b"own",
        "stays.txt": b"own",
    }
    assert "junk" not in found.folders
    assert bytes(32) in found.files[".ota/release"], "no digest of what the profile excludes"


def test_a_rollback_by_hand_restores_deleted_files_and_holds_what_it_left(world: World) -> None:
    settings: dict[str, Any] = {"keep_previous": True, "delete": ["junk"]}
    old = world.release("1.0.0", {"www/a": b"old", "www/old": b"old"}, **settings)
    new = world.release("1.1.0", {"www/a": b"new", "css/new": b"new"}, **settings)
    world.flash(old, {"junk/a/b.txt": b"junk", "junk/c.txt": b""})
    world.offer(old)
    world.boot()
    world.offer(new)
    world.update_to(new)
    world.assert_runs(new, previous=True)
    world.boot()
    since = world.type("ota rollback")
    world.board.expect("committed: going back to 1.0.0", PATIENCE_S, since)
    world.wait_confirmed(old, since)
    found = world.peek()
    assert found.without(".ota", *USERS).files == {**old.files, "junk/a/b.txt": b"junk", "junk/c.txt": b""}
    for command in ("ota check", "ota update"):
        since = world.type(command)
        world.board.expect("up to date: running 1.0.0", PATIENCE_S, since)
    world.board.stop()
    world.boot()
    world.update_to(new, "ota force")
    world.assert_runs(new, previous=True)


def test_a_rollback_without_a_kept_version_is_refused(world: World) -> None:
    old = world.release("1.0.0")
    world.flash(old)
    world.offer(old)
    world.boot()
    world.refused("no_update", "ota rollback")
    world.assert_runs(old)


# -- the `latest` protocol


def test_the_latest_protocol_from_end_to_end(open_world: World) -> None:
    world = open_world
    old = world.release("1.0.0")
    new = world.release("1.1.0", {"www/a": b"new" * 1000})
    world.flash(old)
    world.offer(new, legacy=True)
    world.channel_file().unlink()
    since = world.now()
    world.board.start()
    world.wait_confirmed(new, since)
    world.board.expect("no channel file and no pinned key: using the unsigned `latest` protocol", 1, since)
    found = world.stop()
    assert found.without(".ota", *USERS).files == new.files
    assert found.without(".ota").folders == new.tree.folders
    assert "floor" not in state_of(found)


def test_the_latest_protocol_is_not_for_boards_with_a_key(world: World) -> None:
    old, new = world.release("1.0.0"), world.release("1.1.0")
    world.flash(old)
    world.offer(new)
    world.channel_file().unlink()
    (world.site / SHORT_NAME / "latest").write_text("1.1.0;1.1.0.tar.gz;")
    world.boot(r"check failed: .* \(http_status\)")
    assert world.requested("latest") == []
    world.assert_runs(old)


def test_the_latest_protocol_is_over_once_a_bundle_was_confirmed(open_world: World) -> None:
    world = open_world
    old, new, newer = (world.release(version) for version in ("1.0.0", "1.1.0", "1.2.0"))
    world.flash(old)
    world.offer(new)
    since = world.now()
    world.board.start()
    world.wait_confirmed(new, since)
    world.offer(newer, legacy=True)
    world.channel_file().unlink()
    world.refused("http_status")
    assert world.requested("latest") == []
    world.assert_runs(new)


def test_keys_are_changed_by_a_release_that_pins_both(world: World) -> None:
    later = keys.generate()
    both = [keys.jwk(owner()), keys.jwk(later)]
    old, new = world.release("1.0.0"), world.release("1.1.0", public_keys=both)
    world.flash(old)
    world.offer(new)
    since = world.now()
    world.board.start()
    world.wait_confirmed(new, since)
    world.key = later
    last = world.release("1.2.0")
    world.offer(last)
    world.update_to(last)
    world.assert_runs(last)
