"""The page in a real browser, on a simulated board: what an owner sees and does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.support import world as worlds
from tests.support.broker import Broker
from tests.support.browser import SECTIONS, Browsers, Visitor
from tests.support.world import Slowly, noise
from tests.web.conftest import MODULES, PASSWORD, PATIENCE_S, WebWorld

MAX_WEIGHT = 28_000  # bytes over the wire for the first load of the page
PANEL = b"""
from iot_platform.module import Module as Base

class Module(Base):
    name = "lamp"
    panels = {"title": "Lamp <i>one</i>", "values": (("lamp/seconds", "On for", "s"), ("lamp/word", "Word", ""),
              ("lamp/on", "Light", "", "switch"), ("lamp/level", "Level", "%", "number", 0, 100),
              ("lamp/style", "Style", "", "select", "slow", "fast")),
              "actions": (("switch", "Switch"), ("off", "Off", "Really off?")),
              "settings": (("lamp.limit", "Limit", "W", "number", 1, 60),)}

    def start(self):
        self.seconds = 0
        self.platform.bus.publish_all({"lamp/on": False, "lamp/level": 5, "lamp/style": "slow"})

    def telemetry(self):
        self.seconds += 1
        return {"lamp/seconds": self.seconds, "lamp/word": "<img src=x onerror=alert(1)>"}

    def on_command(self, command):
        if command.path in ("lamp/on", "lamp/level", "lamp/style"):
            self.platform.bus.publish(command.path, command.payload)
        if command.path[:4] == "lamp":
            self.platform.log("lamp: told", command.path, command.payload, "<script>alert(2)</script>")
"""
LAMP: worlds.Changes = {"modules/lamp/__init__.py": PANEL}
WITH_LAMP = (*MODULES, "lamp")


@pytest.fixture(scope="module")
def lamp_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebWorld]:
    """A board with a module that has a panel, for tests that leave it as it was."""
    with WebWorld(tmp_path_factory.mktemp("lamp")) as made:
        made.start(made.release("1.0.0", LAMP, modules=WITH_LAMP))
        yield made


FAILING: worlds.Changes = {"modules/fan/__init__.py": b"raise ValueError('no blades')\n"}


def visit(browser: Browsers, world: WebWorld, section: str = "dashboard") -> Visitor:
    """A new window, logged in, on one of the page's sections."""
    visitor = browser.visit(world)
    visitor.log_in()
    visitor.go(section)
    return visitor


def test_the_first_load_is_light_and_the_second_comes_from_the_cache(browser: Browsers, lamp_world: WebWorld) -> None:
    visitor = browser.visit(lamp_world)
    visitor.see("#login")
    weigh = "() => performance.getEntries().filter((e) => e.transferSize !== undefined).map((e) => [e.name, e.transferSize])"
    sizes = dict(visitor.page.evaluate(weigh))
    print("first load:", sum(sizes.values()), "bytes", sizes)
    parts = {name.rpartition("/")[2].partition("?")[0]: size for name, size in sizes.items()}
    assert all(parts[name] > 0 for name in ("", "app.js", "style.css", "session"))
    assert sum(sizes.values()) <= MAX_WEIGHT
    visitor.page.reload()
    visitor.see("#login")
    again = dict(visitor.page.evaluate(weigh))
    assert sum(size for name, size in again.items() if "?" in name) <= 600  # asked for again at most, not sent again


def test_logs_in_and_sees_live_values(browser: Browsers, lamp_world: WebWorld) -> None:
    visitor = browser.visit(lamp_world)
    visitor.allowed = {(401, "/api/login")}
    visitor.see("#login-hint", "Lost it? Type web password at the board's console.")
    expect(visitor.page.locator("nav")).to_be_hidden()
    visitor.page.fill("#password", "not the password")
    visitor.page.press("#password", "Enter")
    visitor.see("#login-error", "not the password")
    visitor.log_in()
    page = visitor.page
    expect(page.locator("#name")).to_have_text("sim-board")
    expect(page.locator('[data-key="version"]')).to_have_text("1.0.0")
    expect(page.locator('[data-key="ssid"]')).to_have_text("sim-network")
    expect(page.locator("#signal")).to_have_attribute("aria-label", "Signal 4 of 4")
    expect(page.locator("#hardware")).to_contain_text("MicroPython 1.")
    expect(page.locator("#last-start")).to_have_text("power on")
    seconds = page.locator('[data-key="lamp/seconds"]')
    expect(seconds).to_contain_text("s")
    before = seconds.inner_text()
    expect(seconds).not_to_have_text(before)
    visitor.go("settings")
    page.click("#logout")
    visitor.see("#login")
    page.reload()
    visitor.see("#login")


def test_a_reload_keeps_the_session_and_the_section(browser: Browsers, lamp_world: WebWorld) -> None:
    visitor = visit(browser, lamp_world, "console")
    visitor.page.reload()
    visitor.wait_linked()
    expect(visitor.page.locator("#console")).to_be_visible()
    expect(visitor.page.locator("nav a[aria-current]")).to_have_text("Console")
    assert visitor.page.title() == "Console · sim-board"


def test_what_can_be_set_is_set_and_shows_what_is(browser: Browsers, lamp_world: WebWorld) -> None:
    visitor = visit(browser, lamp_world)
    page, since = visitor.page, lamp_world.now()
    light, level, style = (page.get_by_label(f"Lamp <i>one</i>: {name}") for name in ("Light", "Level", "Style"))
    expect(light).not_to_be_checked()
    light.check()
    lamp_world.board.expect("lamp: told lamp/on True", 30, since)
    style.select_option("fast")
    lamp_world.board.expect("lamp: told lamp/style fast", 30, since)
    level.fill("50")
    level.press("Tab")
    lamp_world.board.expect("lamp: told lamp/level 50", 30, since)
    lamp_world.type("lamp/on false")
    expect(light).not_to_be_checked()
    visitor.go("settings")
    limit = page.get_by_label("Lamp <i>one</i>: Limit")
    limit.fill("12")
    limit.press("Tab")
    lamp_world.board.expect("lamp: told lamp.limit 12", 30, since)
    limit.fill("600")
    limit.press("Tab")  # the field itself refuses it
    page.reload()
    expect(page.get_by_label("Lamp <i>one</i>: Limit")).to_have_value("12")


def test_a_modules_panel_comes_first_and_its_switch_is_as_large_as_a_finger(browser: Browsers, lamp_world: WebWorld) -> None:
    visitor = browser.visit(lamp_world, 390, 844)
    visitor.log_in()
    page = visitor.page
    assert page.locator("#panels h3").all_inner_texts() == ["Lamp <i>one</i>", "This board", "Modules"]
    light = page.get_by_label("Lamp <i>one</i>: Light")
    box = light.bounding_box()
    assert box and min(box["width"], box["height"]) >= 24
    before = light.is_checked()
    page.locator("#panels label", has_text="Light").click()
    expect(light).to_be_checked(checked=not before)
    page.locator("#panels label", has_text="Light").click()
    expect(light).to_be_checked(checked=before)


def test_the_boards_health_name_and_settings(browser: Browsers, web_world: WebWorld, tmp_path: Path) -> None:
    web_world.wifi = {"ssid": "sim-network", "password": "simulated"}
    web_world.start(web_world.release("1.0.0", FAILING, modules=(*MODULES, "fan")))
    visitor = visit(browser, web_world)
    page = visitor.page
    rows = page.locator("#modules div")
    assert page.locator("#modules dt").all_inner_texts() == ["ota", "serial_log", "web", "wifi", "fan"]
    expect(rows).to_have_count(5)
    expect(rows.filter(has_text="fan")).to_contain_text("Off: import: ValueError('no blades',)")
    expect(rows.filter(has_text="wifi")).to_contain_text("Running")
    expect(page.locator("#host")).to_have_text(f"http://sim-board-0001.local:{web_world.port}/")
    expect(page.locator("#host")).to_have_attribute("href", f"http://sim-board-0001.local:{web_world.port}/")
    expect(page.locator("#time")).to_contain_text("20")
    expect(page.locator("#uptime")).to_contain_text(" s")
    expect(page.locator("#dashboard [data-key='mqtt/state']")).to_have_text("–")
    visitor.go("settings")
    expect(page.locator("#ssid")).to_have_value("sim-network")
    visitor.allowed = {(400, "/api/action")}
    address = page.get_by_label("Network: Fixed address")
    address.fill("10.0.0.9")
    address.press("Tab")
    visitor.see("#toast", 'wifi.address cannot be "10.0.0.9"')
    name = page.get_by_label("Board: Name (also http://NAME.local)")
    expect(page.locator(".panel", has=name)).to_contain_text("Saved when you leave a field.")
    name.fill("front-door")
    name.press("Tab")
    expect(page.locator("#name")).to_have_text("front-door")
    assert page.title() == "Settings · front-door"
    with page.expect_response("**/api/action"):
        page.get_by_label("Install updates by itself").uncheck()
    expect(page.locator("#toast")).to_have_text("Saved.")
    with page.expect_download() as download:
        page.get_by_role("button", name="Back up").click()
    saved = tmp_path / "settings.json"
    download.value.save_as(saved)
    assert json.loads(saved.read_text()).items() >= {"name": "front-door", "ota.auto_install": False}.items()
    assert "password" not in saved.read_text()
    page.get_by_label("With passwords").check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Back up").click()
    download.value.save_as(saved)
    assert "wifi.ap_password" in json.loads(saved.read_text())
    saved.write_text(json.dumps({"name": "back-door"}))
    page.set_input_files("#restore-file", saved)
    visitor.see("dialog", "count after a restart")
    page.locator("#ask-yes").click()
    expect(page.locator("#name")).to_have_text("back-door")
    visitor.wait_linked()


def test_the_console_takes_a_line_and_tells_the_time_of_day(browser: Browsers, lamp_world: WebWorld) -> None:
    visitor = visit(browser, lamp_world, "console")
    page = visitor.page
    page.fill("#command", "ota status")
    page.press("#command", "Enter")
    line = page.locator("#log div").filter(has_text="ota status:").last
    expect(line).to_contain_text("'state'")
    expect(page.locator("#command")).to_have_value("")
    away = "(text) => Math.abs(new Date(`${new Date().toDateString()} ${text}`) - Date.now())"
    told = page.evaluate(away, line.locator("time").inner_text())
    assert told < 60_000 or told > 86_000_000


@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 800)])
def test_the_consoles_field_is_in_sight(browser: Browsers, lamp_world: WebWorld, width: int, height: int) -> None:
    """It was behind the tabs of a narrow window, and below the edge of a wide one."""
    visitor = browser.visit(lamp_world, width, height)
    visitor.log_in()
    visitor.go("console")
    page = visitor.page
    corners = """(field) => {
      const {left, top, right, bottom} = field.getBoundingClientRect();
      return [[left + 9, top + 2], [right - 9, top + 2], [left + 9, bottom - 2], [right - 9, bottom - 2]]
        .map(([x, y]) => field.contains(document.elementFromPoint(x, y)));
    }"""
    field, button = page.locator("#command"), page.locator("#command-form button")
    for _filtered in range(2):
        for node in (field, button):
            assert node.evaluate(corners) == [True] * 4
        edges = [box["y"] + box["height"] for node in (field, button) if (box := node.bounding_box())]
        assert abs(edges[0] - edges[1]) < 1
        page.fill("#filter", "no line has this")
        visitor.see("#log-note", "No line matches.")


def test_a_board_that_is_away_is_neither_up_to_date_nor_to_be_updated(browser: Browsers, web_world: WebWorld) -> None:
    web_world.start()
    visitor = visit(browser, web_world, "firmware")
    page = visitor.page
    expect(page.locator("#state")).to_have_text("Up to date")
    expect(page.locator("#update")).to_be_hidden()
    expect(page.locator("#check")).to_be_enabled()
    web_world.board.stop()
    expect(page.locator("#state")).to_have_text("Not known")
    expect(page.locator("#check")).to_be_disabled()
    web_world.board.start()
    visitor.see("#login")
    visitor.log_in()
    expect(page.locator("#check")).to_be_enabled()
    expect(page.locator("#state")).not_to_have_text("Not known")


def test_a_panels_action_reaches_its_module_and_a_question_is_asked_first(browser: Browsers, lamp_world: WebWorld) -> None:
    visitor = visit(browser, lamp_world)
    page, since = visitor.page, lamp_world.now()
    page.get_by_role("button", name="Switch").click()
    lamp_world.board.expect("lamp: told lamp/switch", 30, since)
    page.get_by_role("button", name="Off", exact=True).click()
    visitor.see("dialog", "Really off?")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()
    page.get_by_role("button", name="Off", exact=True).click()
    page.locator("#ask-yes").click()
    lamp_world.board.expect("lamp: told lamp/off", 30, since)
    assert lamp_world.lines_since(since).count("lamp: told") == 2  # not when the question was left without a yes


def test_what_others_wrote_is_text(browser: Browsers, lamp_world: WebWorld) -> None:
    visitor = visit(browser, lamp_world)
    page = visitor.page
    page.on("dialog", lambda dialog: visitor.problems.append("a script of a stranger ran"))
    expect(page.locator("#panels .panel h3")).to_have_text("Lamp <i>one</i>")
    expect(page.locator('[data-key="lamp/word"]')).to_have_text("<img src=x onerror=alert(1)>")
    page.get_by_role("button", name="Switch").click()
    visitor.go("console")
    expect(page.locator("#log", has_text="<script>alert(2)</script>")).to_be_visible()
    lamp_world.type("<b>bold</b> ota </div><svg onload=alert(3)>")
    assert page.locator("main img, main i:not(.signal i), #log svg, #log script, #log b b").count() == 0


def test_the_console_shows_filters_pauses_copies_and_downloads(browser: Browsers, lamp_world: WebWorld) -> None:
    visitor = visit(browser, lamp_world, "console")
    page, log = visitor.page, visitor.page.locator("#log")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    lamp_world.type("ota channel bad/name")
    expect(log).to_contain_text("a channel's name is made of letters")
    lamp_world.type("status")
    expect(log).to_contain_text("running: ")

    page.select_option("#level", "W")
    expect(log).to_contain_text("a channel's name is made of letters")
    expect(log).not_to_contain_text("running: ")
    page.select_option("#level", "I")
    page.fill("#filter", "FAILED: NONE")
    expect(log.locator("div").first).to_contain_text("failed: none")
    expect(log).not_to_contain_text("a channel's name")
    page.click("#copy")
    visitor.see("#toast", "Copied")
    assert "failed: none" in page.evaluate("() => navigator.clipboard.readText()")
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "sim-board-log.txt"
    assert "failed: none" in download.value.path().read_text()
    page.fill("#filter", "")

    page.click("#pause")
    count = log.locator("div").count()
    lamp_world.type("ota channel worse/name")
    visitor.see("#log-note", "Paused. 1 new line.")
    assert log.locator("div").count() == count
    page.click("#pause")
    expect(log.locator("div")).to_have_count(count + 1)

    page.select_option("#level", "D")
    lamp_world.type("ota cancel")
    page.click("#clear")
    expect(log.locator("div")).to_have_count(0)
    page.select_option("#level", "I")


def test_settings_scan_mqtt_password_and_restart(browser: Browsers, web_world: WebWorld, tmp_path: Path) -> None:
    web_world.start(web_world.release("1.0.0", modules=(*MODULES, "mqtt")))
    visitor = visit(browser, web_world, "settings")
    visitor.allowed = {(403, "/api/password"), (401, "/api/login")}
    page = visitor.page
    visitor.see("#wifi-state", "Connected to sim-network as 127.0.0.1")
    mqtt = page.locator("#mqtt-form")
    _assert_typed_text_stays(page, mqtt)
    page.click("#scan")
    page.get_by_role("button", name="neighbour, signal 1 of 4, with a password").click()
    expect(page.locator("#ssid")).to_have_value("neighbour")
    page.fill("#wifi-password", "short")
    visitor.allowed.add((400, "/api/wifi/join"))
    page.locator("#join-form button").click()
    visitor.see("#wifi-error", "8 to 63 characters")
    page.fill("#ssid", "sim-network")
    page.fill("#wifi-password", "simulated")
    page.locator("#join-form button").click()
    visitor.see("#toast", "The board joins sim-network")
    visitor.see("#wifi-state", "Connected to sim-network")

    expect(mqtt.locator('[data-key="mqtt/state"]')).to_have_text("off")
    with Broker(tmp_path / "broker", users={"door": "mqtt-secret"}) as broker:
        mqtt.get_by_label("Broker").fill("127.0.0.1")
        mqtt.get_by_label("Port").fill(str(broker.port))
        mqtt.get_by_label("User").fill("door")
        mqtt.get_by_label("Password").fill("mqtt-secret")
        mqtt.get_by_role("button").click()
        visitor.see("#toast", "Saved")
        expect(mqtt.locator('[data-key="mqtt/state"]')).to_have_text("connected")

    form = page.locator("#password-form")
    for old, new, again, said in [
        (PASSWORD, "another-secret", "another-one", "not the same"),
        ("wrong-password", "another-secret", "another-secret", "not the password"),
        (PASSWORD, "another-secret", "another-secret", ""),
    ]:
        page.fill("#old", old)
        page.fill("#new", new)
        page.fill("#again", again)
        form.get_by_role("button").click()
        if said:
            expect(form.locator(".error")).to_contain_text(said)
    visitor.see("#toast", "The password has been changed")

    since = web_world.now()
    page.click("#restart")
    page.locator("#ask-yes").click()
    web_world.board.expect("web: listening on port", 60, since)
    expect(page.locator("#log")).to_contain_text("the board has restarted")
    visitor.wait_linked()
    assert any("restarting" in text for text in visitor.seen()["banner"])
    page.reload()
    visitor.wait_linked()
    expect(mqtt.get_by_label("Broker")).to_have_value("127.0.0.1")
    expect(mqtt.get_by_label("Port")).to_have_value(str(broker.port))
    expect(mqtt.get_by_label("Password")).to_have_value("")
    page.click("#logout")
    visitor.log_in("another-secret")
    assert "another-secret" not in web_world.board.console() and "mqtt-secret" not in web_world.board.console()


def _assert_typed_text_stays(page: Page, mqtt: Locator) -> None:
    """The board's answer, when it comes late, does not replace what has been typed meanwhile."""
    held: list[Route] = []
    page.route("**/api/mqtt", lambda route: held.append(route), times=1)
    with page.expect_request("**/api/mqtt"):
        page.click('nav a[href="#/console"]')
        page.click('nav a[href="#/settings"]')
    mqtt.get_by_label("Broker").fill("typed.example")
    mqtt.get_by_label("Password").evaluate("(field) => field.removeAttribute('placeholder')")  # the answer brings it back
    with page.expect_response("**/api/mqtt"):
        held[0].continue_()
    expect(mqtt.get_by_label("Password")).to_have_attribute("placeholder", "")
    expect(mqtt.get_by_label("Broker")).to_have_value("typed.example")


def test_the_first_start_asks_for_a_network(browser: Browsers, web_world: WebWorld) -> None:
    web_world.wifi = None
    web_world.flash(web_world.release("1.0.0"))
    web_world.boot("web: listening on port")
    visitor = browser.visit(web_world, 390, 844)
    visitor.log_in()
    visitor.see("#welcome", "Choose the network")
    visitor.see("#wifi-state", "No network is chosen")
    visitor.page.click("#scan")
    visitor.page.get_by_role("button", name="sim-network, signal 4 of 4").click()
    visitor.page.fill("#wifi-password", "simulated")
    since = web_world.now()
    visitor.page.press("#wifi-password", "Enter")
    web_world.board.expect("wifi: connected to sim-network", 30, since)
    visitor.see("#wifi-state", "Connected to sim-network")
    expect(visitor.page.locator("#welcome")).to_be_hidden()


def test_too_many_wrong_passwords_lock_the_login_for_a_while(browser: Browsers, web_world: WebWorld) -> None:
    web_world.start()
    visitor = browser.visit(web_world)
    visitor.allowed = {(401, "/api/login"), (429, "/api/login")}
    page = visitor.page
    button = page.locator("#login button")
    for _attempt in range(8):
        expect(button).to_be_enabled()
        page.fill("#password", "guess number one")
        page.press("#password", "Enter")
        expect(page.locator("#login-error")).not_to_be_empty()
        expect(page.locator("#login-error")).to_contain_text("password")
        if "Too many" in page.locator("#login-error").inner_text():
            break
    visitor.see("#login-error", "Too many wrong passwords. Try again in")
    expect(button).to_be_disabled()
    expect(button).to_be_enabled()
    visitor.log_in()
    visitor.see("#dashboard")


def test_two_browsers_at_once_and_the_one_without_a_stream_polls(browser: Browsers, web_world: WebWorld) -> None:
    web_world.web = {"password": PASSWORD, "max_streams": 1}
    old, new = web_world.release("1.0.0", auto_install=False), web_world.release("1.1.0")
    web_world.start(old)
    web_world.offer(new)
    first, second = visit(browser, web_world), visit(browser, web_world, "firmware")
    second.allowed = {(503, "/api/events")}
    expect(first.page.locator("#link")).to_have_text("Live")
    expect(second.page.locator("#link")).to_have_text("Every 2 s: others are watching")
    second.page.click("#check")
    second.see("#new-version", "Version 1.1.0 is available")
    first.see("#offer", "Version 1.1.0 is available")
    second.go("console")
    web_world.type("status")
    expect(second.page.locator("#log")).to_contain_text("failed: none")


def test_an_answer_that_an_event_has_overtaken_is_not_shown(browser: Browsers, web_world: WebWorld) -> None:
    """The board told its status before it failed, and the page hears of that later: it would show an install for ever."""
    web_world.start()
    visitor = visit(browser, web_world, "firmware")
    held: list[Route] = []
    visitor.page.route("**/api/status", lambda route: route.continue_() if held else held.append(route))
    since = web_world.now()
    with visitor.page.expect_request("**/api/status"):
        visitor.page.click("#check")
    web_world.board.expect("ota: up to date", PATIENCE_S, since)
    visitor.see("#state", "Up to date")
    assert web_world.client().upload(bytes(3000)).status == 202
    visitor.see("#result", "Not updated.")
    answer = held[0].fetch()
    late = {**answer.json(), "ota": {**answer.json()["ota"], "state": "installing"}}
    with visitor.page.expect_request("**/api/status"):  # it asks again
        held[0].fulfill(response=answer, json=late)
    visitor.see("#result", "Not updated.")


def test_updates_by_the_button_across_the_restart_and_rolls_back(browser: Browsers, web_world: WebWorld) -> None:
    notes = "Closes at <b>dusk</b>."
    old = web_world.release("1.0.0", keep_previous=True, auto_install=False)
    new = web_world.release("1.1.0", keep_previous=True, auto_install=False, notes=notes)
    web_world.start(old)
    visitor, other = visit(browser, web_world, "firmware"), visit(browser, web_world)
    page = visitor.page
    expect(page.locator("#version")).to_have_text("1.0.0")
    expect(page.locator("#rollback")).to_be_hidden()
    expect(page.locator("#state")).to_have_text("Up to date")

    web_world.offer(new)
    page.click("#check")
    visitor.see("#new-version", "Version 1.1.0 is available")
    expect(page.locator("#notes")).to_have_text(notes)
    expect(page.locator("#new-size")).to_have_text(re.compile(r"at most \d+ KB"))  # the bundle; less of it is fetched
    other.see("#offer", "Version 1.1.0 is available")
    expect(other.page.locator("#notes")).to_have_text(notes)
    web_world.server.trick = Slowly(3.0)
    page.get_by_role("button", name="Update to 1.1.0").click()
    visitor.see("#result", "Version 1.1.0 is installed, works and stays.")
    expect(page.locator("#version")).to_have_text("1.1.0")
    expect(other.page.locator('[data-key="version"]')).to_have_text("1.1.0")
    seen = visitor.seen()
    print(seen)
    wanted = ["Installing", "trial"]
    assert [word for word in wanted if not any(word in text for text in seen["phase"])] == []
    assert any("The board is restarting" in text for text in seen["banner"])
    web_world.board.expect("confirmed: version 1.1.0 stays")
    assert web_world.board.console().count("web: login") == 2  # nobody had to log in again

    page.get_by_role("button", name="Roll back to 1.0.0").click()
    visitor.see("dialog", "Go back to version 1.0.0?")
    page.locator("#ask-yes").click()
    visitor.see("#result", "Version 1.0.0 is installed, works and stays.")
    expect(page.locator("#version")).to_have_text("1.0.0")


def test_a_long_download_shows_how_far_it_is_and_can_be_cancelled(browser: Browsers, web_world: WebWorld) -> None:
    web_world.start()
    web_world.offer(web_world.release("1.1.0", {"www/new": noise(1, 60_000)}))
    web_world.server.trick = Slowly(6.0)
    visitor = visit(browser, web_world, "firmware")
    page = visitor.page
    page.click("#check")
    visitor.see("#phase", "Downloading version 1.1.0")
    visitor.see("#detail", "left")
    page.click("#cancel")
    expect(page.locator("#progress")).to_be_hidden()
    percents = [int(text) for text in visitor.seen()["meter"]]
    assert percents == sorted(percents) and any(0 < percent < 100 for percent in percents)
    expect(page.locator("#version")).to_have_text("1.0.0")


def test_a_board_that_is_away_for_an_update_is_not_lost(browser: Browsers, web_world: WebWorld) -> None:
    """One that restarts to have memory for it goes before its event comes: the page said that the board does not answer."""
    web_world.start(web_world.release("1.0.0", auto_install=False))
    web_world.offer(web_world.release("1.1.0"))
    visitor = visit(browser, web_world, "firmware")
    page = visitor.page
    page.click("#check")
    visitor.see("#new-version", "Version 1.1.0 is available")
    page.route("**/api/ota/update", lambda route: route.fulfill(status=202, json={"started": True}))
    page.click("#update")
    expect(page.locator("#update")).to_be_enabled()
    web_world.board.stop()
    visitor.see("#banner", "The board restarts to have memory for the update. Its page comes back by itself")
    visitor.see("#phase", "The board restarts to have memory for the update.")
    expect(page.locator("#state")).to_have_text("Updating")
    visitor.see("#detail", "so far")
    seen = visitor.seen()
    assert not any("does not answer" in text for text in seen["banner"])
    assert "0 s so far" not in seen["detail"]
    web_world.board.start()
    visitor.see("#login")
    visitor.log_in()
    visitor.see("#new-version", "Version 1.1.0 is available")  # what the board says counts again


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"auto_install": False}, "It is installed when you press Update."),
        ({"window": "02:00-02:01"}, "It installs itself in the window 02:00-02:01"),
    ],
    ids=["asked", "window"],
)
def test_what_a_ready_update_waits_for_is_shown(
    browser: Browsers, web_world: WebWorld, setting: dict[str, object], sentence: str
) -> None:
    web_world.ota.update(setting)
    web_world.start()
    web_world.offer(web_world.release("1.1.0"))
    visitor = visit(browser, web_world, "firmware")
    visitor.page.click("#check")
    visitor.see("#waits", sentence)
    expect(visitor.page.locator("#update")).to_have_text("Update to 1.1.0")


def test_a_failing_release_is_shown_as_rolled_back_with_its_reason(browser: Browsers, web_world: WebWorld) -> None:
    good = web_world.release("1.0.0", LAMP, modules=WITH_LAMP)
    bad = web_world.release("1.1.0", {"modules/lamp/__init__.py": b"raise ValueError('no <b>bulb</b>')\n"}, modules=WITH_LAMP)
    web_world.start(good)
    web_world.offer(bad)
    visitor = visit(browser, web_world, "firmware")
    expect(visitor.page.locator("#update")).to_be_hidden()
    visitor.page.click("#check")
    visitor.see("#result", "Version 1.1.0 was rolled back: the board runs 1.0.0 again.")
    visitor.see("#result", "no <b>bulb</b>")
    visitor.see("#result", "(module_failed)")
    visitor.see("#result", "A module that ran before fails in the new version.")
    expect(visitor.page.locator("#version")).to_have_text("1.0.0")
    visitor.page.reload()
    visitor.see("#result", "Version 1.1.0 was rolled back")
    expect(visitor.page.get_by_role("button", name="Try again by force")).to_be_visible()
    since = web_world.now()
    visitor.page.click("#check")
    web_world.board.expect(r"check failed: .*\(failed_before\)", PATIENCE_S, since)
    expect(visitor.page.locator("#state")).to_have_text("Not updated")
    for offer in ("#update", "#available"):  # the board would only refuse it
        expect(visitor.page.locator(offer)).to_be_hidden()
    expect(visitor.page.get_by_role("button", name="Try again by force")).to_be_visible()
    visitor.go("dashboard")
    visitor.see("#offer.bad", "Version 1.1.0 failed here and was taken back")
    newer = web_world.release("1.2.0", {**LAMP, "www/new": b"new"}, modules=WITH_LAMP)
    web_world.offer(newer)
    web_world.type("ota check")
    web_world.board.expect("confirmed: version 1.2.0 stays", PATIENCE_S)
    visitor.go("firmware")
    visitor.see("#result", "Version 1.2.0 is installed, works and stays.")
    visitor.go("dashboard")
    expect(visitor.page.locator("#offer")).to_be_hidden()


def test_an_upload_is_refused_or_installed(browser: Browsers, web_world: WebWorld) -> None:
    old = web_world.release("1.0.0")
    web_world.start(old)
    new = web_world.release("1.1.0", {"www/new": noise(1, 3_000)})  # the last one: of what is there already nothing is read
    visitor = visit(browser, web_world, "firmware")
    page = visitor.page
    torn = new.archive[:-300] + bytes(300)
    for name, data in [("holiday.tar.gz", b"\xff\xd8 a photo" * 4000), ("torn.tar.gz", torn)]:
        since = web_world.now()
        visitor.upload(name, data)
        web_world.board.expect(r"install failed: .*\(bad_", 60, since)
        visitor.see("#result", "Not updated.")
        visitor.see("#result", "The file is damaged, or no release at all.")
    expect(page.locator("#version")).to_have_text("1.0.0")
    worlds.assert_tree(web_world.peek(), old.tree)

    visitor.upload("1.1.0.tar.gz", new.archive)
    visitor.see("#result", "Version 1.1.0 is installed, works and stays.")
    expect(page.locator("#version")).to_have_text("1.1.0")
    web_world.board.expect("confirmed: version 1.1.0 stays")
    worlds.assert_tree(web_world.peek(), new.tree)


def test_everything_can_be_done_with_the_keyboard(browser: Browsers, lamp_world: WebWorld) -> None:
    visitor = browser.visit(lamp_world)
    page = visitor.page
    visitor.see("#login")
    expect(page.locator("#password")).to_be_focused()
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    visitor.wait_linked()
    for name in (*SECTIONS[1:], SECTIONS[0]):
        page.locator(f'nav a[href="#/{name}"]').focus()
        page.keyboard.press("Enter")
        expect(page.locator(f"#{name}")).to_be_visible()
        expect(page.locator(f"#{name}-h")).to_be_focused()
        if name == "settings":
            visitor.see("#wifi-state", "Connected")  # the last that is there
        inside = page.locator(f"#{name} :is(a[href], button, input, select, [tabindex='0']):visible:not([disabled])").count()
        reached = set()
        for _press in range(inside + 1):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("() => document.activeElement.closest('section') && document.activeElement.outerHTML"))
        assert len(reached - {None}) == inside, name
