"""From a wheel to a module of one's own and its update over the air, as a newcomer does it: outside of any checkout."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import threading
import venv
from pathlib import Path

import pytest

from iotctl import ROOT
from sim import micropython
from tests.support.ports import free_port

PATIENCE_S = 240


@pytest.fixture(scope="module")
def iotctl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command that the wheel installs, in an environment that has what it depends on, and no checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    subprocess.run([*build, "-d", folder], cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE_S)
    venv.create(folder / "venv", with_pip=False)
    site = Path(next((folder / "venv" / "lib").iterdir()), "site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    install = [sys.executable, "-m", "pip", "--python", str(folder / "venv"), "install", "--no-deps", "--no-index", "-q"]
    subprocess.run([*install, *folder.glob("*.whl")], check=True, capture_output=True, timeout=PATIENCE_S)
    return folder / "venv" / "bin" / "iotctl"


def test_from_a_wheel_to_an_update_of_ones_own_module(iotctl: Path, tmp_path: Path) -> None:
    house = tmp_path / "house"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    env.update(MICROPYTHON=str(micropython.find()), XDG_CACHE_HOME=str(tmp_path / "cache"), PYTHONUNBUFFERED="1")

    def run(*words: str, folder: Path = house) -> str:
        done = subprocess.run([iotctl, *words], cwd=folder, env=env, capture_output=True, text=True, timeout=PATIENCE_S)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    assert re.fullmatch(r"iotctl \d+\.\d+.*\n", run("--version", folder=tmp_path))
    run("new", "house", folder=tmp_path)
    run("new-module", "mill")
    run("test")
    profile = json.loads((house / "profile.json").read_text())
    port = free_port()
    profile["ota"]["url"] = f"http://127.0.0.1:{port}"
    (house / "profile.json").write_text(json.dumps(profile))
    assert "is good" in run("check")
    bare = {**{name: value for name, value in env.items() if name != "MICROPYTHON"}, "PATH": "/nowhere"}
    without = subprocess.run([iotctl, "sim"], cwd=house, env=bare, capture_output=True, text=True, timeout=PATIENCE_S)
    assert without.returncode == 1 and without.stderr.count("\n") == 1 and "apt install micropython" in without.stderr
    (house / "site").mkdir()
    serve: list[Path | str] = [iotctl, "serve", "site", "--port", str(port)]
    sim: list[Path | str] = [iotctl, "sim", "--heap", "128k"]
    with begun(serve, house, env) as server, begun(sim, house, env) as board:
        try:
            said = until(board, "wifi: connected")
            code = house / "modules" / "mill" / "__init__.py"
            code.write_text(code.read_text().replace("starts again", "begins anew"))
            run("build", "profile.json", "--version", "1.1.0", "--key", "owner.pem", "--out", "dist")
            run("publish", "dist/1.1.0.tar.gz", "site", "--key", "owner.pem")
            said += tell(board, "ota update", "confirmed: version 1.1.0 stays")
            said += tell(board, "mill/reset", "mill: begins anew")
        finally:
            for process in (board, server):
                process.send_signal(signal.SIGINT)
                process.wait(PATIENCE_S)
    assert "Traceback" not in said


def begun(command: list[Path | str], folder: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=env, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def until(process: subprocess.Popen[str], words: str) -> str:
    """What the process has printed until a line has `words` in it."""
    assert process.stdout
    said = ""
    late = threading.Timer(PATIENCE_S, process.kill)
    late.start()
    try:
        for line in process.stdout:
            said += line
            if words in line:
                return said
    finally:
        late.cancel()
    raise AssertionError(f"it ended without {words!r}: {said}")


def tell(process: subprocess.Popen[str], line: str, answer: str) -> str:
    assert process.stdin
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return until(process, answer)
