"""An update on every version of MicroPython that can be had here: tools/get_micropython.py --others fetches them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.world import World
from tools import get_micropython


@pytest.mark.parametrize("suite", get_micropython.TESTED)
def test_a_board_installs_and_confirms_on(suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = get_micropython.OTHERS / suite / "micropython"
    if not program.exists():
        pytest.skip(f"MicroPython of {suite} was not to be had: run tools/get_micropython.py --others")
    monkeypatch.setenv("MICROPYTHON", str(program))
    with World(tmp_path) as world:
        old = world.release("1.0.0", {"modules/old/gone.txt": b"old"})
        new = world.release("1.1.0", {"www/new.html": b"new" * 3000})
        world.flash(old)
        world.offer(old)
        world.boot()
        world.offer(new)
        world.update_to(new)
        world.assert_runs(new)
