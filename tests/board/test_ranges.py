"""A bundle on a server, read in place: what is asked for, in how few requests, and what becomes of answers that are not right."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import pytest

from iotctl import archive, bundle, keys
from iotctl.serve import Request
from modules.ota.transport.ranges import GAP
from tests.support import forge
from tests.support.caller import QUICK
from tests.support.world import (
    NEVER,
    PATIENCE_S,
    Changes,
    Handler,
    Release,
    Slowly,
    World,
    assert_tree,
    noise,
    owner,
    patched,
    place,
    state_of,
)

BUNDLE = "1.1.0.tar.gz"
OLD: Changes = {"a.txt": b"old\n", "www/a.txt": b"old\n" * 100, "www/b.txt": b"old\n" * 100, "www/same": noise(9, 20_000)}
# a.txt is at one end of the archive, www/ at the other. What `version` has, the list's header says.
NEAR: Changes = {**OLD, "www/b.txt": b"new\n" * 100, "www/same": noise(8, 20_000)}
FAR: Changes = {**OLD, "a.txt": b"new\n", "www/a.txt": b"new\n" * 100}
PARTS: Changes = {f"www/part{n}": noise(n, 20_000) for n in range(4)}
SHORT = patched(  # deadlines
    "modules/ota/transport/ranges.py",
    ("_IDLE_MS = const(20_000)", "_IDLE_MS = const(2_000)"),
    ("_TOTAL_MS = const(120_000)", "_TOTAL_MS = const(6_000)"),
    ("_TOTAL_MS + 2 * (self.size if self.whole or not end else end - begin)", "_TOTAL_MS"),
)


def two(world: World, before: Changes, after: Changes, **ota: Any) -> tuple[Release, Release]:
    """A board that runs 1.0.0 and has nothing to do; 1.1.0 is offered."""
    old, new = world.release("1.0.0", before, **ota), world.release("1.1.0", after, **ota)
    world.settled(old, new)
    return old, new


def parts(world: World, begin: int = 0) -> list[Request]:
    """The requests for the bundle from number `begin` on."""
    return world.requested(BUNDLE)[begin:]


def head_and(world: World, release: Release, *ranges: tuple[int, int]) -> list[str]:
    """What the Range headers of an update are that asks for these parts behind the head."""
    head = archive.head_of(release.archive)[0]
    return [f"bytes=0-{head - 1}", *(f"bytes={head + begin}-{head + end - 1}" for begin, end in ranges)]


# -- how much is asked for


@pytest.mark.parametrize("far", [False, True], ids=["neighbours", "far apart"])
def test_only_what_changed_is_asked_for_on_one_connection(world: World, far: bool) -> None:
    old, new = two(world, OLD, FAR if far else NEAR)
    connections = world.server.connections
    since = world.type("ota check")
    world.board.expect("committed: installing 1.1.0", PATIENCE_S, since)
    assert world.server.connections - connections == 1, "from the channel file to the last part"
    if far:
        first, last = place(new, "a.txt"), place(new, "www/a.txt")
        assert last[0] - first[1] > GAP
        wished = head_and(world, new, first, last)
    else:
        wished = head_and(world, new, (place(new, "www/b.txt")[0], place(new, "www/same")[1]))
    assert [request.headers["range"] for request in parts(world)] == wished
    assert [request.status for request in parts(world)] == [206] * len(wished)
    world.wait_confirmed(new, since)
    world.assert_runs(new)


# -- what was staged is not fetched again


def hangs_up(world: World, number: int, at: int) -> None:
    """The server hangs up `at` bytes into its answer to the request for the bundle with this number, from 0."""
    whole = (world.site / "sim-board" / BUNDLE).read_bytes()

    def trick(request: Handler) -> bool:
        if request.path.endswith(BUNDLE) and len(parts(world)) == number:
            request.send_half(whole, at)
            return True
        return False

    world.server.trick = trick


def test_what_was_staged_before_the_connection_broke_is_not_fetched_again(world: World) -> None:
    old, new = two(world, {}, PARTS)
    hangs_up(world, 1, 45_000)
    since = world.now()
    world.refused("connection_lost")
    staged = re.findall(r"staged (www/\S+)", world.lines_since(since))
    assert staged == ["www/part0", "www/part1"]
    assert_tree(world.peek().without(".ota/stage", ".ota/list"), old.tree)
    since = world.update_to(new)
    assert staged + re.findall(r"staged (www/\S+)", world.lines_since(since)) == sorted(PARTS)
    assert [request.headers["range"] for request in parts(world, 2)] == head_and(
        world, new, (place(new, "www/part2")[0], place(new, "www/part3")[1])
    )
    world.assert_runs(new)


def test_a_large_file_goes_on_within(world: World) -> None:
    old, new = two(world, {}, {"www/big": noise(1, 200_000)})
    hangs_up(world, 1, 120_000)
    world.refused("connection_lost")
    assert_tree(world.peek().without(".ota/stage", ".ota/list"), old.tree)
    world.update_to(new)
    _head, rest = parts(world, 2)
    begin, end = place(new, "www/big")
    assert 200_000 - 3 * 32_768 - 4_096 < rest.sent < 200_000 - 3 * 32_768 + 4_096, "three pieces had arrived, whole"
    assert rest.headers["range"].endswith(f"-{archive.head_of(new.archive)[0] + end - 1}")
    world.assert_runs(new)


def test_a_power_cut_takes_only_what_has_not_been_staged(world: World) -> None:
    _old, new = two(world, {}, {**PARTS, "www/big": noise(1, 200_000)})
    world.server.trick = Slowly(5)
    since = world.type("ota check")
    world.board.expect(r"downloading [6-8]\d%", PATIENCE_S, since)
    world.server.trick = None
    before = len(parts(world))
    world.board.power_cycle()
    world.wait_confirmed(new, since)
    assert world.lines_since(since).count("staged www/part0 ") <= 1
    assert sum(request.sent for request in parts(world, before)) < 0.6 * len(new.archive)
    world.assert_runs(new)


@pytest.mark.parametrize(
    ("version", "sequence"),
    [("1.2.0", 1_002_000), ("1.1.0", 1_001_001)],
    ids=["another version", "the same name with another file"],
)
def test_another_release_clears_what_was_staged(world: World, version: str, sequence: int) -> None:
    _old, _cut = two(world, {}, PARTS)
    hangs_up(world, 1, 45_000)
    world.refused("connection_lost")
    world.server.trick = None
    newer = world.release(version, {f"www/part{n}": noise(10 + n, 20_000) for n in range(4)}, sequence=sequence)
    world.offer(newer)
    world.update_to(newer)
    world.assert_runs(newer)


def test_the_place_in_a_large_file_of_another_release_is_forgotten_before_anything_of_this_one_comes(world: World) -> None:
    """The power fails between the two: else the newer release's file would begin with the other one's bytes."""
    _old, cut = two(world, QUICK, {**QUICK, "www/big": noise(1, 100_000)})
    newer = world.release("1.2.0", {**QUICK, "www/big": noise(2, 100_000)})
    hangs_up(world, 1, 60_000)
    world.refused("connection_lost")
    assert state_of(world.peek())["part"], f"some of {cut.version} has arrived"
    world.offer(newer)
    over = threading.Event()

    def silent(request: Handler) -> bool:
        """About the file: the list is sent."""
        if not request.path.endswith("1.2.0.tar.gz") or request.headers["Range"].startswith("bytes=0-"):
            return False
        over.wait(PATIENCE_S)
        request.close_connection = True
        return True

    world.server.trick = silent
    world.board.expect("ota: staging", PATIENCE_S, world.type("ota check"))
    world.board.stop()
    over.set()
    world.server.trick = None
    since = world.now()
    world.board.start()  # it goes on at once
    world.board.expect("confirmed: version 1.2.0 stays|failed", PATIENCE_S, since)
    assert "failed" not in world.lines_since(since)
    world.assert_runs(newer)


def test_what_is_ready_is_installed_later_without_another_download(world: World) -> None:
    _old, new = two(world, {}, PARTS, window=NEVER)
    since = world.type("ota check")
    world.board.expect("version 1.1.0 waits: window", PATIENCE_S, since)
    world.until(lambda found: {"ready", "next"} <= set(state_of(found)))
    asked, checks = len(parts(world)), len(world.requested("stable.json"))
    since = world.now()
    world.board.power_cycle()
    world.board.expect("version 1.1.0 waits: window", PATIENCE_S, since)
    world.board.expect("next check in", PATIENCE_S, since)  # the restart asks nothing earlier
    assert len(world.requested("stable.json")) == checks
    world.board.expect("version 1.1.0 waits: window", PATIENCE_S, world.type("ota check"))
    world.update_to(new, "ota update")
    assert len(parts(world)) == asked
    world.assert_runs(new)


# -- servers that do not know ranges, or forget them


def without_ranges(request: Handler) -> bool:
    data = request._find()
    if data is None or not request.path.endswith(BUNDLE):
        return False
    request.reply(HTTPStatus.OK, {}, data)
    return True


@pytest.mark.parametrize("since_request", [0, 1, 2])
def test_a_server_without_ranges_is_read_in_sequence(world: World, since_request: int) -> None:
    """From the head on, from the first part on, or only from the second one on."""
    _old, new = two(world, OLD, FAR)
    world.server.trick = lambda request: len(parts(world)) >= since_request and without_ranges(request)
    since = world.update_to(new)
    told = [line for line in world.lines_since(since).split("\n") if "no ranges" in line]
    assert len(told) == 1
    assert told[0].endswith("the server knows no ranges, as Python's http.server: of each bundle all is read")
    assert len(parts(world)) <= 3
    world.assert_runs(new)


def test_a_connection_that_was_closed_between_two_parts_is_opened_again_once(world: World) -> None:
    """The server promises to keep it, and does not."""
    _old, new = two(world, OLD, FAR)

    def closes(request: Handler) -> bool:
        data = request._find()
        assert data is not None
        request.wfile.write(request.begin(data))
        request.close_connection = True
        return True

    world.server.trick = closes
    connections = world.server.connections
    since = world.type("ota check")
    world.board.expect("committed: installing 1.1.0", PATIENCE_S, since)
    assert world.server.connections - connections == 4, "channel file, head, two parts"
    assert "failed" not in world.lines_since(since)
    world.server.trick = None
    world.wait_confirmed(new, since)
    world.assert_runs(new)


def test_each_part_may_be_redirected(world: World) -> None:
    _old, new = two(world, OLD, FAR)
    (world.site / "elsewhere").mkdir()
    (world.site / "elsewhere" / "file").write_bytes(new.archive)

    def trick(request: Handler) -> bool:
        if not request.path.endswith(BUNDLE):
            return False
        request.reply(HTTPStatus.FOUND, {"Location": "/elsewhere/file"}, b"")
        return True

    world.server.trick = trick
    world.update_to(new)
    assert [request.status for request in world.server.requests if request.path == "/elsewhere/file"] == [206] * 3
    world.assert_runs(new)


# -- answers that are not right


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A board that runs 1.0.0 with short deadlines and has nothing to do; each case offers 1.1.0 with a far and a near change."""
    with World(tmp_path_factory.mktemp("answers")) as world:
        old = world.release("1.0.0", {**OLD, **SHORT})
        world.flash(old)
        world.offer(old)
        world.boot()
        yield world


Says = Callable[[Handler, bytes, int, int], None]  # given the whole file, and the part that was asked for


def says(status: int, *headers: tuple[str, str], body: bytes | None = None, length: int | None = None) -> Says:
    """An answer with the right body, if it is given no other."""

    def answer(request: Handler, data: bytes, begin: int, end: int) -> None:
        sent = data[begin:end] if body is None else body
        request._remember(HTTPStatus(status), len(sent))
        request.send_response(status)
        for name, value in headers:
            request.send_header(name, value.format(begin=begin, last=end - 1, next=end, size=len(data)))
        request.send_header("Content-Length", str(len(sent) if length is None else len(sent) + length))
        request.end_headers()
        request.wfile.write(sent)
        request.close_connection = True

    return answer


def sends(change: Callable[[bytes, int, int], bytes], headers: int = 0) -> Says:
    """An answer with the right headers, but for a Content-Length of so many bytes more, and another body."""

    def answer(request: Handler, data: bytes, begin: int, end: int) -> None:
        sent = change(data, begin, end)
        request._remember(HTTPStatus.PARTIAL_CONTENT, len(sent))
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
        request.send_header("Content-Length", str(end - begin + headers))
        request.end_headers()
        request.wfile.write(sent)

    return answer


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


def hang_up(answer: Says) -> Says:
    def and_close(request: Handler, data: bytes, begin: int, end: int) -> None:
        answer(request, data, begin, end)
        request.close_connection = True

    return and_close


def silence(request: Handler, data: bytes, begin: int, end: int) -> None:
    request.wfile.write(request.begin(data, (end - begin) // 2))
    request.wfile.flush()
    time.sleep(4)
    request.close_connection = True


def trickle(request: Handler, data: bytes, begin: int, end: int) -> None:
    for byte in request.begin(data):
        request.wfile.write(bytes((byte,)))
        time.sleep(0.2)


RIGHT = ("Content-Range", "bytes {begin}-{last}/{size}")
MULTIPART = b"--x\r\nContent-Type: application/gzip\r\nContent-Range: bytes 0-9/10\r\n\r\n0123456789\r\n--x--\r\n"
ANSWERS: dict[str, tuple[Says, str]] = {
    "other bytes": (sends(lambda data, begin, end: data[begin:end][::-1]), "bad_bundle"),
    "the bytes of another place": (sends(lambda data, begin, end: data[begin + 1 : end + 1]), "bad_bundle"),
    "zeros": (sends(lambda data, begin, end: bytes(end - begin)), "bad_bundle"),
    "another bit": (sends(lambda data, begin, end: flipped(data[begin:end], 30)), "bad_bundle|bad_member|bad_digest"),
    "too few bytes": (hang_up(sends(lambda data, begin, end: data[begin : end - 5])), "connection_lost"),
    "no bytes": (hang_up(sends(lambda data, begin, end: b"")), "connection_lost"),
    "too many bytes": (sends(lambda data, begin, end: data[begin:end] + b"HTTP?"), "bad_response"),
    "a length that is too small": (says(206, RIGHT, length=-5), "bad_response"),
    "a length that is too large": (says(206, RIGHT, length=5), "bad_response"),
    "no Content-Range": (says(206), "bad_response"),
    "another beginning": (says(206, ("Content-Range", "bytes 3-{last}/{size}")), "bad_response"),
    "a longer part": (says(206, ("Content-Range", "bytes {begin}-{next}/{size}")), "bad_response"),
    "part of another file": (says(206, ("Content-Range", "bytes {begin}-{last}/9999999")), "bad_response"),
    "several parts": (says(206, ("Content-Type", "multipart/byteranges; boundary=x"), body=MULTIPART), "bad_response"),
    "a whole file of another size": (says(200, body=bytes(1000)), "bad_response"),
    "416": (says(416, ("Content-Range", "bytes */{size}")), "bad_response"),
    "404": (says(404), "http_status"),
    "503": (says(503), "http_status"),
    "silence": (silence, "timeout"),
    "a trickle": (trickle, "timeout"),
}  # fmt: skip


@pytest.mark.parametrize("number", [0, 1], ids=["head", "part"])
@pytest.mark.parametrize("what", ANSWERS)
def test_an_answer_that_is_not_right_changes_nothing(running: World, what: str, number: int) -> None:
    world, (answer, reason) = running, ANSWERS[what]
    # Each case has a release of its own, so that nothing of it is staged yet.
    world.offer(world.release("1.1.0", {**FAR, **SHORT, "a.txt": f"{what} {number}".encode()}))
    asked = len(parts(world))
    wrong: list[str] = []

    def trick(request: Handler) -> bool:
        if not request.path.endswith(BUNDLE) or len(parts(world)) < asked + number:
            return False
        data = request._find()
        assert data is not None
        asks = request.headers["Range"] or f"bytes=0-{len(data) - 1}"  # a part that is none is asked for without Range
        begin, last = map(int, asks.removeprefix("bytes=").split("-"))
        wrong.append(what)
        answer(request, data, begin, last + 1)
        return True

    world.server.trick = trick
    since = world.type("ota check")
    failed = world.board.expect(r"check failed: .* \((\w+)\)$", PATIENCE_S, since)
    world.server.trick = None
    assert wrong
    assert failed[1] in reason.split("|"), failed.string
    world.board.expect(r"free disk", PATIENCE_S, world.board.lines.index(failed.string, since))
    found = world.peek()
    # what has been staged is kept for the next try
    assert_tree(found.without(".ota/stage", ".ota/list"), world.release("1.0.0", {**OLD, **SHORT}).tree)
    goes_on(world)


def goes_on(world: World) -> None:
    """The other modules' ticks went on: no wait for the server held them up."""
    time.sleep(1)  # published every second
    gap = int(world.board.expect(r"loop/max_gap_ms = (\d+)", PATIENCE_S, world.type("values"))[1])
    assert gap < 1_500, "the server is waited for 2 s and more"


# -- lists that say something else than what is there


def relisted(release: Release, change: Callable[[list[dict[str, Any]]], None], packed: bytes | None = None) -> bytes:
    """The bundle with other entries in its list, signed again, and with other bytes behind its head."""
    entries = [entry._asdict() for entry in release.bundle.entries]
    change(entries)
    listing = forge.written(release.bundle.header, entries)
    made = replace(release.bundle, listing=listing, signature=keys.sign(owner(), listing))
    return bundle.pack(replace(made, packed=packed or made.packed))


def move(path: str, by: Callable[[int], int]) -> Callable[[list[dict[str, Any]]], None]:
    """Give the group with this file another place."""

    def change(entries: list[dict[str, Any]]) -> None:
        at = next(entry["at"] for entry in entries if entry["path"] == path)
        for entry in entries:
            if entry["at"] == at:
                entry["at"] = by(at)

    return change


def regroup(release: Release, path: str, change: Callable[[bytes], bytes]) -> bytes:
    """What is behind the head, with the tar of one group changed; all that follows moves with it: it must be the last one."""
    begin, end = place(release, path)
    packed = release.bundle.packed
    members = archive.gzip(change(unpacked(packed[begin:end])))
    return packed[:begin] + members + packed[end:]


def unpacked(data: bytes) -> bytes:
    import gzip

    return gzip.decompress(data)


LAST = "www/same"  # the last file, and alone in its group
PLACES = {
    "one byte too far": lambda at, _end: at + 1,
    "within the group before": lambda at, _end: at - 7,
    "just before the end": lambda _at, end: end - 1,
    "at the end": lambda _at, end: end,
    "beyond the end": lambda _at, end: end + 1_000_000,
}
MEMBERS = {
    "unpacks to more": (lambda tar: tar + bytes(512), "bad_bundle"),
    "unpacks to less": (lambda tar: tar[:-512], "bad_bundle"),
    "unpacks to megabytes": (lambda tar: tar + bytes(8_000_000), "bad_bundle"),
    "has another file": (lambda tar: flipped(tar, 600), "bad_digest"),
    "has a file of another name": (lambda tar: archive.tar_member("www/some", tar[512:20_512]), "bad_member"),
}


@pytest.fixture(scope="module")
def flashed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A board that runs 1.0.0, lacks the last file, and has nothing to do."""
    with World(tmp_path_factory.mktemp("lists")) as world:
        old = world.release("1.0.0", {**OLD, LAST: None})
        world.flash(old)
        world.offer(old)
        world.boot()
        yield world


@pytest.mark.parametrize("where", PLACES)
def test_a_place_that_is_not_right_is_refused(flashed: World, where: str) -> None:
    new = flashed.release("1.1.0", OLD, notes=where)  # a list of its own: nothing of it is staged yet
    made = relisted(new, move(LAST, lambda at: PLACES[where](at, len(new.bundle.packed))))
    refused(flashed, new, made, "bad_member", "bad_bundle")


@pytest.mark.parametrize("what", MEMBERS)
def test_a_member_that_is_not_what_the_list_says_is_refused(flashed: World, what: str) -> None:
    new, (change, reason) = flashed.release("1.1.0", OLD, notes=what), MEMBERS[what]
    refused(flashed, new, relisted(new, lambda _entries: None, regroup(new, LAST, change)), reason)


def refused(world: World, release: Release, made: bytes, *reasons: str) -> None:
    """Offer this bundle in place of the release's: it is not taken, and nothing is left but what is staged and right."""
    world.offer_raw(release.bundle.header, made)
    since = world.type("ota check")
    failed = world.board.expect(r"check failed: .* \((\w+)\)$", PATIENCE_S, since)
    assert failed[1] in reasons, failed.string
    world.board.expect(r"free disk", PATIENCE_S, world.board.lines.index(failed.string, since))
    assert_tree(world.peek().without(".ota/stage", ".ota/list"), world.release("1.0.0", {**OLD, LAST: None}).tree)


@pytest.mark.parametrize("by", [-400, -1, 1, 400, 1_000_000])
def test_a_head_that_is_not_as_long_as_announced_is_refused(flashed: World, by: int) -> None:
    world = flashed
    new = world.release("1.1.0", OLD, notes=str(by))
    (world.site / "sim-board" / BUNDLE).write_bytes(new.archive)
    value = world.announcement(new.bundle.header, new.archive)
    value["bundle"]["head"] += by
    world.put_channel(value)
    since = world.type("ota check")
    failed = world.board.expect(r"check failed: .* \((\w+)\)$", PATIENCE_S, since)
    assert failed[1] in ("bad_bundle", "bad_channel"), failed.string
    world.board.expect(r"free disk", PATIENCE_S, world.board.lines.index(failed.string, since))
    found = world.peek()
    assert ".ota/list" not in found.files
    assert_tree(found.without(".ota/stage"), world.release("1.0.0", {**OLD, LAST: None}).tree)
