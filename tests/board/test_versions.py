"""An update on every version of MicroPython that can be had here: tools/get_micropython.py --others fetches them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from iotctl import ROOT
from tests.support.world import Release, World
from tools import get_micropython


def releases(world: World) -> tuple[Release, Release]:
    old = world.release("1.0.0", {"modules/old/gone.txt": b"old"})
    return old, world.release("1.1.0", {"www/new.html": b"new" * 3000})


@pytest.mark.parametrize("suite", get_micropython.TESTED)
def test_a_board_installs_and_confirms_on(suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = get_micropython.OTHERS / suite / "micropython"
    if not program.exists():
        pytest.skip(f"MicroPython of {suite} was not to be had: run tools/get_micropython.py --others")
    monkeypatch.setenv("MICROPYTHON", str(program))
    with World(tmp_path) as world:
        old, new = releases(world)
        world.settled(old, new)
        world.update_to(new)
        world.assert_runs(new)


# What the port has not, and a board has. No update over a network: there is no socket, and asyncio is the browser's.
_LIFE = """
import os, random, sys

class machine:
    PWRON_RESET = 1
    mem32 = {}
    class Reset(BaseException):
        pass
    def reset():
        raise machine.Reset
    def reset_cause():
        return 1
    def WDT(timeout):
        return machine
    def feed():
        pass
    class Timer:
        def __init__(self, _number):
            pass
        def init(self, **_how):
            pass
        def deinit(self):
            pass

class socket:
    SOCK_STREAM = 1

sys.modules["machine"] = machine
sys.modules["socket"] = socket
os.urandom = lambda n: bytes(random.getrandbits(8) for _ in range(n))
os.getenv = {"TORTURE_ACTION": "install"}.get
os.chdir("/")
sys.path[:] = ["", "/lib"]
try:
    exec(open("/boot.py").read(), {"__name__": "boot"})
    import driver
    driver.main()
except machine.Reset:
    print("the board restarts")
"""


@pytest.mark.parametrize("version", get_micropython.OLD)
def test_a_bundle_is_installed_and_confirmed_on_old(version: str, tmp_path: Path) -> None:
    """The loader and all of OTA but its network, one process a life, from a file as an upload brings it."""
    folder, node = get_micropython.OTHERS / version, shutil.which("node")
    if not node or not folder.exists():
        pytest.skip(f"MicroPython {version} was not to be had: get_micropython.py --others needs node and npm")
    tree, script = tmp_path / "tree", tmp_path / "life.py"
    script.write_text(_LIFE)
    with World(tmp_path / "world") as world:
        old, new = releases(world)
    driver = (ROOT / "tests/powercut/driver.py").read_bytes()
    beside = {".ota/release": old.bundle.listing, "new_firmware.tar.gz": new.archive, "driver.py": driver, "prefs.json": b"{}"}
    for path, data in {**old.files, **beside}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(data)
    command = [node, str(ROOT / "tests/support/webassembly.mjs"), str(folder), str(tree), str(script)]
    lives = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _life in range(3)]
    assert "committed: installing 1.1.0" in lives[0] and "confirmed: version 1.1.0 stays" in lives[1], lives
    assert lives[2] == "STABLE idle None\nthe board restarts\n"
    found = {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    left = {path for path in found if path.startswith(".ota/")} | {"driver.py", "prefs.json"}
    assert {path: data for path, data in found.items() if path not in left} == new.files
