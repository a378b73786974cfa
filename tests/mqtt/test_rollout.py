"""iotctl rollout with a real board and broker: a release that fails its trial halts it, and the revert reaches the board."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from iotctl import ROOT, keys
from tests.mqtt.conftest import BASE, LAMP, LAMP_FILES
from tests.mqtt.test_commands import start
from tests.support.broker import Broker, Observer
from tests.support.world import World, owner


def test_a_failed_trial_halts_the_rollout_and_the_revert_reaches_the_board(
    world: World, seen: Observer, broker: Broker, tmp_path: Path
) -> None:
    start(world, seen)
    keys.write_private(owner(), tmp_path / "owner.pem", None)
    bad = world.release(
        "1.1.0", {**LAMP_FILES, "modules/lamp/__init__.py": LAMP + b"\n    def start(self):\n        raise ValueError\n"}
    )
    (tmp_path / "1.1.0.tar.gz").write_bytes(bad.archive)
    where = ["--site", str(world.site), "--key", str(tmp_path / "owner.pem")]
    command = [sys.executable, "-m", "iotctl", "rollout", "start", str(tmp_path / "1.1.0.tar.gz"), *where]
    options = ["--broker", f"127.0.0.1:{broker.port}", "--steps", "100", "--soak", "1s"]
    with subprocess.Popen([*command, *options], cwd=ROOT, stdout=subprocess.PIPE, text=True) as rollout:
        assert rollout.stdout and "running, 100%" in rollout.stdout.readline()
        since = world.type("ota check")
        world.wait_rolled_back(bad, "module_failed", since)
        said = rollout.stdout.read()
    assert rollout.returncode == 1
    assert f"1 of 1 boards did not take it; {BASE}: module_failed" in said, said
    assert json.loads(world.channel_file().read_bytes().splitlines()[0])["rollout"] == {"percent": 0}

    revert = [sys.executable, "-m", "iotctl", "rollout", "revert", "--version", "1.1.1", "--out", str(tmp_path), *where]
    assert subprocess.run(revert, cwd=ROOT, timeout=60).returncode == 0
    since = world.type("ota check")
    world.board.expect("confirmed: version 1.1.1 stays", 60, since)
    seen.wait(f"{BASE}/status/version", "1.1.1")
