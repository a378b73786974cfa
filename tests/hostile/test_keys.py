"""Keys: pinned, rotated over three releases, never dropped or replaced by a release, and never private on a board."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from iotctl import keys
from tests.support import forge, private
from tests.support.scripted_server import ScriptedServer, proper
from tests.support.site import CHANNEL, Site, archive_path, make_profile


def pinned_on(site: Site) -> list[keys.Jwk]:
    found: list[keys.Jwk] = json.loads(site.board.read().files["profile.json"])["ota"]["public_keys"]
    return found


def test_a_key_is_rotated_over_three_releases(site: Site, server: ScriptedServer) -> None:
    """Old, then both, then the new one alone; the old one is worth nothing then. No private key is anywhere."""
    both, new = make_profile(server.url, 0, 1), make_profile(server.url, 1)
    archives = [site.offer("1.1.0", 0, 1_700_000_001, both)]
    site.board.start()
    site.board.expect("confirmed: version 1.1.0 stays", 60)
    archives.append(site.offer("1.2.0", 1, 1_700_000_002, new))
    site.check()
    site.board.expect("confirmed: version 1.2.0 stays", 60)
    archives.append(site.offer("1.3.0", 0, 1_700_000_003, make_profile(server.url, 0)))
    assert site.refused(site.check()) == "bad_signature"
    stolen = site.release("1.3.0", 0)
    server.routes[CHANNEL] = proper(site.channel(stolen, "1.3.0", 1, 1_700_000_004))
    server.routes[archive_path("1.3.0")] = proper(stolen)
    assert site.refused(site.check()) == "bad_signature"
    archives.append(site.offer("1.4.0", 1, 1_700_000_005, new))
    site.check()
    site.board.expect("confirmed: version 1.4.0 stays", 60)
    site.board.stop()
    assert pinned_on(site) == forge.pinned(1)
    image = site.board.read()
    assert site.tree(image, ".ota", "boot.keep") == site.files("1.4.0", new)
    state = b"".join(data for path, data in image.files.items() if path.startswith(".ota/state"))
    assert re.search(rb'"floor": [1-9]', state)
    places = {**image.files, "the image": site.board.image.read_bytes(), "the console": site.board.console().encode()}
    for n, data in enumerate(archives):
        places.update(private.unpacked(f"{n}.tar.gz", data))
    for place, data in places.items():
        assert not private.parts(data, [forge.key(0), forge.key(1)]), place


@pytest.mark.parametrize(
    ("signer", "pinned", "reason"),
    [
        (0, (), "bad_key"),  # drops the keys
        (0, (1,), "bad_key"),  # replaces them: the board could never be updated by its owner again
        (0, (1, 2, 3), "bad_key"),
        (1, (1,), "bad_signature"),  # takes over
        (1, (0, 1), "bad_signature"),
        (0, (1, 2, 3, 0), ""),  # four keys, one of them the signer's
    ],
)
def test_a_release_whose_profile_drops_or_replaces_the_keys(
    site: Site, server: ScriptedServer, signer: int, pinned: tuple[int, ...], reason: str
) -> None:
    profile = make_profile(server.url, *pinned)
    archive = site.release("1.1.0", signer, profile)
    server.routes[CHANNEL] = proper(site.channel(archive, "1.1.0", 0))
    server.routes[archive_path("1.1.0")] = proper(archive)
    site.board.start()
    if reason:
        assert site.refused() == reason
        before = len(server.asked(archive_path("1.1.0")))
        assert site.refused(site.check()) == reason
        again = reason == "bad_signature"  # that may have been damaged on the way
        assert (len(server.asked(archive_path("1.1.0"))) > before) == again
        site.untouched(staged=again)
    else:
        site.board.expect("confirmed: version 1.1.0 stays", 60)
        assert pinned_on_running(site) == forge.pinned(*pinned)


def pinned_on_running(site: Site) -> list[keys.Jwk]:
    site.board.stop()
    return pinned_on(site)


@pytest.mark.parametrize(
    "profile",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 3000,
        b'{"ota":[]}',
        b'{"ota":{"public_keys":{}}}',
        b'{"ota":{"public_keys":[1]}}',
        b'{"ota":{"public_keys":"x"}}',
        b'{"a":"' + b"x" * 17_000 + b'"}',
    ],
)
def test_a_release_whose_profile_is_none(site: Site, server: ScriptedServer, profile: bytes) -> None:
    if not profile:
        files = {"version": b"1.1.0\n"}
        archive = forge.Forgery(files).pack(forge.key(0))
    else:
        archive = site.release("1.1.0", 0, profile)
    server.routes[CHANNEL] = proper(site.channel(archive, "1.1.0", 0))
    server.routes[archive_path("1.1.0")] = proper(archive)
    site.board.start()
    assert site.refused() == "bad_key"
    site.untouched()


def test_a_release_that_has_expired_is_refused_by_a_board_that_knows_the_time(site: Site, server: ScriptedServer) -> None:
    """The simulated board has the computer's clock."""
    archive = site.release("1.1.0", expires=1_700_000_000)
    server.routes[CHANNEL] = proper(site.channel(archive, "1.1.0"))
    server.routes[archive_path("1.1.0")] = proper(archive)
    site.board.start()
    assert site.refused() == "expired"
    site.untouched()


def roles(url: str, release: tuple[int, ...], channel: tuple[int, ...]) -> bytes:
    """A profile with these keys for releases, and these for channel files."""
    pins = {"release_keys": forge.pinned(*release), "channel_keys": forge.pinned(*channel)}
    return make_profile(url, **{name: pinned for name, pinned in pins.items() if pinned})


def test_each_key_does_only_its_own_work_and_both_are_rotated(tmp_path: Path, server: ScriptedServer) -> None:
    """Releases: key 0, then 2. Channel files: key 1, then 3."""
    site = Site(tmp_path, server, release_keys=forge.pinned(0), channel_keys=forge.pinned(1))

    def offer(version: str, release: int, channel: int, published: int, profile: bytes | None = None) -> None:
        archive = site.release(version, release, profile)
        server.routes[CHANNEL] = proper(site.channel(archive, version, channel, 1_700_000_000 + published))
        server.routes[archive_path(version)] = proper(archive)

    offer("1.1.0", 0, 0, 1)
    site.board.start()
    assert site.refused() == "bad_signature"  # the release key moves no channel
    offer("1.1.0", 1, 1, 2)
    assert site.refused(site.check()) == "bad_signature"  # the channel key brings no code
    for n, (release, channel) in enumerate([((2,), (1,)), ((0,), ()), ((), (1,)), ((), ())]):  # drops or replaces a role's keys
        offer("1.1.0", 0, 1, 3 + n, roles(server.url, release, channel))
        assert site.refused(site.check()) == "bad_key"
    both, new = roles(server.url, (0, 2), (1, 3)), roles(server.url, (2,), (3,))
    offer("1.1.0", 0, 1, 10, both)
    site.check()
    site.board.expect("confirmed: version 1.1.0 stays", 60)
    offer("1.2.0", 2, 3, 11, new)
    site.check()
    site.board.expect("confirmed: version 1.2.0 stays", 60)
    offer("1.3.0", 0, 3, 12)
    assert site.refused(site.check()) == "bad_signature"
    offer("1.3.0", 2, 1, 13)
    assert site.refused(site.check()) == "bad_signature"
    site.board.stop()
    assert site.tree(site.board.read(), ".ota", "boot.keep") == site.files("1.2.0", new)


def test_what_was_staged_without_a_signature_is_never_installed_once_a_key_is_pinned(
    tmp_path: Path, server: ScriptedServer
) -> None:
    now = time.gmtime().tm_hour
    site = Site(tmp_path, server, window=f"{(now + 2) % 24:02}:00-{(now + 3) % 24:02}:00")
    site.offer("1.1.0", None)
    site.board.start()
    site.board.expect("version 1.1.0 waits: window", 60)
    site.board.stop()
    site.board.write({"profile.json": make_profile(server.url, 0, window="00:00-23:59")})
    server.routes[CHANNEL] = proper(site.channel(site.release("1.1.0", None), "1.1.0", 0, 1_700_000_001))
    since = len(site.board.lines)
    site.board.start()
    site.board.expect("wifi: connected", 60, since)  # it may have planned its next check in an hour, or not yet
    assert site.refused(site.check()) == "no_signature"  # a signed channel file offers the very bytes that lie in the stage
    site.board.stop()
    left = site.board.read()
    assert left.files["version"] == b"1.0.0\n"
    assert not [path for path in left.files if path.startswith((".ota/journal", ".ota/trial"))]


def test_five_keys_are_too_many(tmp_path: Path, server: ScriptedServer) -> None:
    site = Site(tmp_path, server, 0, 1, 2, 3, 0)
    site.board.start()
    site.board.expect("ota: off: profile.json: ota.public_keys is wrong; expected: a list of 1 to 4 keys")
    site.board.stop()
    assert not server.requests
