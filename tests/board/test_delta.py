"""Deltas over real HTTP: only what changed travels; one that cannot be used is followed by the full bundle; nothing is left."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import pytest

from iotctl import bundle, keys, patch
from tests.support.world import (
    ARCHIVE,
    PATIENCE_S,
    USERS,
    Handler,
    Member,
    Release,
    World,
    assert_tree,
    pack,
    sha256,
    stranger,
)

DELTA = "1.0.0-1.1.0.tar.gz"
SETTINGS = b"PERIOD_MS = 100\n" + b"".join(b"LIMIT_%d = %d  # of channel %d\n" % (n, n * 7, n) for n in range(120))
PAGE = b"<p>hello</p>\n" * 40
OLD = {"app/settings.py": SETTINGS, "app/old.txt": b"goes away\n", "www/index.html": PAGE, "x.cfg": b"a file\n"}
NEW = {
    "app/settings.py": SETTINGS.replace(b"MS = 100", b"MS = 250"),
    "app/new.txt": b"is new\n",
    "www/index.html": PAGE,
    "x.cfg/y.cfg": b"in a folder\n",
}


def two(world: World, **ota: Any) -> tuple[Release, Release]:
    """A board that runs 1.0.0, and a server that has 1.1.0 with a delta."""
    old, new = world.release("1.0.0", OLD, **ota), world.release("1.1.0", NEW, **ota)
    world.flash(old)
    world.offer(old)
    world.boot()
    world.offer(new, deltas=1)
    return old, new


def delta_of(world: World) -> bundle.Bundle:
    return bundle.read(world.site / "sim-board" / DELTA)


def test_only_what_changed_travels_and_the_tree_is_exactly_the_new_one(world: World) -> None:
    _old, new = two(world)
    since = world.update_to(new)
    (request,) = world.requested(DELTA)
    assert request.status == 200 and request.sent < 1_500
    assert world.requested("1.1.0.tar.gz") == []
    story = world.lines_since(since)
    assert "staged app/settings.py" in story and "staged www/index.html" not in story
    world.assert_runs(new)


def test_deltas_follow_each_other_and_a_full_bundle_follows_them(world: World) -> None:
    """The list is not written again for each of them: what they changed is kept beside it, until a full bundle comes."""
    old, new = two(world)
    world.update_to(new)
    more = world.release("1.2.0", {**OLD, "app/settings.py": SETTINGS.replace(b"= 100", b"= 300"), "app/more.txt": b"more\n"})
    world.offer(more, deltas=1)
    world.update_to(more)
    assert world.requested("1.1.0-1.2.0.tar.gz") and world.requested("1.2.0.tar.gz") == []
    found = world.assert_runs(more)
    assert found.files[".ota/release"] == old.bundle.listing and ".ota/changes" in found.files
    last = world.release("1.3.0", {"www/last.txt": b"last\n"})
    world.offer(last)
    since = world.now()
    world.board.start()
    world.wait_confirmed(last, since)
    assert ".ota/changes" not in world.assert_runs(last).files




def test_excluded_files_stay_as_they_are(world: World) -> None:
    settings: dict[str, Any] = {"excluded_files": ["app/settings.py", "app/old.txt"]}
    old, new = world.release("1.0.0", OLD, **settings), world.release("1.1.0", NEW, **settings)
    world.flash(old, {"app/settings.py": b"MINE = 1\n", "app/old.txt": b"mine too\n"})
    world.offer(old)
    world.boot()
    world.offer(new, deltas=1)
    world.update_to(new)
    assert world.requested("1.1.0.tar.gz") == []
    found = world.stop()
    mine = {"app/settings.py": b"MINE = 1\n", "app/old.txt": b"mine too\n"}
    assert found.without(".ota", *USERS).files == {**new.files, **mine}


def test_a_delta_that_lies_on_the_board_installs_like_any_bundle(world: World) -> None:
    """An upload, a USB stick: with the base that it starts from."""
    old, new = two(world)
    archive = (world.site / "sim-board" / DELTA).read_bytes()
    world.channel_file().unlink()
    world.board.stop()
    world.board.write({ARCHIVE: archive})
    world.boot(r"check failed: .* \(http_status\)")
    since = world.type("ota install")
    world.offer(new)
    world.wait_confirmed(new, since)
    assert world.requested(DELTA) == []
    world.assert_runs(new)


# -- what cannot be used


_FEW = 2  # a board must take so many refusals in one life
_uses = itertools.count(1)


@pytest.fixture
def running(flashed: World) -> World:
    """A board that runs 1.0.0; each case offers it a delta to the next version that goes wrong."""
    flashed.server.trick = None
    if next(_uses) % _FEW == 0:
        flashed.board.stop()
        flashed.offer(flashed.release("1.0.0", OLD))
        flashed.boot()
    return flashed


@pytest.fixture(scope="module")
def flashed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("deltas")) as world:
        old = world.release("1.0.0", OLD)
        world.flash(old)
        world.offer(old)
        world.boot()
        yield world


@dataclass
class Spoiled:
    """A delta on its way to the server, signed again after it was spoiled."""

    header: dict[str, Any]
    entries: list[dict[str, Any]]
    members: dict[str, bytes]
    key: keys.PrivateKey | None

    def entry(self, path: str) -> dict[str, Any]:
        return next(entry for entry in self.entries if entry["path"] == path)

    def repatch(self, data: bytes) -> None:
        """The patch of the settings is this one."""
        self.members["app/settings.py"] = data
        entry = self.entry("app/settings.py")
        entry["patch"] = [entry["patch"][0], len(data)]

    def archive(self) -> bytes:
        listing = b"".join(json.dumps(line).encode() + b"\n" for line in [self.header, *self.entries])
        head = [Member(".release", listing)]
        if self.key:
            head.append(Member(".release.sig", keys.sign(self.key, listing)))
        return pack([*head, *(Member(path, data) for path, data in self.members.items())])


def unknown_key(d: Spoiled) -> None:
    d.entry("app/new.txt")["mode"] = 7


def unknown_file_goes(d: Spoiled) -> None:
    d.entry("app/old.txt")["path"] = "app/older.txt"


def other_tree(d: Spoiled) -> None:
    d.header["tree"] = sha256(b"another")


def other_base(d: Spoiled) -> None:
    d.header["base"] = "0.9.0"


def wrong_base_digest(d: Spoiled) -> None:
    d.entry("app/settings.py")["patch"][0] = sha256(b"another")


def reads_out_of_range(d: Spoiled) -> None:
    d.repatch(patch._number(50 << 1 | 1) + patch._number(patch._zigzag(len(SETTINGS) - 49)))


def reads_before_the_beginning(d: Spoiled) -> None:
    d.repatch(patch._number(5 << 1 | 1) + patch._number(patch._zigzag(-1)))


def writes_out_of_range(d: Spoiled) -> None:
    d.repatch(patch._number(len(NEW["app/settings.py"]) + 1 << 1 | 1) + b"\0")


def never_ends(d: Spoiled) -> None:
    d.repatch(b"\0" * 3000)


def ends_early(d: Spoiled) -> None:
    d.repatch(d.members["app/settings.py"][:-1])


def makes_something_else(d: Spoiled) -> None:
    d.repatch(patch.make(SETTINGS, NEW["app/settings.py"].replace(b"250", b"251")))


def another_file(d: Spoiled) -> None:
    d.members["app/new.txt"] = b"is odd\n"


def is_missing(d: Spoiled) -> None:
    del d.members["app/new.txt"]


UNUSABLE: list[tuple[Callable[[Spoiled], None], str]] = [
    (unknown_key, "bad_bundle"),
    (unknown_file_goes, "wrong_base"),
    (other_tree, "wrong_base"),
    (other_base, "wrong_base"),
    (wrong_base_digest, "wrong_base"),
    (reads_out_of_range, "bad_patch"),
    (reads_before_the_beginning, "bad_patch"),
    (writes_out_of_range, "bad_patch"),
    (never_ends, "bad_patch"),
    (ends_early, "bad_patch"),
    (makes_something_else, "bad_digest"),
    (another_file, "bad_digest"),
    (is_missing, "bad_member"),
]


def offer_spoiled(world: World, spoil: Callable[[Spoiled], None], key: keys.PrivateKey | None) -> Release:
    """Publish 1.1.0 with a delta, and put a spoiled one in its place, announced as it is. The full bundle is not there."""
    new = world.release("1.1.0", NEW)
    world.offer(new, deltas=1)
    made = delta_of(world)
    spoiled = Spoiled(made.header, made.entries, dict(made.files), key)
    spoil(spoiled)
    announce(world, spoiled.archive())
    return new


def announce(world: World, delta: bytes) -> None:
    """The channel file announces these bytes as the delta."""
    (world.site / "sim-board" / DELTA).write_bytes(delta)
    value = json.loads(world.channel_file().read_bytes().splitlines()[0])
    world._published = value["published"] = max(world._published, value["published"]) + 1
    value["deltas"]["1.0.0"].update(size=len(delta), sha256=sha256(delta))
    world.put_channel(value)


def falls_back(world: World, reason: str) -> None:
    """The board says once why the delta is of no use, and asks for the full bundle, which is not there. Nothing is left."""
    (world.site / "sim-board" / "1.1.0.tar.gz").unlink()
    asked = len(world.requested("1.1.0.tar.gz"))
    since = world.now()
    world.refused("http_status")
    said = [line for line in world.board.lines[since:] if "the delta is of no use here" in line]
    assert len(said) == 1 and f"({reason})" in said[0], said
    assert len(world.requested("1.1.0.tar.gz")) == asked + 1
    assert_tree(world.peek(), world.release("1.0.0", OLD).tree)
    deltas = len(world.requested(DELTA))
    world.refused("http_status")
    assert len(world.requested(DELTA)) == deltas, "the delta was tried again"


@pytest.mark.parametrize(("spoil", "reason"), [pytest.param(spoil, reason, id=spoil.__name__) for spoil, reason in UNUSABLE])
def test_a_delta_that_cannot_be_used_is_followed_by_the_full_bundle(
    running: World, spoil: Callable[[Spoiled], None], reason: str
) -> None:
    offer_spoiled(running, spoil, running.key)
    falls_back(running, reason)


@pytest.mark.parametrize("reason", ["no_signature", "bad_signature"])
def test_a_delta_without_the_owners_signature_is_refused(running: World, reason: str) -> None:
    offer_spoiled(running, lambda _d: None, None if reason == "no_signature" else stranger())
    asked = len(running.requested("1.1.0.tar.gz"))
    running.refused(reason)
    assert len(running.requested("1.1.0.tar.gz")) == asked
    assert_tree(running.peek(), running.release("1.0.0", OLD).tree)


def test_a_delta_that_is_not_there_is_followed_by_the_full_bundle(running: World) -> None:
    running.offer(running.release("1.1.0", NEW), deltas=1)
    (running.site / "sim-board" / DELTA).unlink()
    falls_back(running, "http_status")


def test_a_delta_larger_than_announced_is_followed_by_the_full_bundle(running: World) -> None:
    running.offer(running.release("1.1.0", NEW), deltas=1)
    with (running.site / "sim-board" / DELTA).open("ab") as f:
        f.write(b"more")
    falls_back(running, "too_large")


def test_a_base_that_differs_in_one_byte_is_followed_by_the_full_bundle(world: World) -> None:
    old, new = world.release("1.0.0", OLD), world.release("1.1.0", NEW)
    world.flash(old, {"www/index.html": PAGE[:-2] + b"!\n"})
    world.offer(old)
    world.offer(new, deltas=1)
    since = world.now()
    world.board.start()
    world.wait_confirmed(new, since)
    story = world.lines_since(since)
    assert story.count("the delta is of no use here: www/index.html is not as version 1.0.0 has it (wrong_base)") == 1
    assert len(world.requested(DELTA)) == len(world.requested("1.1.0.tar.gz")) == 1
    world.assert_runs(new)


def test_a_board_without_a_list_takes_the_full_bundle(world: World) -> None:
    old, new = world.release("1.0.0", OLD), world.release("1.1.0", {**OLD, "app/settings.py": NEW["app/settings.py"]})
    world.board.format()
    world.board.write(old.files)
    world.offer(old)
    world.offer(new, deltas=1)
    since = world.now()
    world.board.start()
    world.wait_confirmed(new, since)
    assert world.requested(DELTA) == []
    world.assert_runs(new)


def test_a_lost_connection_is_no_reason_for_the_full_bundle(running: World) -> None:
    new = running.release("1.1.0", NEW)
    running.offer(new, deltas=1)
    archive = (running.site / "sim-board" / DELTA).read_bytes()

    def trick(request: Handler) -> bool:
        if request.path.endswith(DELTA):
            request.send_half(archive, len(archive) // 2)
            return True
        return False

    asked = len(running.requested("1.1.0.tar.gz"))
    running.server.trick = trick
    running.refused("connection_lost")
    running.server.trick = None
    assert len(running.requested("1.1.0.tar.gz")) == asked
    since = running.now()
    running.update_to(new)
    running.board.expect("resuming the download", PATIENCE_S, since)
    assert running.requested(DELTA)[-1].status == HTTPStatus.PARTIAL_CONTENT
    running.assert_runs(new)
