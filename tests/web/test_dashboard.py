"""iotctl dashboard, as a program, over a real broker: in Chromium with a real board, and as strangers see it."""

from __future__ import annotations

import base64
import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from iotctl import ROOT, keys
from tests.mqtt.conftest import BASE, LAMP_FILES, WITH_LAMP, mqtt_world
from tests.mqtt.test_commands import start
from tests.support.broker import Broker, Observer
from tests.support.browser import Browsers, Visitor
from tests.support.ports import free_port
from tests.support.world import World, owner
from tests.web.test_browser_access import findings

EVIL = 'gate/<img src=x onerror=alert(1)>"'
DROP = """(data) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], "new.tar.gz"));
  document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
}"""


class Dashboard:
    """The program, and what it has printed: where it is, and its password."""

    def __init__(self, world: World, broker: Broker, key: Path, fleet: Path, stderr: int | None = None) -> None:
        self.world, self.broker, self.port = world, broker, free_port()
        where = ["--site", str(world.site), "--key", str(key), "--broker", f"127.0.0.1:{broker.port}", "--port", str(self.port)]
        command = [sys.executable, "-m", "iotctl", "dashboard", *where, "--fleet", str(fleet)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True)
        assert self.process.stdout
        said = self.process.stdout.readline()
        found = re.search(rf"at http://127\.0\.0\.1:{self.port}/ +password: (\S+)", said)
        assert found, said
        self.web: dict[str, Any] = {"password": found[1]}

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=30)

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, dict[str, str], Any]:
        """One request; `headers` with _ for -, in addition to or instead of a browser's own; "" leaves one out."""
        own = {"Host": f"127.0.0.1:{self.port}", "Origin": f"http://127.0.0.1:{self.port}", "Content-Type": "application/json"}
        given = {**own, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host=True)
            data = b"" if body is None else json.dumps(body).encode()
            for name, value in given.items():
                if value:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(data)))
            connection.endheaders(data)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, json.loads(content) if "json" in found.get("content-type", "") else content

    def enter(self) -> dict[str, str]:
        """The headers of somebody who has signed in."""
        status, found, answer = self.ask("POST", "/api/login", self.web)
        assert status == 200
        return {"Cookie": found["set-cookie"].partition(";")[0], "X_CSRF": answer["csrf"]}


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """Over a broker with four boards that only speak as boards do; one is missing, and the world's own is not started."""
    folder = tmp_path_factory.mktemp("dashboard")
    keys.write_private(owner(), folder / "owner.pem", None)
    with Broker(folder / "broker") as broker, mqtt_world(folder / "world", broker.port, WITH_LAMP) as world:
        with Observer(broker) as seen:
            for name, values in {
                "gate/1": {"version": "1.0.0", "ota/status": "up_to_date", "freeram": "50000"},
                "gate/2": {
                    "version": "0.9.0",
                    "ota/status": "rolled_back",
                    "ota/error": "watchdog",
                    "ota/message": "the board hung",
                },
                "gate/3": {"version": "1.0.0", "online": "false"},
                EVIL: {"version": "<script>alert(2)</script>", "ota/status": "failed", "ota/error": "<b>", "<i>": "<u>"},
            }.items():
                for key, value in {"online": "true", **values}.items():
                    seen.publish(f"{name}/status/{key}", value, retain=True)
        world.site.mkdir(exist_ok=True)
        (folder / "fleet.toml").write_text(
            '[[board]]\nid = "gate/1"\nname = "Garden"\ngroup = "outside"\n[[board]]\nid = "cellar/9"\nname = "Pump"\n'
        )
        made = Dashboard(world, broker, folder / "owner.pem", folder / "fleet.toml")
        yield made
        made.close()


def enter(browser: Browsers, dashboard: Dashboard, **window: Any) -> Visitor:
    visitor = browser.visit(dashboard, **window)
    visitor.log_in()
    visitor.see("#fleet")
    return visitor


def row(visitor: Visitor, name: str) -> Any:
    return visitor.page.locator("#rows tr").filter(has=visitor.page.get_by_role("link", name=name, exact=True))


def test_a_dropped_release_is_rolled_out_and_rolled_back(browser: Browsers, dashboard: Dashboard) -> None:
    world = dashboard.world
    world.ota["keep_previous"] = True
    with Observer(dashboard.broker) as seen:
        start(world, seen)
        visitor = enter(browser, dashboard)
        page, board = visitor.page, row(visitor, BASE)
        expect(board).to_contain_text("Fine")
        board.get_by_role("checkbox").check()
        page.locator("#selected").get_by_role("button", name="Group").click()
        page.locator("#ask-value").fill("house")
        page.keyboard.press("Enter")
        expect(board).to_contain_text("house")
        board.get_by_role("link").click()
        page.get_by_role("button", name="Listen").click()
        visitor.see("#log", "mqtt: command group")
        world.type("say cheese")
        visitor.see("#log", "say cheese")
        page.get_by_role("link", name="All boards").click()

        visitor.allowed = {(409, "/api/bundle")}
        page.evaluate(DROP, base64.b64encode(b"no bundle").decode())
        visitor.see("#publish .error", "The archive is cut short.")
        new = world.release("1.1.0", LAMP_FILES)
        page.evaluate(DROP, base64.b64encode(new.archive).decode())
        visitor.see("#bundle", "sim-board 1.1.0")
        visitor.see("#bundle", "1 board of that kind; 1 do not run it.")
        page.locator("#plan-group").select_option("house")
        page.get_by_label("Steps, percent").fill("100")
        page.get_by_label("Watch each for").fill("1s")
        page.locator("#publish-yes").click()
        visitor.see("#rollout-h", "Rollout of sim-board 1.1.0, stable, group house")
        expect(board).to_contain_text("→ 1.1.0")

        board.get_by_role("checkbox").check()
        page.locator("#selected").get_by_role("button", name="Update").click()
        visitor.see("#ask", "Update 1 board now?")
        page.locator("#ask-yes").click()
        expect(board).to_contain_text("Update: confirmed")
        expect(board.locator("td").nth(2)).to_have_text("1.1.0")
        expect(page.locator("#rollout-state")).to_have_text("Done")
        visitor.see("#rollout-text", "1 of 1 board confirmed")

        board.get_by_role("link").click()
        visitor.see("#board-h", BASE)
        visitor.see("#history", "ota/status")
        page.locator("#board").get_by_role("button", name="Roll back").click()
        visitor.see("#ask", "go back to the version kept there")
        page.locator("#ask-yes").click()
        expect(page.locator("#board-version")).to_have_text("1.0.0")
        visitor.see("#board-order", "Rollback: confirmed")
        visitor.see("#values", "freeram")
        page.get_by_role("link", name="All boards").click()
        page.get_by_role("button", name="Revert").click()
        visitor.see("#ask", "as a newer version, for all boards?")
        page.locator("#ask-yes").click()
        expect(page.locator("#rollout-state")).to_have_text("Reverted")
        expect(board).to_contain_text("→ 1.1.1")
        board.get_by_role("link").click()
        world.board.stop()
        expect(page.locator("#board-state")).to_have_text("Offline")
        expect(page.locator("#board").get_by_role("button", name="Update")).to_be_disabled()


def test_search_filters_and_what_a_board_says_are_text(browser: Browsers, dashboard: Dashboard) -> None:
    visitor = browser.visit(dashboard)
    visitor.allowed = {(403, "/api/login")}
    page = visitor.page
    page.fill("#password", "a guess")
    page.press("#password", "Enter")
    visitor.see("#login-error", "That is not the password.")
    visitor.log_in()
    page.fill("#search", "gate WATCHDOG")
    expect(page.locator("#rows tr")).to_have_count(1)
    expect(row(visitor, "gate/2")).to_contain_text("watchdog: the board hung")
    page.fill("#search", "gate")
    page.locator('[data-show="offline"]').click()
    expect(page.locator("#rows tr")).to_have_count(1)
    expect(row(visitor, "gate/3")).to_be_visible()
    page.locator('[data-show="all"]').click()
    page.locator("#spread").get_by_role("button", name="0.9.0: 1 board").click()
    expect(page.locator("#found")).to_have_text("1 to 1 of 1 board")
    page.locator("#spread").get_by_role("button", name="0.9.0: 1 board").click()
    expect(page.locator("#rows tr")).to_have_count(4)
    expect(row(visitor, EVIL)).to_contain_text("<script>alert(2)</script>")
    row(visitor, EVIL).get_by_role("link").click()
    visitor.see("#board-h", EVIL)
    visitor.see("#values", "<u>")
    page.get_by_role("link", name="All boards").click()
    row(visitor, "gate/2").get_by_role("link").click()
    visitor.see("#board-troubles", "The new version hung, or restarted by itself.")
    page.get_by_role("link", name="All boards").click()
    page.fill("#search", "")
    page.locator('[data-show="missing"]').click()
    expect(row(visitor, "cellar/9")).to_contain_text("never heard at this broker")
    page.locator('[data-show="all"]').click()
    page.locator("#group").select_option("outside")
    expect(page.locator("#rows tr")).to_have_count(1)
    expect(row(visitor, "gate/1")).to_contain_text("Garden · outside")
    page.locator("#logout").click()
    visitor.see("#login")
    page.reload()
    visitor.see("#login")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing_serious_on_the_dashboard(browser: Browsers, dashboard: Dashboard, scheme: Any, width: int) -> None:
    visitor = enter(browser, dashboard, width=width, color_scheme=scheme, reduced_motion="reduce")
    expect(row(visitor, "gate/1")).to_be_visible()
    assert findings(visitor.page) == []
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= width
    row(visitor, "gate/2").get_by_role("link").click()
    visitor.see("#board-troubles", "watchdog")
    assert findings(visitor.page) == []
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= width


def test_strangers_get_nothing_and_other_pages_can_ask_for_nothing(dashboard: Dashboard) -> None:
    inside = dashboard.enter()
    good = ("POST", "/api/order", {"what": "check", "names": ["gate/3"]})
    assert dashboard.ask(*good, **inside)[0] == 200
    for headers, status in (
        ({}, 401),
        ({**inside, "Cookie": "iotctl-fleet=guess"}, 401),
        ({**inside, "X_CSRF": ""}, 403),
        ({**inside, "X_CSRF": "0" * 64}, 403),
        ({**inside, "Origin": "http://evil.example"}, 403),
        ({**inside, "Origin": ""}, 403),
        ({**inside, "Host": "evil.example", "Origin": "http://evil.example"}, 403),
        ({**inside, "Content_Type": "text/plain"}, 409),
    ):
        assert dashboard.ask(*good, **headers)[0] == status, headers
    for path in ("boards", "events", "events?board=gate/1"):
        assert dashboard.ask("GET", f"/api/{path}")[0] == 401
    assert dashboard.ask("GET", "/api/boards", **inside, Host="rebound.example")[0] == 403
    status, headers, _page = dashboard.ask("GET", "/")
    assert status == 200 and "script-src 'self'" in headers["content-security-policy"] and "unsafe" not in str(headers)
    for path in ("/../server.py", "/%2e%2e/server.py", "/..%2fserver.py"):
        assert dashboard.ask("GET", path)[0] == 404
    assert dashboard.ask("POST", "/api/logout", {}, **inside)[0] == 200
    assert dashboard.ask("GET", "/api/boards", **inside)[0] == 401


def test_it_ends_without_a_word_while_somebody_looks(dashboard: Dashboard, tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text("")
    keys.write_private(owner(), tmp_path / "owner.pem", None)
    where = dashboard.world, dashboard.broker, tmp_path / "owner.pem", tmp_path / "fleet.toml"
    other = Dashboard(*where, subprocess.PIPE)
    looks = http.client.HTTPConnection("127.0.0.1", other.port, timeout=30)
    looks.request("GET", "/api/events", headers={"Cookie": other.enter()["Cookie"]})
    stream = looks.getresponse()
    assert stream.readline().startswith(b"data: ")
    other.process.send_signal(signal.SIGINT)
    _said, complaint = other.process.communicate(timeout=30)
    assert complaint == ""
    looks.close()


def test_a_port_that_is_taken_is_one_line(dashboard: Dashboard, tmp_path: Path) -> None:
    where = ["--site", str(tmp_path), "--broker", f"127.0.0.1:{dashboard.broker.port}", "--port", str(dashboard.port)]
    command = [sys.executable, "-m", "iotctl", "dashboard", *where]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"iotctl: cannot listen at http://127.0.0.1:{dashboard.port}/: Address already in use")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("order", {"what": "restart", "names": ["gate/1"]}),
        ("order", {"what": "check", "names": ["gate/none"]}),
        ("order", {"what": "check", "names": "gate/1"}),
        ("order", {"what": "check", "query": {"show": "everything"}}),
        ("order", {"what": "check", "query": {"page": "-1"}}),
        ("order", []),
        ("rollout", {"what": "explode"}),
        ("rollout", {"what": "revert", "version": "../../x"}),
        ("log", {"name": "gate/none"}),
        ("order", {"what": "group", "names": ["gate/1"], "text": "../x"}),
        ("order", {"what": "check", "names": ["gate/1"], "text": "force"}),
        ("publish", {"id": "../../owner", "how": "all"}),
        ("publish", {"id": "0" * 64, "how": "all"}),
        ("publish", {"id": "0" * 64, "how": "all", "max_failures": 1e9}),
        ("publish", {"id": "0" * 64, "how": "now"}),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(dashboard: Dashboard, path: str, body: object) -> None:
    status, _headers, answer = dashboard.ask("POST", f"/api/{path}", body, **dashboard.enter())
    assert status == 409 and len(answer["message"]) > 10
