"""A disk without room for the archive beside the stage: the bundle goes straight from the network into the stage."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sim.board import Board
from tests.support.scripted_server import ScriptedServer, answer, endless
from tests.support.site import CHANNEL, GAP_MS, Site, archive_path
from tests.support.world import (
    ARCHIVE,
    PATIENCE_S,
    Changes,
    Handler,
    Member,
    Release,
    Slowly,
    World,
    assert_tree,
    pack,
    tree_of,
)

STREAMED = "unpacking straight from the network, without the archive on flash"


def noise(seed: int, size: int) -> bytes:
    """Bytes that do not compress."""
    return random.Random(seed).randbytes(size)


BIG: Changes = {"www/zoo": noise(9, 200_000)}  # the same in both: in the archive, not in the stage
PARTS: Changes = {f"www/part{n}": noise(n, 20_000) for n in range(4)}
ALL = sorted(PARTS)


def ballast_for(board: Board, files: dict[str, bytes], free: int) -> dict[str, bytes]:
    """A file that leaves about `free` bytes beside these."""
    taken = sum(-(-len(data) // 4096) * 4096 for data in files.values()) + 8192 * len(tree_of(files).folders)
    return {"ballast.bin": bytes(board.size - taken - free - 100_000)}


def crowded(world: World, free: int, big: Changes = BIG, **ota: Any) -> tuple[Release, Release, dict[str, bytes]]:
    """A board with 1.0.0 and about `free` bytes left. 1.1.0 brings 80,000 bytes more; its stage needs some 250,000."""
    old, new = world.release("1.0.0", big, **ota), world.release("1.1.0", {**big, **PARTS}, **ota)
    ballast = ballast_for(world.board, old.files, free)
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
    assert archives(world) == ["1.1.0.tar.gz"] * 2, "the list, the files"
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


def test_the_loop_goes_on_while_a_slow_server_is_waited_for(world: World) -> None:
    """It sends a twelfth of the archive, then nothing for a while, and so on."""
    _old, new, ballast = crowded(world, 300_000, auto_install=False)
    world.offer(new)
    world.server.trick = Slowly(18)
    since = world.type("ota check")
    world.board.expect("is ready to install", 2 * PATIENCE_S, since)
    assert STREAMED in world.lines_since(since)
    time.sleep(1)  # published every second
    gap = int(world.board.expect(r"loop/max_gap_ms = (\d+)", PATIENCE_S, world.type("values"))[1])
    print(f"longest gap between two rounds of the loop: {gap} ms")
    assert gap < 700, "it pauses for 1,500 ms each time"
    world.update_to(new, "ota update")
    world.assert_runs(new, ballast)


@pytest.fixture
def site(tmp_path: Path, server: ScriptedServer) -> Iterator[Site]:
    """A board on 1.0.0 whose disk has no room for an archive; its deadlines are shorter."""
    made = Site(tmp_path, server, 0, more={"www/zoo": noise(9, 200_000)})
    made.old.update(ballast_for(made.board, made.old, 240_000))
    made.board.write({"ballast.bin": made.old["ballast.bin"]})
    yield made
    made.board.stop()


STEP_MS = 3_000  # what a step may take for an archive that was made for it to wait within
EMPTY = b"\0\0\0\xff\xff"  # a stored block without a byte
SILENCE = 20.0
Steps = Iterable[bytes | float]


def head(body: bytes) -> bytes:
    return answer(b"", length=len(body))


def trickle(body: bytes, start: int, size: int = 1, pause: float = 0.05) -> Steps:
    """Slow from `start` on."""
    yield head(body) + body[:start]
    for at in range(start, len(body), size):
        yield body[at : at + size]
        yield pause


BAD: dict[str, tuple[Callable[[bytes], Steps], str, int]] = {
    # what the server does: (its steps, the reason that the board gives, requests: one for the list, the second for the files)
    "silent": (lambda body: [SILENCE], "timeout", 1),
    "trickles its headers": (lambda body: endless(b"HTTP/1.1 200 OK\r\nX: ", b"y", 0.3), "timeout", 1),
    "silent before the body": (lambda body: [head(body), SILENCE], "timeout", 1),
    "silent within the list": (lambda body: [head(body) + body[:700], SILENCE], "timeout", 1),
    "silent within the files": (lambda body: [head(body) + body[: len(body) // 2], SILENCE], "timeout", 2),
    "trickles the list": (lambda body: trickle(body, 0), "timeout", 1),
    "trickles the files": (lambda body: trickle(body, len(body) // 2), "timeout", 2),
    "hangs up": (lambda body: [head(body) + body[:-100]], "connection_lost", 2),
    "sends other bytes at the end": (lambda body: [head(body) + body[:-4] + b"else"], "bad_digest", 2),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_server_is_given_up_and_the_loop_goes_on(site: Site, server: ScriptedServer, what: str) -> None:
    steps, reason, requests = BAD[what]
    archive = site.offer("1.1.0")
    server.routes[archive_path("1.1.0")] = lambda _request: steps(archive)
    site.board.start()
    site.board.expect(STREAMED, PATIENCE_S)
    began = time.monotonic()
    assert site.refused() == reason
    assert time.monotonic() - began < 30
    assert len(server.asked(archive_path("1.1.0"))) == requests
    site.untouched(staged=True)


@pytest.mark.parametrize("pause", [0, 0.02])
def test_an_archive_made_to_keep_a_step_waiting_is_given_up(site: Site, server: ScriptedServer, pause: float) -> None:
    """Block after block without a byte in it: the decompressor reads on and on, and nothing comes out."""
    archive = b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + EMPTY * 1_500_000
    server.routes[CHANNEL] = lambda _request: [answer(site.channel(archive, "1.1.0"))]
    server.routes[archive_path("1.1.0")] = lambda _request: trickle(archive, 0, 1000, pause) if pause else [answer(archive)]
    site.board.start()
    site.board.expect(STREAMED, PATIENCE_S)
    assert site.refused() == "timeout"
    site.untouched(staged=True, gap_ms=STEP_MS + GAP_MS)
