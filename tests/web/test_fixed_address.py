"""A fixed address, set on the page: a wrong one does not take the board off the network for good."""

from __future__ import annotations

import time

from tests.support.world import patched
from tests.web.conftest import PATIENCE_S, Client, WebWorld

ADDRESS = "10.0.0.9 255.255.255.0 10.0.0.1 10.0.0.1"
SHORT = patched("modules/wifi/__init__.py", ("_TRIAL_MS = const(300_000)", "_TRIAL_MS = const(5_000)"))


def fix(client: Client, address: str | None) -> int:
    return client.post("/api/action", {"panel": "wifi", "action": "wifi.address", "value": address}).status


def test_a_fixed_address_stays_once_somebody_has_come_there_and_goes_when_nobody_does(web_world: WebWorld) -> None:
    board = web_world.board
    web_world.start(web_world.release("1.0.0", {"modules/wifi.mpy": SHORT["modules/wifi/__init__.mpy"]}))
    client = web_world.client()
    assert fix(client, ADDRESS) == 202
    assert "as 10.0.0.9" not in board.console()  # from the next start on

    since = web_world.type("reset")
    board.expect("wifi: connected to sim-network as 10.0.0.9$", PATIENCE_S, since)
    board.expect("restarting: nobody can be reached from 10.0.0.9 255", PATIENCE_S, since)
    board.expect("wifi: connected to sim-network as 127.0.0.1$", PATIENCE_S, since)
    assert client.get("/api/prefs").json.get("wifi.address") is None

    assert fix(client, "10.0.0.999 255.255.255.0 10.0.0.1 10.0.0.1") == 202
    since = web_world.type("reset")
    board.expect("restarting: nobody can be reached from 10.0.0.999 ", PATIENCE_S, since)
    board.expect("wifi: connected to sim-network as 127.0.0.1$", PATIENCE_S, since)

    assert fix(client, ADDRESS) == 202
    since, deadline = web_world.type("reset"), time.monotonic() + PATIENCE_S
    board.expect("restarting", PATIENCE_S, since)
    while not _held(client):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    since = web_world.now()
    board.power_cycle()
    board.expect("wifi: connected to sim-network as 10.0.0.9$", PATIENCE_S, since)
    client = web_world.client()
    assert _held(client)
    assert client.post("/api/wifi/join", {"ssid": "sim-network", "password": "another one"}).status == 202
    assert not _held(client)  # other networks have other addresses: there it is on trial again


def _held(client: Client) -> bool:
    try:
        return client.get("/api/prefs").json.get("wifi.held") == ADDRESS
    except (OSError, ValueError):  # it restarts
        return False
