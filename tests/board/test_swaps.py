"""Files that become folders and back, and files with the names of built-in modules."""

from __future__ import annotations

import pytest

from tests.support.world import USERS, Changes, World, assert_tree

HOUSE = b"def words():\n    return 'house of %s'\n"
LAMP = b"""
from iot_platform.module import Module as Base
from modules.lamp import house

class Module(Base):
    name = "lamp"
    def start(self):
        self.platform.log("lamp:", house.words())
"""
BROKEN = LAMP + b'        raise ValueError("broken on purpose")\n'
MODULES = ("serial_log", "wifi", "ota", "lamp")

pytestmark = pytest.mark.parametrize("like", ["esp32"])  # whose console is there while the loader runs
FILE: Changes = {
    "modules/lamp/__init__.py": LAMP,
    "modules/lamp/house.py": HOUSE % b"one file",
    "www/page": b"a file",
    "deep/a/b/c.txt": b"deep",
}
FOLDER: Changes = {
    "modules/lamp/__init__.py": LAMP,
    "modules/lamp/house/__init__.py": HOUSE % b"a folder",
    "modules/lamp/house/inner/room.py": b"",
    "www/page/index.html": b"a folder",
    "www/page/img/x": b"x",
    "deep/a": b"a file now",
}


@pytest.mark.parametrize(("before", "after"), [(FILE, FOLDER), (FOLDER, FILE)], ids=["file to folder", "folder to file"])
def test_a_file_becomes_a_folder_and_back(world: World, before: Changes, after: Changes) -> None:
    """Updated, undone by a failed trial, updated again, and rolled back by hand: the tree is always exactly one of the two."""
    old = world.release("1.0.0", before, modules=MODULES, keep_previous=True)
    bad = world.release("1.1.0", {**after, "modules/lamp/__init__.py": BROKEN}, modules=MODULES, keep_previous=True)
    good = world.release("1.2.0", after, modules=MODULES, keep_previous=True)
    world.flash(old)
    world.offer(bad)
    since = world.now()
    world.board.start()
    assert "broken on purpose" in world.wait_rolled_back(bad, "module_failed", since)
    assert_tree(world.stop(), old.tree)
    world.offer(good)
    since = world.start_and_update_to(good)
    world.board.expect("lamp: house of", 1, since)
    world.assert_runs(good, previous=True)
    since = world.now()
    world.boot()
    since = world.type("ota rollback")
    world.wait_confirmed(old, since)
    assert_tree(world.stop(), old.tree)


def test_names_of_built_in_modules_where_they_are_allowed(world: World) -> None:
    names: Changes = {
        f"{folder}/{name}.py": b"raise SystemExit('imported in place of a built-in module')\n"
        for folder in ("modules/lamp", "www", "lib/stuff")
        for name in ("os", "json", "machine", "boot", "ota_boot", "time", "hashlib")
    }
    lamp = LAMP.replace(b"from modules.lamp import house", b"import os, json, time, hashlib, machine").replace(
        b"house.words()", b"os.getcwd(), json.dumps([1])"
    )
    old = world.release("1.0.0", {"modules/lamp/__init__.py": lamp}, modules=MODULES)
    new = world.release("1.1.0", {"modules/lamp/__init__.py": lamp, **names}, modules=MODULES)
    world.flash(old)
    world.offer(new)
    since = world.now()
    world.board.start()
    world.wait_confirmed(new, since)
    world.board.expect(r"lamp: / \[1\]", 1, since)
    world.assert_runs(new)


def test_the_loader_uses_built_in_modules_only(world: World) -> None:
    """Files put on the flash by hand break the runtime, but neither the loader nor what it undoes."""
    old, new = world.release("1.0.0"), world.release("1.1.0", {"www/a": b"new"})
    world.flash(old)
    world.offer(new)
    since = world.now()
    world.board.start()
    world.board.expect("ota_boot: trial of 1.1.0", 30, since)
    world.board.stop()
    trap = b"print('the trap was imported')\nraise ImportError('trap')\n"
    names = ("os", "json", "time", "hashlib", "binascii", "machine", "sys", "errno", "micropython")
    traps = {f"{folder}{name}.py": trap for folder in ("", "lib/") for name in names}
    world.board.write(traps)
    lives = [world.board.boot_once(only_boot=True, cause="hard").output for _attempt in range(3)]
    assert not any("trap" in output or "failed" in output for output in lives), lives
    assert "ota_boot: trial of 1.1.0 boot 3" in lives[1]
    assert "ota_boot: undoing 1.1.0" in lives[2]
    found = world.board.read()
    assert found.without(".ota", *USERS).files == {**old.files, **traps}
    assert ".ota/undone" in found.files
