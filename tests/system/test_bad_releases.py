"""Every way a release can be bad: the board goes back by itself, says why, and does not try it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.world import World

_MODULE = """from iot_platform.module import Module as Base

class Module(Base):
    name = "witness"

    def {method}(self):
        {body}
"""


def _module(method: str, body: str) -> bytes:
    return _MODULE.format(method=method, body=body).encode()


WITNESS = "modules/witness/__init__.py"
NO_RUNTIME: dict[str, bytes | None] = {
    "iot_platform/runtime.mpy": None, "iot_platform/runtime.py": b"raise ValueError('a broken runtime')\n",
}
NO_OTA: dict[str, bytes | None] = {
    "modules/ota/module.mpy": None, "modules/ota/module.py": b"raise ImportError('a broken updater')\n",
}
DEAD_OTA: dict[str, bytes | None] = {
    "modules/ota/__init__.mpy": None,
    "modules/ota/__init__.py": b"from iot_platform.module import Module as Base\n\nclass Module(Base):\n    name = 'ota'\n",
}

BAD: dict[str, tuple[dict[str, bytes | None], str]] = {
    "raises at import of the runtime": (NO_RUNTIME, "exception"),
    "raises at import of a module": ({WITNESS: b"1 / 0\n"}, "module_failed"),
    "raises in start": ({WITNESS: _module("start", "raise ValueError('no')")}, "module_failed"),
    "raises in ten ticks": ({WITNESS: _module("tick", "raise ValueError('no')")}, "module_failed"),
    "hangs in a tick": ({WITNESS: _module("tick", "while True: pass")}, "watchdog"),
    "eats memory": ({WITNESS: _module("tick", "self.eaten = getattr(self, 'eaten', []) + [bytearray(9000)]")}, ""),
    "resets in a loop": ({WITNESS: _module("start", "self.platform.board.reset()")}, "reset"),
    "has an updater that cannot be imported": (NO_OTA, "watchdog|exception|module_failed"),
    "has an updater that does nothing": (DEAD_OTA, "watchdog"),
    "has no main.py": ({"main.py": None}, "watchdog"),
    "has a main.py that ends": ({"main.py": b"print('that was it')\n"}, "watchdog"),
}


@pytest.mark.parametrize("name", BAD)
def test_goes_back_from_a_release_that(tmp_path: Path, name: str) -> None:
    changes, reason = BAD[name]
    with World(tmp_path) as world:
        world.publish("1.0.0")
        world.start()
        world.publish("1.1.0", changes)
        world.check(rf"rolled back from 1\.1\.0 to 1\.0\.0: .*\({reason or '[a-z_]+'}\)", 120)
        world.check("failed here before")
        world.assert_runs(world.now)


def test_goes_back_from_a_release_that_never_reaches_the_network_and_tries_it_again_later(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        world.publish("1.0.0")
        world.start()
        files = world.publish("1.1.0", url="http://127.0.0.1:1")
        world.check(r"rolled back from 1\.1\.0 to 1\.0\.0: .*\(no_network\)", 120)
        world.check("failed here before")
        world.assert_runs(world.now)
        assert files["version"] == b"1.1.0\n"


def test_a_newer_release_is_taken_after_a_bad_one(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        world.publish("1.0.0")
        world.start()
        world.publish("1.1.0", {WITNESS: _module("start", "raise ValueError('no')")})
        world.check("rolled back from 1.1.0", 120)
        files = world.publish("1.1.1")
        world.check("confirmed: version 1.1.1 stays", 60)
        world.assert_runs(files)


def test_a_bad_release_with_swapped_files_and_folders_is_taken_back_exactly(tmp_path: Path) -> None:
    changes = {"swap.py": b"# a file", "lib/pack/a.txt": b"a", "lib/pack/b.txt": b"b"}
    with World(tmp_path, changes=changes) as world:
        world.publish("1.0.0", changes)
        world.start()
        world.publish("1.1.0", {"swap.py/x.txt": b"now a folder", "lib/pack": b"now a file", "main.py": b"1 / 0\n"})
        world.check(r"rolled back from 1\.1\.0 to 1\.0\.0", 120)
        world.assert_runs(world.now)


def test_safe_mode_is_reachable_and_the_next_good_release_repairs_the_board(tmp_path: Path) -> None:
    """A confirmed version whose boots fail, with nothing to go back to."""
    with World(tmp_path, changes={WITNESS: _module("start", "raise SystemExit")}) as world:
        files = world.publish("1.1.0")
        world.board.start()
        world.board.expect("safe mode after 3 bad boots", 60)
        world.board.expect("confirmed: version 1.1.0 stays", 90)
        world.assert_runs(files)


def test_built_in_names_on_flash_do_not_reach_the_loader(tmp_path: Path) -> None:
    """Files named like built-in modules, put there by hand: the loader takes the update back all the same."""
    shadows = dict.fromkeys(("os.py", "json.py", "time.py", "hashlib.py"), b"raise ValueError('a shadow was imported')\n")
    with World(tmp_path) as world:
        world.publish("1.0.0")
        world.start()
        world.publish("1.1.0", {"main.py": b"import machine, time\ntime.sleep(1)\nmachine.reset()\n"})
        world.check("ota_boot: undoing 1.1.0", 120)
        world.board.stop()
        world.board.write(shadows)
        once = world.board.boot_once(only_boot=True)
        assert "failed" not in once.output
        assert {p: c for p, c in world.tree().files.items() if p not in shadows} == world.now
