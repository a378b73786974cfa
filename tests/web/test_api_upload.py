"""A bundle from the browser: taken, refused, cut short, too large, at the wrong moment."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from iotctl import bundle, keys
from iotctl.profile import Profile
from tests.support import forge
from tests.support.world import SHORT_NAME, Release, noise, owner, stranger
from tests.web.conftest import LAMP, MODULES, PATIENCE_S, Client, WebWorld

ARCHIVE = "new_firmware.tar.gz"


def release(world: WebWorld, version: str, size: int = 3000) -> Release:
    return world.release(version, {**LAMP, "www/page.txt": b"x" * size}, modules=(*MODULES, "lamp"))


def head(client: Client, size: int) -> bytes:
    lines = (
        "POST /api/ota/upload?force=0 HTTP/1.1", f"Host: {client.host}:{client.port}", f"Cookie: sid={client.cookie}",
        f"X-CSRF: {client.csrf}", "Content-Type: application/octet-stream", f"Content-Length: {size}", "", "",
    )  # fmt: skip
    return "\r\n".join(lines).encode()


def test_an_uploaded_bundle_is_installed_and_the_session_survives_it(web_world: WebWorld) -> None:
    web_world.start()
    client, new = web_world.client(), release(web_world, "1.1.0")
    since = web_world.now()
    with client.events() as stream:
        answer = client.upload(new.archive)
        assert (answer.status, answer.json) == (202, {"started": True})
        stream.wait_value("ota/status", "installing")
    web_world.board.expect("ota: verified: .* files, signed", PATIENCE_S, since)
    web_world.wait_confirmed(new, since)
    status = client.get("/api/status")
    assert status.status == 200 and status.json["version"] == "1.1.0"
    web_world.assert_runs(new)


@pytest.fixture(scope="module")
def client(shared: WebWorld) -> Client:
    return shared.client()


def made_by(
    world: WebWorld, signer: keys.PrivateKey | None, *, pinned: keys.PrivateKey | None = None, name: str = SHORT_NAME
) -> bytes:
    """A whole release, as somebody makes it who has this key: iotctl's own bundle, but for its check of the key."""
    made = release(world, "1.1.0")
    value = json.loads(made.files["profile.json"])
    value["shortName"], value["ota"]["public_keys"] = name, [keys.jwk(pinned or owner())]
    profile = Profile(Path("profile.json"), json.dumps(value).encode(), value)
    unsigned = bundle.make(profile, {**made.files, "profile.json": profile.raw}, bundle.Options(made.version, made.sequence))
    return bundle.pack(replace(unsigned, signature=keys.sign(signer, unsigned.listing) if signer else None))


def damaged(made: Release, path: str) -> bytes:
    """The bundle with 40 wrong bytes in the data of a file that the board does not have yet: what it has is not read."""
    at = next(entry.at for entry in made.bundle.entries if entry.path == path) + forge.head_size(made.archive) + 100
    data = made.archive
    return data[:at] + bytes(byte ^ 0xFF for byte in data[at : at + 40]) + data[at + 40 :]


WRONG: dict[str, tuple[Callable[[WebWorld], bytes], tuple[str, ...]]] = {
    "no archive": (lambda world: b"\x89PNG not a bundle" * 100, ("bad_bundle",)),
    "a few bytes": (lambda world: b"short", ("bad_bundle",)),
    "another's key": (lambda world: made_by(world, stranger()), ("bad_signature",)),
    "another's key, pinned in its profile": (lambda world: made_by(world, stranger(), pinned=stranger()), ("bad_signature",)),
    "the owner's key, but another's pinned": (lambda world: made_by(world, owner(), pinned=stranger()), ("bad_key",)),
    "no signature": (lambda world: made_by(world, None), ("no_signature",)),
    "another's board": (lambda world: made_by(world, owner(), name="another-board"), ("wrong_name",)),
    "another's board and key": (
        lambda world: made_by(world, stranger(), pinned=stranger(), name="another-board"), ("bad_signature",)),
    "older": (lambda world: release(world, "0.9.0").archive, ("old_sequence",)),
    "cut": (lambda world: release(world, "1.1.0").archive[:-100], ("bad_bundle",)),
    "damaged": (
        lambda world: damaged(
            world.release("1.1.0", {**LAMP, "www/new": noise(1, 40_000)}, modules=(*MODULES, "lamp")), "www/new"),
        ("bad_bundle", "bad_digest", "bad_member", "bad_size"),  # whatever the bits happen to say to the decompressor
    ),
}  # fmt: skip


def no_file(world: WebWorld) -> bool:
    return ARCHIVE not in world.peek().files


@pytest.mark.parametrize(
    ("kind", "force"), [*((kind, False) for kind in WRONG), ("another's key", True), ("another's board", True), ("older", True)]
)
def test_a_wrong_bundle_is_refused_with_its_reason_and_changes_nothing(
    shared: WebWorld, client: Client, kind: str, force: bool
) -> None:
    make, reasons = WRONG[kind]
    data = make(shared)
    before = shared.peek().without(".ota").files
    since = shared.now()
    assert client.upload(data, force).status == 202
    reason = shared.board.expect(r"ota: install failed: .* \((\w+)\)", PATIENCE_S, since)[1]
    assert reason in reasons
    status = client.get("/api/status").json["ota"]
    assert status["state"] == "failed" and status["error"] == reason and status["message"]
    values = client.get("/api/values").json
    assert (values["ota/error"], values["ota/message"]) == (reason, status["message"])
    assert shared.peek().without(".ota").files == before and no_file(shared)


@pytest.mark.parametrize("sent", [0, 500, 30_000])
def test_an_upload_that_stops_leaves_nothing(shared: WebWorld, client: Client, sent: int) -> None:
    since = shared.now()
    connection = client.raw(head(client, 50_000) + b"x" * sent)
    shared.board.expect("web: an upload of 50000 bytes", PATIENCE_S, since)
    connection.close()
    shared.board.expect(r"web: refused 127.0.0.1: incomplete: .* \(400 incomplete\)", PATIENCE_S, since)
    assert no_file(shared)
    assert client.post("/api/ota/cancel").status == 409  # nothing is left running


def test_an_upload_and_a_job_exclude_each_other(shared: WebWorld, client: Client) -> None:
    since = shared.now()
    connection = client.raw(head(client, 50_000) + b"x" * 10_000)
    shared.board.expect("web: an upload of 50000 bytes", PATIENCE_S, since)
    for path in ("check", "update"):
        answer = client.post(f"/api/ota/{path}")
        assert (answer.status, answer.json["error"]) == (409, "busy")
    answer = client.upload(b"x" * 2000)
    assert (answer.status, answer.json["error"]) == (409, "busy")
    assert client.get("/api/status").json["ota"]["job"] == "upload"
    assert client.post("/api/ota/cancel").status == 202
    connection.sendall(b"x" * 10_000)
    assert b" 409 " in connection.recv(64)
    connection.close()
    assert no_file(shared)


def test_a_cancelled_upload_leaves_the_next_ones_file_alone(shared: WebWorld, client: Client) -> None:
    """Its connection is still open then, and ends while the next one is on its way. That is read as a whole, and so refused."""
    data = made_by(shared, stranger())
    since = shared.now()
    first = client.raw(head(client, 50_000))  # and nothing of it: the board waits
    shared.board.expect("web: an upload of 50000 bytes", PATIENCE_S, since)
    assert client.post("/api/ota/cancel").status == 202
    second = client.raw(head(client, len(data)) + data[:20_000])
    shared.board.expect(f"web: an upload of {len(data)} bytes", PATIENCE_S, since)
    first.close()
    for _ in range(3):  # the board sees that it has ended
        assert client.get("/api/status").json["ota"]["job"] == "upload"
    second.sendall(data[20_000:])
    assert b" 202 " in second.recv(64)
    second.close()
    assert shared.board.expect(r"ota: install failed: .* \((\w+)\)", PATIENCE_S, since)[1] == "bad_signature"
    assert no_file(shared)


def test_an_upload_that_cannot_fit_is_refused_before_its_first_byte(shared: WebWorld, client: Client) -> None:
    for size, status, reason in ((17_000_000, 413, b"too_large"), (0, 413, b"too_large"), (4_000_000, 507, b"no_space")):
        connection = client.raw(head(client, size))
        said = b""
        while reason not in said:
            part = connection.recv(4096)
            assert part, said
            said += part
        assert said.startswith(b"HTTP/1.0 %d " % status)
        connection.close()
    answer = client.request("POST", "/api/ota/upload", b"xx", {"Content-Type": "application/octet-stream"})
    assert answer.status == 403
    assert no_file(shared)


def test_more_than_was_announced_is_not_read(shared: WebWorld, client: Client) -> None:
    since = shared.now()
    connection = client.raw(head(client, 2_000) + b"x" * 8_000)
    shared.board.expect(r"ota: install failed: .* \(bad_bundle\)", PATIENCE_S, since)
    connection.close()
    time.sleep(0.1)
    assert no_file(shared)
