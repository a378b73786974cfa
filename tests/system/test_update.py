"""A board updates itself over real HTTP: what it ends with is compared file by file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.system.world import World

LAMP = b'from iot_platform.module import Module as Base\n\nclass Module(Base):\n    name = "lamp"\n'


@pytest.mark.parametrize("fs", ["lfs", "fat"])
def test_updates_and_confirms(tmp_path: Path, fs: str) -> None:
    with World(tmp_path, fs=fs) as world:
        world.publish("1.0.0")
        world.start()
        files = world.publish("1.1.0", {"assets/a.txt": b"a" * 5000, "assets/deep/b.txt": b"b"})
        world.check("confirmed: version 1.1.0 stays", 60)
        world.assert_runs(files)


def test_nothing_new_costs_one_small_answer(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        world.publish("1.0.0")
        world.start()
        world.check("up to date: running 1.0.0")
        assert [request.status for request in world.server.requests] == [200, 304]
        world.assert_runs(world.now)


def test_removes_what_the_new_version_has_not_and_brings_folders(tmp_path: Path) -> None:
    changes = {"old/deep/x.txt": b"x", "swap.py": b"# a file", "both/a.txt": b"a"}
    with World(tmp_path, changes=changes) as world:
        world.publish("1.0.0", changes)
        world.start()
        files = world.publish("1.1.0", {"swap.py/now.txt": b"a folder", "both": b"a file"})
        world.check("confirmed: version 1.1.0 stays", 60)
        world.assert_runs(files)


def test_versions_are_numbers(tmp_path: Path) -> None:
    with World(tmp_path, version="1.9.0") as world:
        world.publish("1.9.0")
        world.start()
        files = world.publish("1.10.0")
        world.check("confirmed: version 1.10.0 stays", 60)
        world.assert_runs(files)


def test_a_missing_version_file_is_no_obstacle(tmp_path: Path) -> None:
    with World(tmp_path, changes={"version": None}) as world:
        files = world.publish("1.1.0")
        world.start()
        world.board.expect("confirmed: version 1.1.0 stays", 60)
        world.assert_runs(files)


def test_another_channel(tmp_path: Path) -> None:
    from iotctl import bundle, publish
    from tests.system.world import key

    with World(tmp_path) as world:
        world.publish("1.0.0")
        world.start()
        files = world.files("1.2.0")
        path = tmp_path / "canary.tar.gz"
        path.write_bytes(bundle.pack(world.make("1.2.0", files)))
        publish.publish(path, tmp_path / "server", publish.Options(channel="canary"), key())
        world.check("up to date")
        world.board.send("ota channel canary")
        world.board.expect("ota channel: canary")
        world.check("confirmed: version 1.2.0 stays", 60)
        world.board.stop()
        assert json.loads(world.board.read().files["prefs.json.1"].split(b"\n")[0])["ota.channel"] == "canary"


def test_excluded_files_are_never_touched(tmp_path: Path) -> None:
    mine = {"calibration.json": b"mine", "data/log.txt": b"mine"}
    with World(tmp_path, changes=mine, excluded_files=["calibration.json", "data"]) as world:
        world.publish("1.0.0", mine)
        world.start()
        files = world.publish("1.1.0", {"calibration.json": b"theirs", "data/log.txt": b"theirs"})
        world.check("confirmed: version 1.1.0 stays", 60)
        world.assert_runs({**files, **mine})


def test_delete_removes_what_no_release_lists_and_a_rollback_restores_it(tmp_path: Path) -> None:
    with World(tmp_path, keep_previous=True) as world:
        world.publish("1.0.0")
        world.board.write({"trash/a.txt": b"unlisted", "trash/b/c.txt": b"unlisted"})
        world.start()
        files = world.publish("1.1.0", delete=["trash"])
        world.check("confirmed: version 1.1.0 stays", 60)
        world.board.send("ota rollback")
        world.board.expect("confirmed: version 1.0.0 stays", 60)
        world.check("up to date|failed", 30)  # the release that was left is not offered again
        world.board.stop()
        found = world.tree()
        assert found.files == {**world.now, "trash/a.txt": b"unlisted", "trash/b/c.txt": b"unlisted"}
        assert files["version"] == b"1.1.0\n"


def test_the_old_latest_protocol_without_a_key(tmp_path: Path) -> None:
    from iotctl import bundle, publish

    with World(tmp_path, signed=False) as world:
        files = world.files("1.1.0", {"hello.txt": b"hello"})
        path = tmp_path / "1.1.0.tar.gz"
        path.write_bytes(bundle.pack(world.make("1.1.0", files)))
        publish.publish(path, tmp_path / "server", publish.Options(legacy=True))
        (tmp_path / "server" / "sim-board" / "stable.json").unlink()
        world.start()
        world.board.expect("unsigned `latest` protocol")
        world.board.expect("confirmed: version 1.1.0 stays", 60)
        found = world.tree()
        assert {p: c for p, c in found.files.items() if p not in ("boot.py", "ota_boot.py", "ota_boot_old.py")} == {
            p: c for p, c in files.items() if p not in ("boot.py", "ota_boot.py")
        }


def test_a_pinned_key_rules_the_latest_protocol_out(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        folder = tmp_path / "server" / "sim-board"
        folder.mkdir()
        (folder / "latest").write_text("9.9.9;evil.tar.gz;1;1;" + "0" * 64 + ";")
        world.start()
        world.board.expect(r"check failed: the server answered 404 .*\(http_status\)")
        assert not any("latest" in request.path for request in world.server.requests)
        world.assert_runs(world.now)


def test_modules_tick_on_through_a_whole_update(tmp_path: Path) -> None:
    with World(tmp_path, auto_install=False) as world:
        world.publish("1.0.0")
        world.start()
        world.publish("1.1.0", {"assets/a.txt": b"a" * 50_000})
        world.board.send("witness")
        world.check("is ready to install", 30)
        since = len(world.board.lines)
        world.board.send("witness")
        gap = int(world.board.expect(r"witness: longest gap (\d+) ms", 10, since)[1])
        print(f"longest gap between two ticks while checking, downloading and verifying: {gap} ms")
        assert gap < 2_000
