"""What the user keeps on the board: an update moves what would be imported in a module's place, and touches nothing else."""

from __future__ import annotations

from tests.support.world import World, assert_tree, changed, tree_of

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
        "moved/tool/data.bin.2": b"precious",
        "moved/tool/deep/er.txt": b"more",
        "moved/other.py": b"print('mine')\n",
        "moved/lib/thing/x": b"y",
    }
    said = "\n".join(world.board.lines)
    assert "/tool/data.bin would be imported in place of a module: it is /moved/tool/data.bin.2 now" in said
    assert_tree(world.stop(), tree_of(changed(new.files, {**KEPT, **moved})))


def test_what_was_moved_is_back_when_the_update_is_undone(world: World) -> None:
    old = world.release("1.0.0")
    bad = world.release("1.1.0", {**CODE, "main.py": b"1 // 0\n"})
    world.flash(old, {**KEPT, **IN_THE_WAY})
    world.offer(bad)
    world.board.start()
    world.board.expect("ota: rolled back from 1.1.0", 60)
    world.board.expect("failed here before|ota: next check in", 60)
    assert_tree(world.stop(), tree_of(changed(old.files, {**KEPT, **IN_THE_WAY})))
