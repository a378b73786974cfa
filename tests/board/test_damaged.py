"""Values and file names that nobody wrote as they are: no start and no check stops at them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.support.world import World

WRONG: list[Any] = [7, 1e300, True, "x y", [7], ["x", 7, None, {}], {"7": ["x"]}]
STATE = (
    "floor bundled published etag refused failed part ready last result ran order offered problem checked next failures wakes x"
).split()
PREFS = "ota.channel wifi.ssid wifi.password wifi.ap_password mqtt.pending mqtt.host web.password web.sessions log.level".split()
NAMES = (
    "fails.x fails. fails.-1 fails.1x fails.9999999999 trial.x trial. trial.-1 trial.1.2 job.x job. job.-1 journal.x confirmed.x"
    " undone.x loader_x loader_9.py loader_.py state.2 state.x trial.3/x undone/x"
).split()


@pytest.mark.parametrize("value", [pytest.param(value, id=json.dumps(value)) for value in WRONG])
def test_values_of_a_wrong_type_stop_nothing(world: World, value: Any) -> None:
    state, prefs = (dict.fromkeys(keys, value) for keys in (STATE, PREFS))
    if value is True:
        del state["order"]  # it would be one
    works(world, {".ota/state.0": json.dumps(state).encode(), "prefs.json": json.dumps(prefs).encode()})


def test_odd_names_beside_the_state_stop_nothing(world: World) -> None:
    works(world, {f".ota/{name}": b"{" for name in NAMES})


def works(world: World, more: dict[str, bytes]) -> None:
    world.board.env["SIMULATOR_WEB_PORT"] = str(free_port())
    old = world.release("1.0.0", modules=("serial_log", "wifi", "ota", "web", "mqtt"))
    world.flash(old, more)
    world.offer(old)
    world.boot()
    said = "\n".join(world.board.lines)
    assert "Traceback" not in said and "switched off" not in said, said
