"""Delta bundles: what `publish --deltas` makes of the releases in the server's folder, and what a board makes of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iotctl import bundle, delta, keys
from iotctl.profile import Profile
from modules.ota import channel as board_channel
from modules.ota import paths
from modules.ota.rules import Rules
from tests.support import forge
from tests.unit.iotctl_fixture import Place, key, make_place, run

HINGE = "class Hinge:\n" + "".join(f"    limit_{n} = {n * 7}\n" for n in range(60))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


def publish(place: Place, version: str, angle: int, *extra: object) -> Any:
    """Build and publish a release whose only news are its version and one line; the channel file's content."""
    (place.source / "modules/door/hinge.py").write_text(HINGE + f"    angle = {angle}\n")
    result = place.build("--key", place.key, "--py", version=version)
    assert result.exit_code == 0, result.output
    made = place.root / "dist" / f"{version}.tar.gz"
    done = run("publish", made, place.root / "site", "--key", place.key, "--json", *extra)
    assert done.exit_code == 0, done.output
    raw = (place.root / "site" / "door-1" / "stable.json").read_bytes()
    return board_channel.parse(raw, [keys.jwk(key(0))])


def folder(place: Place) -> Path:
    return place.root / "site" / "door-1"


def test_deltas_lead_from_the_last_releases_to_the_new_one(place: Place) -> None:
    for n, version in enumerate(("1.1.0", "1.2.0", "1.3.0")):
        assert publish(place, version, n)["deltas"] == {}
    found = publish(place, "1.4.0", 9, "--deltas", 2)["deltas"]
    assert list(found) == ["1.3.0", "1.2.0"]
    for base, announced in found.items():
        path = folder(place) / announced["file"]
        assert path.name == f"{base}-1.4.0.tar.gz" and path.stat().st_size == announced["size"]
        made = bundle.read(path)
        assert made.header["base"] == base and made.header["version"] == "1.4.0"
        assert [entry["path"] for entry in made.entries] == ["modules/door/hinge.py", "version"]
        assert "patch" in made.entries[0] and len(made.files["modules/door/hinge.py"]) < 30
        full = folder(place) / "1.4.0.tar.gz"
        assert announced["size"] < full.stat().st_size


def test_a_delta_is_made_of_what_can_be_its_base_only(place: Place) -> None:
    """Of this board, older, a full bundle, signed by a key that the new profile pins."""
    publish(place, "1.1.0", 1)
    site = folder(place)
    other = make_place(place.root / "other")
    shutil.copy(place.root / "other.pem", other.key)  # a key that nothing pins
    other.change_ota(public_keys=[keys.jwk(key(1))])
    assert other.build("--key", other.key, "--py", version="1.2.0").exit_code == 0
    shutil.copy(other.root / "dist" / "1.2.0.tar.gz", site / "1.2.0.tar.gz")
    other.change(shortName="Window")
    other.change_ota(public_keys=[keys.jwk(key(0))])
    assert other.build("--key", place.key, "--py", version="1.2.5").exit_code == 0
    shutil.copy(other.root / "dist" / "1.2.5.tar.gz", site / "1.2.5.tar.gz")
    (site / "1.2.7.tar.gz").write_bytes(b"no archive")
    publish(place, "1.9.0", 2)
    assert list(publish(place, "1.4.0", 3, "--deltas", 9)["deltas"]) == ["1.1.0"]


def test_a_delta_that_is_not_smaller_is_left_out(place: Place) -> None:
    publish(place, "1.1.0", 1)
    found = publish(place, "1.4.0", 2, "--deltas", 1)["deltas"]["1.1.0"]
    new = bundle.read(folder(place) / "1.4.0.tar.gz")
    assert len(delta.from_folder(new, folder(place), 1, found["size"] + 1, key(0))) == 1
    assert delta.from_folder(new, folder(place), 1, found["size"], key(0)) == []


def test_names_that_only_change_their_case_are_left_to_full_bundles(place: Place) -> None:
    publish(place, "1.1.0", 1)
    www = place.source / "modules/door/www"
    (www / "index.html").rename(www / "Index.html")
    assert publish(place, "1.4.0", 1, "--deltas", 1)["deltas"] == {}


def test_the_channel_file_stays_readable_with_many_deltas(place: Place) -> None:
    long = "0" * 8
    for n in range(1, 18):
        (place.source / "modules/door/hinge.py").write_text(HINGE + f"    angle = {n}\n")
        version = f"1.0.0-{long}{n}"
        built = place.build("--key", place.key, "--py", "--sequence", n, version=version)
        assert built.exit_code == 0, built.output
        made = place.root / "dist" / f"{version}.tar.gz"
        done = run("publish", made, place.root / "site", "--key", place.key, *(("--deltas", 16) if n == 17 else ()))
        assert done.exit_code == 0, done.output
    raw = (folder(place) / "stable.json").read_bytes()
    value = board_channel.parse(raw, [keys.jwk(key(0))])
    assert len(raw) <= 4096 and 8 < len(value["deltas"]) <= 16
    assert next(iter(value["deltas"])) == f"1.0.0-{long}16"
    for announced in value["deltas"].values():
        assert (folder(place) / announced["file"]).stat().st_size == announced["size"]


def test_verify_and_inspect_know_deltas(place: Place) -> None:
    publish(place, "1.1.0", 1)
    publish(place, "1.4.0", 2, "--deltas", 1)
    path = folder(place) / "1.1.0-1.4.0.tar.gz"
    alone = run("verify", path, "--profile", place.profile)
    assert alone.exit_code == 0 and "signature: good" in alone.stdout
    assert "it starts from 1.1.0; patches: not checked" in alone.stdout
    whole = run("verify", path, "--profile", place.profile, "--base", folder(place) / "1.1.0.tar.gz")
    assert whole.exit_code == 0 and "patches: good" in whole.stdout
    wrong = run("verify", path, "--base", folder(place) / "1.4.0.tar.gz")
    assert wrong.exit_code == 1 and "wrong_base" in wrong.stderr
    stranger = run("verify", path, "--key", place.root / "other.pem")
    assert stranger.exit_code == 1 and "bad_signature" in stranger.stderr
    assert "modules/door/hinge.py" in run("inspect", path).stdout
    entries = json.loads(run("inspect", path, "--json").stdout)["entries"]
    assert [entry["path"] for entry in entries if "patch" in entry] == ["modules/door/hinge.py"]


def test_a_delta_itself_is_not_published(place: Place) -> None:
    publish(place, "1.1.0", 1)
    publish(place, "1.4.0", 2, "--deltas", 1)
    result = run("publish", folder(place) / "1.1.0-1.4.0.tar.gz", place.root / "other-site", "--key", place.key)
    assert result.exit_code == 1 and "publish the full bundle" in result.stderr
    assert not (place.root / "other-site").exists()


NAMES = st.sampled_from(["a.py", "a/b.py", "a/c/d.py", "a.pyx", "lib/x.mpy", "lib/x/y.mpy", "www/z", "version", "B", "b.txt"])
CONTENT = st.binary(max_size=60) | st.sampled_from([b"", b"x = 1\n" * 50, b"x = 1\n" * 49 + b"y = 2\n"])
TREES = st.dictionaries(NAMES, CONTENT, max_size=8).map(
    lambda files: {p: d for p, d in files.items() if not any(o.lower().startswith(p.lower() + "/") for o in files)}
)


def made_of(files: dict[str, bytes], version: str, sequence: int) -> bundle.Bundle:
    value = {"shortName": forge.NAME, "activeModules": [], "ota": {"delete": []}}
    return bundle.make(Profile(Path("profile.json"), b"", value), files, bundle.Options(version, sequence))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(TREES, TREES)
def test_any_tree_becomes_any_other_by_a_delta(tmp_path_factory: pytest.TempPathFactory, old: Any, new: Any) -> None:
    before, after = made_of(old, "1.0.0", 1), made_of(new, "1.1.0", 2)
    made = delta.make(before, after)
    if made is None:
        assert {path.lower() for path in old} & {path.lower() for path in new}
        return
    root = tmp_path_factory.mktemp("board")
    rules = Rules(forge.NAME, running="1.0.0")
    staged = forge.install(bundle.pack(made), rules, root, {**old, ".ota/release": before.listing})
    gone = {entry["path"] for entry in made.entries if entry["size"] is None}
    assert {**{path: data for path, data in old.items() if path not in gone}, **staged} == new
    slot = root / ".ota" / "stage" / str(made.header["files"] // 16) / str(made.header["files"] % 16)
    kept = slot.read_bytes().splitlines(True)
    assert kept[0] == after.listing.splitlines(True)[0]
    listed = {json.loads(line)["path"]: line for line in before.listing.splitlines(True)[1:] + kept[1:]}
    merged = [listed[path] for path in sorted(listed, key=paths.key) if json.loads(listed[path])["size"] is not None]
    wanted = after.listing.splitlines(True)[1:]
    assert wanted in (merged, kept[1:]), "neither the changes nor the complete list"
