"""What differs from what was signed is damage on the way: fetched again, later and later, and never held against the release."""

from __future__ import annotations

import re
from collections.abc import Callable
from http import HTTPStatus

from tests.support.world import NEVER, PATIENCE_S, Handler, Release, World, noise, state_of

BUNDLE = "1.1.0.tar.gz"
PARTS = {f"www/part{n}": noise(n, 20_000) for n in range(3)}
Answer = Callable[[Handler, bytes], None]


def flips(world: World, number: int, at: int) -> None:
    """The answer to the request for the bundle with this number, from 0, has one other byte."""

    def trick(request: Handler) -> bool:
        data = request._find()
        if data is None or not request.path.endswith(BUNDLE) or len(world.requested(BUNDLE)) != number:
            return False
        body = bytearray(request.begin(data))
        body[at] ^= 0x10
        request.wfile.write(body)
        return True

    world.server.trick = trick


def pause_after(world: World, reason: str) -> int:
    """Have the board check, which fails with `reason`; the seconds after which it tries again."""
    since = world.now()
    world.refused(reason)
    return int(world.board.expect(r"next try in about (\d+) s", PATIENCE_S, since)[1])


def two(world: World, after: dict[str, bytes]) -> Release:
    """A board that runs 1.0.0 and has nothing to do; 1.1.0 is offered."""
    new = world.release("1.1.0", after)
    world.settled(world.release("1.0.0"), new)
    return new


def test_one_byte_that_was_changed_on_the_way_costs_one_more_download(world: World) -> None:
    """In the head, then in a file: each time the next check fetches again what is missing, and only that."""
    new = two(world, PARTS)
    since = world.now()
    flips(world, 0, 1000)
    assert 30 <= pause_after(world, r"bad_\w+|no_signature") <= 34
    flips(world, 2, 45_000)
    assert 60 <= pause_after(world, r"bad_\w+") <= 68
    staged = re.findall(r"staged (www/\S+)", world.lines_since(since))
    assert staged == ["www/part0", "www/part1"]
    assert "refused" not in state_of(world.peek())
    world.server.trick = None
    since = world.update_to(new)
    assert re.findall(r"staged (www/\S+)", world.lines_since(since)) == ["www/part2"]
    world.assert_runs(new)


def test_the_beginning_of_a_large_file_that_was_damaged_on_flash_is_fetched_again(world: World) -> None:
    new = two(world, {"www/big": noise(1, 200_000)})

    def hangs_up(request: Handler) -> bool:
        if request.path.endswith(BUNDLE) and len(world.requested(BUNDLE)) == 1:
            request.send_half(new.archive, 120_000)
            return True
        return False

    world.server.trick = hangs_up
    world.refused("connection_lost")
    world.server.trick = None
    world.until(lambda found: bool(state_of(found).get("failures")))
    found = world.stop().files
    path = next(path for path in found if path.startswith(".ota/stage/") and len(found[path]) > 50_000)
    world.board.write({path: found[path][:1000] + bytes((found[path][1000] ^ 1,)) + found[path][1001:]})
    since = world.now()
    world.board.start()
    world.board.expect("wifi: connected", PATIENCE_S, since)
    world.refused("bad_digest")
    world.update_to(new)
    world.assert_runs(new)


def test_a_server_whose_parts_are_not_what_was_asked_for_is_asked_once_without(world: World) -> None:
    def part(*headers: tuple[str, str], status: int = 206) -> Answer:
        def answer(request: Handler, data: bytes) -> None:
            request.reply(HTTPStatus(status), dict(headers), data[:100])

        return answer

    answers = {
        "no Content-Range": part(),
        "a wrong Content-Range": part(("Content-Range", "bytes 1-100/100")),
        "416": part(("Content-Range", "bytes */100"), status=416),
    }
    old = world.release("1.0.0", window=NEVER)
    world.flash(old)
    world.offer(old)
    world.boot()
    for n, what in enumerate(answers):
        new = world.release(f"1.1.{n}", {"www/a.txt": what.encode()}, window=NEVER)
        world.offer(new)

        def trick(request: Handler, what: str = what) -> bool:
            data = request._find()
            if data is None or not request.path.endswith(".tar.gz") or not request.headers["Range"]:
                return False
            answers[what](request, data)
            return True

        world.server.trick = trick
        since = world.type("ota check")
        found = world.board.expect(rf"version 1.1.{n} waits: window|check failed", PATIENCE_S, since)
        assert "waits" in found.string, (what, found.string)
        plain = [not request.headers.get("range") for request in world.requested(f"1.1.{n}.tar.gz")]
        assert plain == [False, True] * 2, "once for the head, once for the files"
