"""What the user keeps on the board: an update moves what would be imported in a module's place, and touches nothing else."""

from __future__ import annotations

from tests.support.world import PATIENCE_S, World, assert_tree, changed, tree_of

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
