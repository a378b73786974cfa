"""A fixed address, set on the page: a wrong one does not take the board off the network for good, whatever happens meanwhile."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support.world import patched
from tests.web.conftest import PATIENCE_S, Client, WebWorld

ADDRESS = "10.0.0.9 255.255.255.0 10.0.0.1 10.0.0.1"
OTHER = ADDRESS.replace("0.9", "0.8")
SOON = {
    "_TRIAL_MS = const(300_000)": "_TRIAL_MS = const(4_000)",
    "= _CLOCK_MS if": "= _TRIAL_MS if",
    "_FIRST_PAUSE_MS = const(1_000)": "_FIRST_PAUSE_MS = const(20)",
    "_CHECK_MS = const(500)": "_CHECK_MS = const(60)",
}
FREE = "wifi: connected to sim-network as 127.0.0.1$"
FIXED = "wifi: connected to sim-network as 10.0.0.9$"


@pytest.fixture
def client(web_world: WebWorld) -> Client:
    soon = patched("modules/wifi/__init__.py", *SOON.items())
    web_world.start(web_world.release("1.0.0", {"modules/wifi.mpy": soon["modules/wifi/__init__.mpy"]}))
    return web_world.client()


def fix(world: WebWorld, client: Client, address: str | None, *lines: str) -> int:
    """Set it; these lines come, one after the other. The number of the line after the last."""
    since = world.now()
    assert client.post("/api/action", {"panel": "wifi", "action": "wifi.address", "value": address}).status == 202
    return follow(world, since, "restarting: its address changes", *lines)


def follow(world: WebWorld, since: int, *lines: str) -> int:
    for line in lines:
        found = world.board.expect(line, PATIENCE_S, since)
        since = world.board.lines.index(found.string, since) + 1
    return since


def hold(world: WebWorld, client: Client, line: str = FIXED) -> None:
    """The address is fixed, and somebody comes there."""
    fix(world, client, ADDRESS, line)
    deadline = time.monotonic() + PATIENCE_S
    while (found := _prefs(client)) is None or found.get("wifi.address") != ADDRESS:
        assert found is None or _shown(client) == ADDRESS, "on trial it is shown too"
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _prefs(client: Client) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = client.get("/api/prefs").json
        return found
    except (OSError, ValueError):  # it restarts
        return None


def _shown(client: Client) -> Any:
    """What the page has in the setting's field."""
    panels = client.get("/api/panels").json
    return next(item["value"] for panel in panels for item in panel["settings"] if item["key"] == "wifi.address")


def test_a_fixed_address_stays_once_somebody_has_come_and_goes_when_nobody_does(web_world: WebWorld, client: Client) -> None:
    board = web_world.board
    fix(web_world, client, ADDRESS, FIXED, "restarting: nobody was reached from 10.0.0.9 255", FREE)
    assert _shown(client) is None

    board.wifi = "ok sim-network garden"
    hold(web_world, client)
    since = web_world.now()
    board.power_cycle()
    board.expect(FIXED, PATIENCE_S, since)
    board.expect("wifi: access point ", PATIENCE_S, since)  # nobody comes: the network may have other addresses by now
    assert "nobody was reached" not in web_world.lines_since(since)

    client = web_world.client()
    fix(web_world, client, OTHER, "as 10.0.0.8$", "restarting: nobody was reached from 10.0.0.8 255", FIXED)  # back to what held

    client = web_world.client()
    since = web_world.now()
    assert client.post("/api/wifi/join", {"ssid": "cellar", "password": "another one"}).status == 202
    board.expect("could not join cellar", PATIENCE_S, since)
    board.expect(FIXED, PATIENCE_S, since)  # there it has held
    assert _shown(client) == ADDRESS and "wifi.held" not in client.get("/api/prefs").body.decode()
    since = web_world.now()
    assert client.post("/api/wifi/join", {"ssid": "garden", "password": ""}).status == 202
    for line in ("to garden as 10.0.0.9$", "restarting: nobody was reached from 10.0.0.9 255", "to garden as 127.0.0.1$"):
        board.expect(line, PATIENCE_S, since)  # another network has other addresses
    assert _shown(client) is None
    hold(web_world, client, FIXED.replace("sim-network", "garden"))
    fix(web_world, client, None, "to garden as 127.0.0.1$")  # and without one it is free again, wherever it goes


def test_a_wrong_address_is_gone_after_a_loss_of_power_or_of_the_network(web_world: WebWorld, client: Client) -> None:
    board = web_world.board
    since = fix(web_world, client, ADDRESS, FIXED)
    board.power_cycle()  # as a board that sleeps, or hangs on a timer, in every trial
    board.expect(FREE, PATIENCE_S, since)
    client = web_world.client()
    assert _shown(client) is None

    since = fix(web_world, client, ADDRESS, FIXED)
    for _loss in range(12):  # a network that never stays for as long as a trial
        if "restarting: nobody was reached" in web_world.lines_since(since):
            break
        mark = web_world.now()
        time.sleep(0.8)
        board.wifi = "off"
        board.expect("wifi: lost|restarting: nobody", PATIENCE_S, mark)
        board.wifi = "ok"
        board.expect("wifi: connected|restarting: nobody", PATIENCE_S, mark)
    board.expect("restarting: nobody was reached from 10.0.0.9 255", 5, since)
    board.expect(FREE, PATIENCE_S, since)


@pytest.mark.parametrize(
    ("name", "says"), [("10.0.0.999", "invalid arguments"), ("0.0.0.0", "TCP/IP Invalid Parameters")], ids=["none", "esp32's own"]
)
def test_an_address_that_the_port_refuses_switches_nothing_off(
    web_world: WebWorld, client: Client, name: str, says: str
) -> None:
    """It came from a back-up, with the word of another board that it is right."""
    web_world.board.env["SIMULATOR_PORT_IFCONFIG_NEEDS_DNS"] = "1"
    wrong = f"10.0.0.9 255.255.255.0 10.0.0.1 {name}"
    assert client.post("/api/prefs", {"wifi.address": wrong, "wifi.held.sim-network": wrong}).status == 204
    assert _shown(client) == wrong
    since = follow(web_world, web_world.type("reset"), f"wifi: {says}", "restarting: nobody was reached from 10.0.0.9", FREE)
    assert "switched off" not in web_world.lines_since(0) and "wifi: connected" not in web_world.lines_since(since)
