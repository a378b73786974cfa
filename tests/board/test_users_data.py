"""What the user keeps on the board: an update moves what would be imported in a module's place, and touches nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from iotctl import mpy
from sim.board import Board
from tests.support.caller import QUICK
from tests.support.world import (
    NEVER,
    PATIENCE_S,
    Changes,
    Handler,
    Release,
    Tree,
    World,
    assert_tree,
    changed,
    noise,
    state_of,
    tree_of,
)

KEPT = {"main/notes.txt": b"beside main.py", "boot/x": b"1", "www/app/data": b"beside app.js", "log-2/x": b"beside log-2.py"}
IN_THE_WAY = {"tool/data.bin": b"precious", "tool/deep/er.txt": b"more", "other.py": b"print('mine')\n", "lib/thing/x": b"y"}
CODE = {"tool.py": b"A = 1\n", "log-2.py": b"", "lib/thing.py": b"B = 1\n", "www/app.js": b"//"}


def test_what_stands_in_a_modules_way_is_moved_and_nothing_else_is_touched(world: World) -> None:
    old = world.release("1.0.0")
    module = {"other.mpy": old.files["iot_platform/module.mpy"]}
    new = world.release("1.1.0", {**CODE, **module})
    world.flash(old, {**KEPT, **IN_THE_WAY, "moved/tool/data.bin": b"of an earlier update"})
    world.offer(new)
    world.board.start()
    world.wait_confirmed(new, 0)
    moved = {
        "moved/tool/data.bin": b"of an earlier update",
        "moved.2/tool/data.bin": b"precious",
        "moved/tool/deep/er.txt": b"more",
        "moved/other.py": b"print('mine')\n",
        "moved/lib/thing/x": b"y",
    }
    said = "\n".join(world.board.lines)
    assert "/tool/data.bin was in the way of version 1.1.0: it is /moved.2/tool/data.bin now" in said
    assert_tree(world.stop(), tree_of(changed(new.files, {**KEPT, **moved})))


def test_what_was_moved_is_back_when_the_update_is_undone(world: World) -> None:
    """Also what was in a folder that has become a file: it has a place of its own in the backup, and not that of entry 0."""
    old = world.release("1.0.0", {"aaa": b"old", "spot/x": b"x"})
    bad = world.release("1.1.0", {**CODE, "main.py": b"1 // 0\n", "aaa": b"new", "spot": b"a file"})
    mine = {**KEPT, **IN_THE_WAY, "spot/mine.txt": b"mine"}
    world.flash(old, mine)
    world.offer(bad)
    world.board.start()
    world.board.expect("ota: rolled back from 1.1.0", PATIENCE_S)
    world.board.expect("failed here before|ota: next check in", 60)
    assert_tree(world.stop(), tree_of(changed(old.files, mine)))


def test_a_file_of_the_same_name_is_moved_too_and_nothing_stands_in_the_way_of_that(world: World) -> None:
    """No release wrote it if none before this one lists it. A file `moved` is the user's as well; the way back is whole."""
    world.ota["keep_previous"] = True
    old, mine = world.release("1.0.0"), {"moved": b"a file", "settings.json": b"mine", "equal.txt": b"=", "tool/data.bin": b"1"}
    new = world.release("1.1.0", {"settings.json": b"{}", "equal.txt": b"=", "tool.py": b"A = 1\n"})
    world.flash(old, mine)
    world.offer(new)
    world.board.start()
    world.wait_confirmed(new, 0)
    assert "/settings.json was in the way of version 1.1.0: it is /moved.2/settings.json now" in "\n".join(world.board.lines)
    moved = {"moved": b"a file", "moved.2/settings.json": b"mine", "moved.2/tool/data.bin": b"1"}
    world.until(lambda found: ".ota/previous/journal" in found.files)
    assert_tree(world.peek(), tree_of(changed(new.files, moved)), previous=True)
    since = world.type("ota rollback")
    world.wait_confirmed(old, since)
    kept = {path: data for path, data in mine.items() if path == "equal.txt"}
    assert_tree(world.stop(), tree_of(changed(old.files, {**moved, **kept})))


def test_a_way_back_brings_a_file_whose_name_was_moved_once(world: World) -> None:
    """Else it would be neither version. What the user has written in its place since then is moved as well."""
    world.ota["keep_previous"] = True
    old, new = world.release("1.0.0", {"other.py": b"A = 1\n"}), world.release("1.1.0")
    world.flash(old, {"moved/other.py": b"of an earlier update"})
    world.offer(new)
    world.board.start()
    world.wait_confirmed(new, 0)
    world.until(lambda found: ".ota/previous/journal" in found.files)
    world.stop()
    world.board.write({"other.py": b"since then"})
    since = world.now()
    world.board.start()
    world.board.expect("ota: next check in", PATIENCE_S, since)  # the start's own job is over
    since = world.type("ota rollback")
    world.wait_confirmed(old, since)
    assert_tree(world.stop(), old.with_files({"moved/other.py": b"of an earlier update", "moved.2/other.py": b"since then"}))


# -- on FAT, where a name in another case is the same file


@pytest.fixture
def fat(world: World) -> World:
    world.board = Board(world.folder / "fat.img", like="pico-w", fs="fat")
    return world


RENAMED: Changes = {"data/notes.txt": b"the release's", "tool.mpy": mpy.compile_source(b"A = 1\n", "tool.py")}
IN_ANOTHER_CASE = {"data/Notes.txt": b"precious", "Tool.py": b"A = 'mine'\n"}


def test_on_fat_a_users_file_of_the_same_name_in_another_case_is_moved(fat: World) -> None:
    """Also one that would be imported in a module's place."""
    old = fat.release("1.0.0", {**QUICK, "data/x": b"1"})
    new = fat.release("1.1.0", {**QUICK, **RENAMED, "data/x": b"2"})
    fat.flash(old, IN_ANOTHER_CASE)
    fat.offer(new)
    fat.board.start()
    fat.wait_confirmed(new, 0)
    said = "\n".join(fat.board.lines)
    for path in IN_ANOTHER_CASE:
        assert f"/{path} was in the way of version 1.1.0: it is /moved/{path} now" in said
    assert_tree(fat.stop(), new.with_files({f"moved/{path}": data for path, data in IN_ANOTHER_CASE.items()}))


def test_on_fat_a_users_file_of_the_same_name_in_another_case_is_back_when_the_update_is_undone(fat: World) -> None:
    old = fat.release("1.0.0", {**QUICK, "data/x": b"1"}, max_boot_attempts=1)
    bad = fat.release("1.1.0", {**QUICK, **RENAMED, "data/x": b"2", "main.py": b"import machine\nmachine.reset()\n"})
    fat.flash(old, IN_ANOTHER_CASE)
    fat.offer(bad)
    fat.board.start()
    fat.board.expect("ota: rolled back from 1.1.0", PATIENCE_S)
    fat.until(lambda found: ".ota/undone" not in found.files)
    assert_tree(fat.stop(), old.with_files(IN_ANOTHER_CASE))


@pytest.mark.parametrize("after", [b"new content", b"old"], ids=["with another content", "with the same content"])
def test_on_fat_a_releases_own_file_gets_its_name_in_another_case(fat: World, after: bytes) -> None:
    """The list of each version names it once, in its own way; the board has exactly the new one's."""
    old = fat.release("1.0.0", {**QUICK, "data/Notes.txt": b"old"})
    new = fat.release("1.1.0", {**QUICK, "data/notes.txt": after})
    fat.flash(old)
    fat.offer(new)
    fat.board.start()
    fat.wait_confirmed(new, 0)
    fat.assert_runs(new)


@pytest.mark.parametrize("after", [b"new content", b"old"], ids=["with another content", "with the same content"])
def test_on_fat_a_releases_own_file_has_its_old_name_again_when_the_update_is_undone(fat: World, after: bytes) -> None:
    old = fat.release("1.0.0", {**QUICK, "data/Notes.txt": b"old"}, max_boot_attempts=1)
    bad = fat.release("1.1.0", {**QUICK, "data/notes.txt": after, "main.py": b"import machine\nmachine.reset()\n"})
    fat.flash(old)
    fat.offer(bad)
    fat.board.start()
    fat.board.expect("ota: rolled back from 1.1.0", PATIENCE_S)
    fat.until(lambda found: ".ota/undone" not in found.files)
    assert_tree(fat.stop(), old.tree)


# -- what the profile has come to exclude since the update was staged


OWN = {"www/mine.txt": b"precious"}
PROFILE = ["profile.json"]  # which its user edits


def edit(world: World, release: Release, **ota: Any) -> Tree:
    """Somebody writes a file where releases have one, and keeps updates away from it. What the board has after `release` then."""
    profile = world.profile(excluded_files=[*PROFILE, *OWN], **ota)
    world.board.write({**OWN, "profile.json": profile.raw})
    return tree_of(changed(release.files, {**OWN, "profile.json": profile.raw}))


def test_a_file_that_was_excluded_since_it_was_staged_is_left_alone(world: World) -> None:
    old, new = (
        world.release(version, {**QUICK, "www/mine.txt": version.encode()}, window=NEVER, excluded_files=PROFILE)
        for version in ("1.0.0", "1.1.0")
    )
    world.flash(old)
    world.offer(new)
    world.board.start()
    world.board.expect("version 1.1.0 waits: window", PATIENCE_S)
    world.until(lambda found: {"ready", "next"} <= set(state_of(found)))
    world.board.stop()
    wanted = edit(world, new, window=NEVER)
    since = world.now()
    world.board.start()
    world.board.expect("version 1.1.0 waits: window", PATIENCE_S, since)
    world.board.expect("wifi: connected", PATIENCE_S, since)
    asked = world.downloads("1.1.0.tar.gz")
    world.update_to(new, "ota update")
    assert world.downloads("1.1.0.tar.gz") == asked, "what was staged was installed"
    assert_tree(world.stop(), wanted)


def test_a_file_that_was_excluded_while_a_download_was_interrupted_is_left_alone(world: World) -> None:
    """It came first, and lies in the stage already when the download goes on."""
    old, new = (
        world.release(version, {**QUICK, "www/mine.txt": version.encode(), "www/part": noise(n, 40_000)}, excluded_files=PROFILE)
        for n, version in enumerate(("1.0.0", "1.1.0"))
    )

    def hangs_up(request: Handler) -> bool:
        """After the first of two files."""
        if not request.path.endswith("1.1.0.tar.gz") or len(world.requested("1.1.0.tar.gz")) != 1:
            return False
        data = request._find()
        assert data is not None
        request.send_half(data, 20_000)
        return True

    world.flash(old)
    world.offer(new)
    world.server.trick = hangs_up
    world.board.start()
    world.board.expect("connection_lost", PATIENCE_S)
    world.board.stop()
    assert "ota: staged www/mine.txt" in world.board.console()
    wanted = edit(world, new)
    since = world.now()
    world.board.start()
    world.board.expect("wifi: connected", PATIENCE_S, since)
    world.type("ota check")
    world.wait_confirmed(new, since)
    assert "staged www/mine.txt" not in world.lines_since(since)
    assert_tree(world.stop(), wanted)
