"""Damaged files of the running version are found and repaired, and plan() says what an update would do without doing it."""

from __future__ import annotations

import json
import re
from typing import Any

from iotctl import archive
from tests.support.world import PATIENCE_S, World, assert_tree

_ASK = b"""
from iot_platform.module import Module as Base
import json

class Module(Base):
    name = "asker"
    def on_command(self, command):
        if command.path == "ask":
            ota = self.platform.module("ota")
            self.platform.log("asker:", json.dumps(getattr(ota, command.payload)()))
"""
_MODULES = ("serial_log", "wifi", "ota", "asker")
ASKER = {"modules/asker/__init__.py": _ASK}
PAGE = b"<p>hello</p>\n" * 40


def ask(world: World, method: str) -> Any:
    """What a blocking method returns to another module."""
    since = world.type(f"ask {method}")
    return json.loads(world.board.expect("asker: (.*)$", PATIENCE_S, since)[1])


def test_damaged_files_are_found_and_repaired_from_the_bundle(world: World) -> None:
    files = {"www/a.html": PAGE, "www/b.html": PAGE, "www/mine.txt": b"1", **ASKER}
    settings: dict[str, Any] = {"modules": _MODULES, "excluded_files": ["www/mine.txt"]}
    old = world.release("1.0.0", files, **settings)
    new = world.release("1.1.0", {**files, "www/a.html": PAGE + b"new"}, **settings)
    world.settled(old, new)
    world.update_to(new)
    world.board.stop()
    world.board.write({"www/b.html": PAGE[:-2] + b"!\n", "www/mine.txt": b"edited"})
    world.boot()
    since = world.type("ota verify")
    world.board.expect("damaged: www/b.html", PATIENCE_S, since)
    world.wait_confirmed(new, since)
    story = world.lines_since(since)
    assert set(re.findall("damaged: (.*)", story)) == {"www/b.html"} and story.count("staged ") == 1
    whole = (world.site / "sim-board" / "1.1.0.tar.gz").stat().st_size
    assert sum(request.sent for request in world.requested("1.1.0.tar.gz")[-2:]) < whole / 2, "the list, and what was damaged"
    assert ask(world, "verify") == []
    found = world.stop()
    assert_tree(found, new.with_files({"www/mine.txt": b"edited"}))


def test_damage_that_the_server_cannot_repair_is_said(world: World) -> None:
    old = world.release("1.1.0", {"www/a.html": PAGE})
    older = world.release("1.0.0", {"www/a.html": PAGE})
    world.flash(old, {"www/a.html": PAGE + b"!"})
    world.offer(older)
    world.boot()
    since = world.type("ota verify")
    world.board.expect(r"verify failed: .* \((old_sequence|no_update)\)$", PATIENCE_S, since)
    world.board.stop()
    assert world.requested("1.0.0.tar.gz") == []


def test_the_plan_says_what_an_update_would_do(world: World) -> None:
    old = world.release("1.0.0", {"www/a.html": PAGE, "www/b.html": PAGE, **ASKER}, modules=_MODULES)
    new = world.release("1.1.0", {"www/a.html": PAGE.replace(b"hello", b"howdy"), **ASKER}, modules=_MODULES, delete=["junk"])
    junk = {"junk/one.txt": b"1", "junk/two.txt": b"2"}
    world.flash(old, junk)
    world.offer(old)
    world.boot()
    assert ask(world, "plan") == {"from": "1.0.0", "to": None}
    world.offer(new)
    written = {path: data for path, data in new.files.items() if old.files.get(path) != data}
    found = ask(world, "plan")
    assert found.pop("free") > 300_000
    assert found == {
        "from": "1.0.0",
        "to": "1.1.0",
        "size": len(new.archive),
        "files": len(written),
        "write": sum(len(data) for data in written.values()),
        "delete": 3,
    }
    (request,) = world.requested("1.1.0.tar.gz")
    assert request.sent == archive.head_of(new.archive)[0], "only the list"
    since = world.type("ota plan")
    said = r"plan: delete 3, files 3, free \d+, from 1\.0\.0, size \d+, to 1\.1\.0, write \d+$"
    world.board.expect(said, PATIENCE_S, since)
    assert_tree(world.stop(), old.with_files(junk))
