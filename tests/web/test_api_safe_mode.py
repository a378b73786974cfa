"""A board whose boots keep failing, and that has nothing to go back to: its page is there, and takes the repair."""

from __future__ import annotations

import json

import pytest

from tests.web.conftest import LAMP, MODULES, PATIENCE_S, WebWorld

BROKEN = b"""from iot_platform.module import Module as Base

class Module(Base):
    name = "lamp"

    def start(self):
        raise SystemExit
"""


@pytest.mark.parametrize("way", ["upload", "button"])
def test_a_board_in_safe_mode_is_reached_and_repaired_through_its_page(web_world: WebWorld, way: str) -> None:
    modules = (*MODULES, "lamp")
    broken = web_world.release("1.0.0", {"modules/lamp/__init__.py": BROKEN}, modules=modules, auto_install=False)
    repaired = web_world.release("1.1.0", LAMP, modules=modules, auto_install=False)
    web_world.flash(broken, {"prefs.json": b'{"mine": 1}'})
    web_world.offer(broken if way == "upload" else repaired)
    web_world.board.heap = "128k"
    web_world.board.start()
    web_world.board.expect("safe mode after 3 bad boots", 2 * PATIENCE_S)
    web_world.board.expect("next check in about|up to date|version 1.1.0 waits", PATIENCE_S)  # the first check: later, or over

    client = web_world.client()
    status = client.get("/api/status").json
    assert status["safe_mode"] is True and status["version"] == "1.0.0" and set(status["modules"]) == set(MODULES)
    assert client.get("/api/values").json["safe_mode"] is True
    since = web_world.now()
    answer = client.upload(repaired.archive) if way == "upload" else client.post("/api/ota/update")
    assert (answer.status, answer.json) == (202, {"started": True})
    web_world.wait_confirmed(repaired, since)

    status = client.get("/api/status").json
    assert status["safe_mode"] is False and status["version"] == "1.1.0" and "lamp" in status["modules"]
    assert client.get("/api/lamp").json == {"on": False}
    found = web_world.assert_runs(repaired)
    assert json.loads(found.files["prefs.json"].splitlines()[0])["mine"] == 1  # beside the session, which went on
