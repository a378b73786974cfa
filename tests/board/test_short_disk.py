"""A disk without room for the archive beside the stage: the bundle goes straight from the network into the stage."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from tests.board.world import (
    ARCHIVE,
    PATIENCE_S,
    Changes,
    Handler,
    Member,
    Release,
    World,
    assert_tree,
    pack,
)

STREAMED = "unpacking straight from the network, without the archive on flash"


def noise(seed: int, size: int) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(size)


BIG: Changes = {"www/zoo": noise(9, 200_000)}  # the same in both: in the archive, not in the stage
PARTS: Changes = {f"www/part{n}": noise(n, 20_000) for n in range(4)}
ALL = sorted(PARTS)


def crowded(world: World, free: int, big: Changes = BIG, **ota: Any) -> tuple[Release, Release, dict[str, bytes]]:
    """A board with 1.0.0 and about `free` bytes left. 1.1.0 brings 80,000 bytes more; its stage needs some 250,000."""
    old, new = world.release("1.0.0", big, **ota), world.release("1.1.0", {**big, **PARTS}, **ota)
    taken = sum(-(-len(data) // 4096) * 4096 for data in old.files.values()) + 8192 * len(old.tree.folders)
    ballast = {"ballast.bin": bytes(world.board.size - taken - free - 100_000)}
    world.flash(old, ballast)
    world.offer(old)
    world.boot()
    return old, new, ballast


def archives(world: World) -> list[str]:
    return [request.path.rsplit("/", 1)[1] for request in world.server.requests if request.path.endswith(".tar.gz")]


def test_an_archive_that_does_not_fit_at_all(world: World) -> None:
    _old, new, ballast = crowded(world, 300_000)
    world.offer(new)
    world.update_to(new)
    assert world.starved() or archives(world) == ["1.1.0.tar.gz"] * 2, "the list, the files"
    world.assert_runs(new, ballast)


def test_a_delta_that_does_not_fit_beside_its_stage(world: World) -> None:
    _old, new, ballast = crowded(world, 250_000, {})
    world.offer(new, deltas=1)
    since = world.update_to(new)
    assert STREAMED in world.lines_since(since)
    assert set(archives(world)) == {"1.0.0-1.1.0.tar.gz"}
    world.assert_runs(new, ballast)


def again(world: World) -> str:
    """Pull the plug, put it back, and wait until the board has nothing to do: its check is over, or hours away."""
    since = world.now()
    world.board.power_cycle()
    return world.board.expect("next check in about|is ready to install|confirmed", PATIENCE_S, since).string


def hangs_up(world: World, release: Release, at: int) -> list[int]:
    """The server hangs up within the answers to two requests for the bundle: not the first, which reads only the list."""
    asked: list[int] = []

    def trick(request: Handler) -> bool:
        if request.path.endswith(f"{release.version}.tar.gz"):
            asked.append(1)
            if len(asked) == 2:
                request.send_half(release.archive, at)
                return True
        return False

    world.server.trick = trick
    return asked


def test_what_was_staged_before_the_connection_broke_is_not_written_again(world: World) -> None:
    old, new, ballast = crowded(world, 300_000)
    world.offer(new)
    hangs_up(world, new, len(new.archive) - 230_000)
    since = world.now()
    world.refused("connection_lost")
    staged = re.findall(r"staged (www/\S+)", world.lines_since(since))
    assert staged and staged != ALL
    assert_tree(world.peek().without(".ota/stage", ".ota/list"), old.with_files(ballast))
    since = world.update_to(new)
    assert staged + re.findall(r"staged (www/\S+)", world.lines_since(since)) == ALL
    world.assert_runs(new, ballast)


def test_power_fails_while_the_stage_is_filled(world: World) -> None:
    _old, new, ballast = crowded(world, 300_000)
    world.offer(new)
    since = world.type("ota check")
    world.board.expect("staged www/part1", PATIENCE_S, since)
    if "confirmed" not in again(world):
        world.update_to(new)
    assert world.lines_since(since).count("staged www/part1 ") == 1
    world.assert_runs(new, ballast)


def test_what_is_ready_is_installed_later_without_another_download(world: World) -> None:
    _old, new, ballast = crowded(world, 300_000, auto_install=False)
    world.offer(new)
    since = world.type("ota check")
    world.board.expect("is ready to install", PATIENCE_S, since)
    before = archives(world)
    again(world)
    world.update_to(new, "ota update")
    assert archives(world) == before
    world.assert_runs(new, ballast)


@pytest.mark.parametrize("reason", ["bad_digest", "bad_signature"])
def test_what_is_wrong_in_the_stream_is_refused_and_leaves_nothing(world: World, reason: str) -> None:
    old, new, ballast = crowded(world, 300_000)
    listing, signature = new.bundle.listing, new.bundle.signature or b""
    files = {**new.files, "www/part3": noise(7, 20_000)} if reason == "bad_digest" else new.files
    head = [Member(".release", listing), Member(".release.sig", signature if reason == "bad_digest" else noise(8, 384))]
    order = [entry["path"] for entry in new.bundle.entries]
    world.offer_raw(new.bundle.header, pack([*head, *(Member(path, files[path]) for path in order)]))
    since = world.now()
    world.refused(reason)
    assert STREAMED in world.lines_since(since)
    assert ARCHIVE not in world.peek().files
    assert_tree(world.stop(), old.with_files(ballast))
