"""iotctl publish: what a board reads is whole, signed, and never goes back."""

from __future__ import annotations

import hashlib
import json
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from iotctl import archive, bundle, keys
from iotctl.board_code import finish
from modules.ota.errors import OtaError
from modules.ota.legacy import requests_http
from modules.ota.release import channel as board_channel
from tests.unit.iotctl_fixture import Place, key, make_place, run


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


@pytest.fixture
def unsigned(place: Place) -> Path:
    """A bundle of a board without a key."""
    place.change_ota(public_keys=None)
    assert place.build().exit_code == 0
    return place.root / "dist" / "1.4.0.tar.gz"


def test_the_board_takes_the_channel_file(place: Place) -> None:
    path, site = place.built(), place.root / "site"
    result = run("publish", path, site, "--key", place.key, "--rollout", 10, "--group", "house=50", "--expires", "2030-01-31")
    assert result.exit_code == 0, result.output
    for wrong in ("house", "house=101", "=5", "../x=5"):
        assert run("publish", path, site, "--key", place.key, "--group", wrong).exit_code == 2
    assert result.stdout.split() == [str(site / "door-1" / "1.4.0.tar.gz"), str(site / "door-1" / "stable.json")]
    value = finish(board_channel.parse((site / "door-1" / "stable.json").read_bytes(), [keys.jwk(key(0))]))
    board_channel.check(value, "Door-1", "stable", 0, 1_800_000_000)
    data = (site / "door-1" / value["bundle"]["file"]).read_bytes()
    assert data == path.read_bytes()
    listed = hashlib.sha256(bundle.read(path).listing).hexdigest()
    assert value["bundle"]["size"] == len(data) and value["bundle"]["sha256"] == listed
    assert data[value["bundle"]["head"] :] == bundle.read(path).packed
    assert (value["version"], value["sequence"], value["expires"]) == ("1.4.0", 1004000, 1896048000)
    assert value["rollout"] == {"percent": 10, "groups": {"house": 50}} and value["notes"] == ""


def test_the_channel_file_has_the_notes_or_their_beginning(place: Place, unsigned: Path) -> None:
    for notes in ("Fixes the d\u00f6\u00f6r.", "\U0001f6aa" * 300):
        assert place.build("--notes", notes).exit_code == 0
        assert run("publish", unsigned, place.root / "site").exit_code == 0
        raw = (place.root / "site" / "door-1" / "stable.json").read_bytes()
        assert finish(board_channel.parse(raw, []))["notes"] == notes[:255]


def test_the_head_of_what_is_no_bundle_is_refused() -> None:
    for data in (b"", b"no archive", archive.gzip(b"no tar"), archive.gzip(archive.tar([("a", b"")]))):
        with pytest.raises(OtaError) as caught:
            archive.head_of(data)[0]
        assert caught.value.reason == "bad_bundle"


def test_published_always_rises(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    path, site = place.built(), place.root / "site"
    counters = []
    for now in (1_800_000_000, 1_800_000_000, 1_799_990_000, 1_900_000_000):
        monkeypatch.setattr(time, "time", lambda now=now: float(now))
        counters.append(json.loads(run("publish", path, site, "--key", place.key, "--json").stdout)["published"])
    assert counters == [1_800_000_000, 1_800_000_001, 1_800_000_002, 1_900_000_000]


def test_what_boards_would_refuse_is_not_published(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter more than a day from now, which whoever stole the key may have written; a sequence far above the last one."""
    site = place.root / "site"
    assert run("publish", place.built(), site, "--key", place.key).exit_code == 0
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)
    result = run("publish", place.built(), site, "--key", place.key)
    assert result.exit_code == 1 and "a day from now" in result.stderr
    monkeypatch.undo()
    assert place.build("--key", place.key, "--sequence", 1_004_001 + (1 << 32), version="1.5.0").exit_code == 0
    path = place.root / "dist" / "1.5.0.tar.gz"
    assert "--force" in run("publish", path, site, "--key", place.key).stderr
    assert run("publish", path, site, "--key", place.key, "--force").exit_code == 0


def test_channels_do_not_touch_each_other(place: Place) -> None:
    site = place.root / "site"
    run("publish", place.built("1.4.0"), site, "--key", place.key)
    stable = (site / "door-1" / "stable.json").read_bytes()
    run("publish", place.built("1.5.0"), site, "--key", place.key, "--channel", "canary")
    assert (site / "door-1" / "stable.json").read_bytes() == stable
    assert json.loads((site / "door-1" / "canary.json").read_bytes().split(b"\n")[0])["version"] == "1.5.0"


def test_a_board_without_a_key_gets_an_unsigned_channel_file(place: Place, unsigned: Path) -> None:
    site = place.root / "site"
    assert run("publish", unsigned, site).exit_code == 0
    raw = (site / "door-1" / "stable.json").read_bytes()
    assert raw.count(b"\n") == 1 and finish(board_channel.parse(raw, []))["name"] == "Door-1"


def test_legacy_writes_what_existing_devices_take_last(place: Place, unsigned: Path) -> None:
    site = place.root / "site" / "door-1"
    result = run("publish", unsigned, site.parent, "--legacy")
    assert [Path(line).name for line in result.stdout.split()] == ["1.4.0.tar.gz", "stable.json", "1.4.0-legacy.tar.gz", "latest"]
    line = (site / "latest").read_text()
    version, file, size_kb, size, digest = requests_http.parse_latest(line)
    data = (site / file).read_bytes()
    assert line.endswith(";\n") and (version, size, digest) == ("1.4.0", len(data), hashlib.sha256(data).hexdigest())
    with tarfile.open(site / file) as archive:
        found = archive.getmembers()
    folders = [m.name for m in found if m.isdir()]
    assert folders == [m.name for m in found][: len(folders)] and {"modules", "modules/door"} <= set(folders)
    names = [m.name for m in found if m.isreg()]
    assert names[-5:] == ["modules/door/__init__.mpy", "boot.py", "version", "profile.json", "main.py"]
    assert "boot.py" in names and "version" in names and not any(name.startswith(".") for name in names)
    assert size_kb * 1024 >= len(data) + sum(m.size for m in found)


def test_publish_refuses_and_writes_nothing(place: Place) -> None:
    path = place.built()
    place.build("--unsigned", out="plain")
    plain = place.root / "plain" / "1.4.0.tar.gz"
    damaged = place.root / "damaged.tar.gz"
    damaged.write_bytes(path.read_bytes()[:-20])
    before = place.snapshot()
    cases = [
        ((path,), 1, "give --key"),
        ((plain,), 1, "not signed"),
        ((plain, "--key", place.key), 1, "not signed"),
        ((path, "--key", place.root / "other.pem"), 1, "not among"),
        ((damaged, "--key", place.key), 1, "bad_bundle"),
        ((path, "--key", place.key, "--channel", "../x"), 1, "channel"),
        ((path, "--key", place.key, "--rollout", "101"), 2, ""),
        ((path, "--key", place.root / "none.pem"), 3, "none.pem"),
        ((place.root / "none.tar.gz", "--key", place.key), 3, "none.tar.gz"),
    ]
    for (bundle_path, *options), code, words in cases:
        result = run("publish", bundle_path, place.root / "site", *options)
        assert (result.exit_code, words in result.stderr) == (code, True), result.stderr
    assert place.snapshot() == before


def test_publish_believes_only_what_the_bundles_own_profile_pins(place: Place) -> None:
    """Signed by some key, and published with the right one: no board would take it."""
    made = bundle.read(place.built())
    path = place.root / "foreign.tar.gz"
    path.write_bytes(bundle.pack(replace(made, signature=keys.sign(key(1), made.listing))))
    before = place.snapshot()
    for options in ((), ("--force",)):
        result = run("publish", path, place.root / "site", "--key", place.key, *options)
        assert result.exit_code == 1 and "bad_signature" in result.stderr, result.output
    assert place.snapshot() == before


def test_publish_refuses_what_is_older_or_has_expired_unless_told(place: Place) -> None:
    site = place.root / "site"
    newer = place.built("1.5.0")
    assert run("publish", newer, site, "--key", place.key).exit_code == 0
    assert place.build("--key", place.key, "--expires", "2020-01-31", version="1.6.0").exit_code == 0
    older, expired = place.built("1.4.0"), place.root / "dist" / "1.6.0.tar.gz"
    before = place.snapshot()
    for path, options, words in (
        (older, (), "old_sequence"),
        (expired, (), "expired"),
        (newer, ("--expires", "2020-01-31"), "expired"),
    ):
        result = run("publish", path, site, "--key", place.key, *options)
        assert result.exit_code == 1 and words in result.stderr, result.output
        assert place.snapshot() == before
    for path in (newer, older, expired):  # the same once more needs no force: another rollout, say
        assert run("publish", path, site, "--key", place.key, *(() if path is newer else ("--force",))).exit_code == 0


def test_each_key_has_its_role(place: Place) -> None:
    """The release key signs the bundle, the channel key publishes it; neither does the other's work."""
    channel = place.root / "channel.pem"
    assert run("keygen", channel, "--profile", place.profile, "--role", "channel").exit_code == 0
    pinned = json.loads(place.profile.read_text())["ota"]
    assert pinned["release_keys"] == [keys.jwk(key(0))] and "public_keys" not in pinned
    assert pinned["channel_keys"] == [keys.jwk(key(0)), keys.read_public_jwk(channel)]  # old, then both, then new
    place.change_ota(channel_keys=[keys.read_public_jwk(channel)])
    assert "release_keys" in place.build("--key", channel).stderr
    path, site = place.built(), place.root / "site"
    assert "channel_keys" in run("publish", path, site, "--key", place.key).stderr
    assert run("publish", path, site, "--key", channel).exit_code == 0
    assert finish(board_channel.parse((site / "door-1" / "stable.json").read_bytes(), [keys.read_public_jwk(channel)]))
    assert run("verify", path, "--profile", place.profile).exit_code == 0
    assert "bad_signature" in run("verify", path, "--key", channel).stderr


def test_a_damaged_channel_file_is_not_replaced(place: Place) -> None:
    site = place.root / "site"
    run("publish", place.built(), site, "--key", place.key)
    (site / "door-1" / "stable.json").write_bytes(b"{}")
    before = place.snapshot()
    result = run("publish", place.root / "dist" / "1.4.0.tar.gz", site, "--key", place.key)
    assert result.exit_code == 1 and "bad_channel" in result.stderr and place.snapshot() == before


def test_the_channel_file_changes_last(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publish that fails half-way leaves the channel file that names the old bundle."""
    site = place.root / "site"
    run("publish", place.built("1.4.0"), site, "--key", place.key)
    channel = (site / "door-1" / "stable.json").read_bytes()
    path = place.built("1.5.0")
    (site / "door-1" / "1.5.0.tar.gz").mkdir()
    result = run("publish", path, site, "--key", place.key)
    assert result.exit_code == 3 and (site / "door-1" / "stable.json").read_bytes() == channel
    assert not [p for p in (site / "door-1").iterdir() if p.name.startswith(".")]
