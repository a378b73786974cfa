"""The API on a real board: what each request gives, and every status code."""

from __future__ import annotations

import gzip
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from iotctl import ROOT
from tests.web.conftest import PASSWORD, PATIENCE_S, Answer, Client, EventStream, WebWorld, routes

ROUTES = routes()
GETS = [path for method, path in ROUTES if method == "GET"]
POSTS = [path for method, path in ROUTES if method == "POST"]
JSON_POSTS = [path for path in POSTS if path != "/api/ota/upload"]


@pytest.fixture(scope="module")
def client(shared: WebWorld) -> Client:
    return shared.client()


def refused(answer: Any, status: int, reason: str) -> None:
    assert (answer.status, answer.json["error"]) == (status, reason)
    assert answer.json["message"]


def test_the_api_has_its_routes_and_the_document_names_each_of_them() -> None:
    assert len(ROUTES) == 30
    text = (ROOT / "docs" / "api.md").read_text()
    assert [route for route in ROUTES if f"{route[0]} {route[1]}" not in text] == []


# -- the guard


def test_without_a_login_only_the_session_can_be_asked_for(shared: WebWorld) -> None:
    stranger = shared.client(login=False)
    for method, path in ROUTES:
        if path == "/api/session":
            answer = stranger.get(path)
            assert answer.status == 200 and answer.json["authenticated"] is False and answer.json["csrf"] is None
        elif path != "/api/login":
            refused(stranger.request(method, path, b"{}" if method == "POST" else None), 401, "login_required")


def test_a_get_changes_nothing(client: Client) -> None:
    for path in set(POSTS) - set(GETS):
        refused(client.get(path), 405, "bad_method")
    for path in set(GETS) - set(POSTS):
        refused(client.post(path), 405, "bad_method")


@pytest.mark.parametrize("headers", [{"X-CSRF": ""}, {"X-CSRF": "0" * 32}])
def test_a_post_needs_the_sessions_token(client: Client, headers: dict[str, str]) -> None:
    for path in POSTS:
        if path != "/api/login":
            refused(client.post(path, headers=headers), 403, "csrf")


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}],
)
def test_another_sites_page_may_do_nothing(client: Client, headers: dict[str, str]) -> None:
    for path in ("/api/login", "/api/restart"):
        refused(client.post(path, headers=headers), 403, "cross_origin")
    if "Sec-Fetch-Site" in headers:
        refused(client.request("GET", "/api/status", headers=headers), 403, "cross_origin")


@pytest.mark.parametrize("host", [
    "evil.example", "127.0.0.1.evil.example", "", "127.0.0.1:x", "10.1.2.3", "[::1]", "sim-board-0001.evil.example",
    "sim-board-0001.box", "sim-board-0001.", "sim-board-0001.local.evil.example", "sim-board-0002.local", "sim-board-0001local",
])  # fmt: skip
def test_a_name_that_is_not_the_boards_is_refused(client: Client, host: str) -> None:
    refused(client.request("GET", "/", headers={"Host": host}), 403, "bad_host")


@pytest.mark.parametrize("host", [
    "127.0.0.1", "localhost:8080", "SIM-board-0001", "sim-board-0001.local:80", "sim-board-0001.fritz.box",
    "sim-board-0001.home.arpa",
])  # fmt: skip
def test_the_boards_own_names_are_known(client: Client, host: str) -> None:
    assert client.request("GET", "/api/status", headers={"Host": host}).status == 200


def test_other_methods_are_refused(client: Client) -> None:
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get"):
        refused(client.request(method, "/api/status"), 405, "bad_method")


def test_a_body_must_be_a_short_json_object_with_its_type_and_length(client: Client) -> None:
    for path in JSON_POSTS:
        if path in ("/api/logout", "/api/login"):
            continue
        refused(client.post(path, headers={"Content-Type": "text/plain"}), 415, "bad_type")
        refused(client.post(path, headers={"Content-Length": ""}), 411, "length_required")
    token = {"Content-Type": "application/json; charset=utf-8", "X-CSRF": client.csrf or ""}
    for body in (b"{", b"[]", b"7", b"\xff\xfe", b"{}{}", b"[" * 900, b'"' + b"x" * 900):
        refused(client.request("POST", "/api/ota/check", body, token), 400, "bad_json")
    refused(client.request("POST", "/api/ota/check", b" " * 1025, token), 413, "too_large")
    refused(client.post("/api/ota/upload", headers={"Content-Type": "application/json"}), 415, "bad_type")


@pytest.mark.parametrize("path", ["/api/nothing", "/api/", "/api/ota", "/nothing", "/../profile.json", "/www/../../x", "/.ota"])
def test_what_is_not_there_is_not_found(client: Client, path: str) -> None:
    refused(client.get(path), 404, "not_found")


@pytest.mark.parametrize("path", ["/%2e%2e/profile.json", "/app.js%00", "/%61pi/status"])
def test_an_address_with_escapes_is_nothing_here(client: Client, path: str) -> None:
    refused(client.get(path), 404, "not_found")


# -- the page's files


def test_the_pages_files_come_gzipped_with_strict_headers_and_are_cached_by_digest(client: Client) -> None:
    page = client.get("/")
    text = gzip.decompress(page.body).decode()
    assert page.status == 200 and page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert page.headers["x-content-type-options"] == "nosniff" and page.headers["cache-control"] == "no-cache"
    found = re.search(r'src="(app\.js\?[0-9a-f]+)"', text)
    assert found
    script = client.get("/" + found[1])
    assert script.status == 200 and "immutable" in script.headers["cache-control"] and gzip.decompress(script.body)
    assert client.request("GET", "/", headers={"If-None-Match": page.headers["etag"]}).status == 304
    head = client.request("HEAD", "/")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", page.headers["content-length"])


# -- reading


def test_status_says_what_the_page_shows(shared: WebWorld, client: Client) -> None:
    status = client.get("/api/status").json
    assert (status["name"], status["id"], status["version"]) == ("sim-board", "sim-0001", "1.0.0")
    assert status["ota"]["state"] == "up_to_date" and status["ota"]["channel"] == "stable"
    assert 0 < status["freeram"] < status["heap"] and 0 < status["freedisk"] < status["disk"]
    assert set(status["modules"]) == {"serial_log", "wifi", "ota", "web", "lamp"} and status["failed"] == {}
    assert status["wifi"] == {"state": "connected", "ssid": "sim-network", "access_point": False}
    assert status["safe_mode"] is False and status["uptime_s"] >= 0
    assert (status["port"], status["restart"]) == ("rp2", "power on")
    assert status["board"] and status["micropython"].count(".") == 2


def test_a_module_declares_a_panel_and_its_actions_become_commands(shared: WebWorld, client: Client) -> None:
    level = {"key": "lamp/level", "label": "Level", "unit": "%", "kind": "number", "range": [0, 100]}
    limit = {"key": "lamp.limit", "label": "Limit", "unit": "W", "kind": "number", "range": [1, 60], "value": None}
    assert client.get("/api/panels").json[0] == {
        "id": "lamp",
        "title": "Lamp <b>",
        "values": [{"key": "lamp/on", "label": "Light", "unit": "", "kind": "sensor", "range": []}, level],
        "actions": [{"id": "toggle", "label": "Toggle"}, {"id": "off", "label": "Off", "confirm": "Really?"}],
        "settings": [limit],
    }
    before = client.get("/api/values").json["lamp/on"]
    since = shared.now()
    answer = client.post("/api/action", {"panel": "lamp", "action": "toggle", "value": 7})
    assert (answer.status, answer.json) == (202, {"started": True})
    shared.board.expect("lamp: toggled by web with 7", PATIENCE_S, since)
    assert client.get("/api/values").json["lamp/on"] is not before
    refused(client.post("/api/action", {"panel": "lamp", "action": "explode"}), 404, "not_found")
    refused(client.post("/api/action", {"panel": "ota", "action": "toggle"}), 404, "not_found")
    for value in ("x" * 257, [1], {"a": 1}):
        refused(client.post("/api/action", {"panel": "lamp", "action": "toggle", "value": value}), 400, "bad_value")


def test_a_value_that_can_be_set_takes_what_its_kind_has_and_a_sensor_nothing(client: Client) -> None:
    assert client.post("/api/action", {"panel": "lamp", "action": "lamp/level", "value": 50}).status == 202
    assert client.get("/api/values").json["lamp/level"] == 50
    for value in (101, "x", None, True):
        refused(client.post("/api/action", {"panel": "lamp", "action": "lamp/level", "value": value}), 400, "bad_value")
    refused(client.post("/api/action", {"panel": "lamp", "action": "lamp/on", "value": True}), 404, "not_found")
    refused(client.post("/api/action", {"panel": "lamp", "action": ["lamp/on"]}), 404, "not_found")


def test_settings_are_preferences_before_the_profile_and_can_be_taken_back(shared: WebWorld, client: Client) -> None:
    def setting(panel: str, key: str, value: Any) -> Answer:
        return client.post("/api/action", {"panel": panel, "action": key, "value": value})

    def shown() -> dict[str, Any]:
        return {item["key"]: item["value"] for panel in client.get("/api/panels").json for item in panel["settings"]}

    before = shown()
    nothing = dict.fromkeys(("lamp.limit", "ntp", "wifi.address", "ota.window", "name"))
    assert before == {**nothing, "ota.auto_install": True}
    since = shared.now()
    assert setting("lamp", "lamp.limit", 50).status == 202
    shared.board.expect("lamp: limit 50 50", PATIENCE_S, since)
    assert setting("web", "name", "front-door").status == 202 and client.get("/api/session").json["name"] == "front-door"
    assert setting("ota", "ota.auto_install", False).status == 202
    assert client.get("/api/values").json["ota/auto_install"] is False
    assert setting("ota", "ota.window", "02:00-04:30").status == 202
    assert setting("wifi", "ntp", "10.0.0.1:123").status == 202
    assert shown() == {
        **nothing, "lamp.limit": 50, "name": "front-door", "ota.auto_install": False, "ota.window": "02:00-04:30",
        "ntp": "10.0.0.1:123",
    }  # fmt: skip
    for panel, key, value in (
        ("ota", "ota.window", "2-4"), ("ota", "ota.auto_install", "yes"), ("wifi", "ntp", "a b"), ("lamp", "lamp.limit", 0),
        ("web", "name", "Front door"), ("web", "name", "x" * 65), ("wifi", "wifi.address", "10.0.0.9"),
        ("wifi", "wifi.address", "10.0.0.9/24 10.0.0.1 10.0.0.1 10.0.0.1"), ("wifi", "wifi.address", "a b c d"),
        ("wifi", "wifi.address", "0.0.0.0 255.255.255.0 10.0.0.1 10.0.0.1"),
        ("wifi", "wifi.address", "10.0.0.9 255.255.255.0 10.0.0.1 0.0.0.0"),
    ):  # fmt: skip
        refused(setting(panel, key, value), 400, "bad_value")
    refused(setting("ota", "ota.channel", "x"), 404, "not_found")
    for key, value in shown().items():
        if value != before[key]:
            panel = {"name": "web", "ntp": "wifi"}.get(key) or key.partition(".")[0]
            assert setting(panel, key, None).status == 202
    assert shown() == before


def test_a_back_up_has_passwords_only_when_asked_and_brings_back_what_it_has(shared: WebWorld, client: Client) -> None:
    saved = {"wifi.password": "simulated", "mine": {"deep": [1]}, "name": "Shed"}
    tried = {"wifi.old": ["home", "simulated too"]}  # the network before, while another one is tried
    assert client.post("/api/prefs", {**saved, **tried, "web.password": "stolen"}).status == 204
    assert client.get("/api/prefs").json.items() >= {"mine": {"deep": [1]}, "name": "Shed"}.items()
    text = client.get("/api/prefs").body.decode()
    assert "password" not in text and "web." not in text and "simulated" not in text
    everything = client.get("/api/prefs?secrets=1").json
    assert everything.items() >= saved.items() and not [key for key in everything if key.startswith("web.")]
    refused(client.post("/api/prefs", {f"big{n}": "x" * 60 for n in range(20)}), 413, "too_large")  # more than a body may be
    for n in range(10):
        answer = client.post("/api/prefs", {f"big{n}": "x" * 900})
    refused(answer, 413, "too_large")
    kept = client.get("/api/prefs").json
    assert "big0" in kept and "big9" not in kept
    cleared = dict.fromkeys([*saved, *tried, *(key for key in kept if key.startswith("big"))])
    assert client.post("/api/prefs", cleared).status == 204
    assert client.get("/api/prefs?secrets=1").json.keys() & cleared.keys() == set()


def test_one_number_that_json_cannot_keep_costs_nobody_their_preferences(web_world: WebWorld) -> None:
    """It is refused, and what was there outlasts a restart; so does not what is only on its way, and came with a back-up."""
    web_world.start()
    client = web_world.client()
    assert client.post("/api/prefs", {"ota.channel": "canary", "mqtt.pending": "a/#"}).status == 204
    assert client.post("/api/password", {"old": PASSWORD, "new": "another-one"}).status == 200
    client.login("another-one")
    headers = {"Content-Type": "application/json", "Origin": client.url, "X-CSRF": client.csrf or ""}
    for text in (b'{"mine": 1e999}', b'{"mine": [1, {"deep": -1e999}]}'):
        refused(client.request("POST", "/api/prefs", text, headers), 413, "too_large")
    assert client.post("/api/prefs", {"name": "porch"}).status == 204
    since = web_world.now()
    web_world.board.power_cycle()
    web_world.board.expect("web: listening on port", PATIENCE_S, since)
    assert "is damaged" not in web_world.lines_since(since)
    again = web_world.client(login=False)
    assert again.login("another-one").status == 200, "the password is lost"
    kept = again.get("/api/prefs").json
    assert kept == {"ota.channel": "canary", "name": "porch"}
    files = web_world.stop().files
    assert not [path for path in files if path.startswith("prefs.json") and b"mqtt.pending" in files[path]]


def test_a_line_for_the_console(shared: WebWorld, client: Client) -> None:
    since = shared.now()
    assert client.post("/api/console", {"line": " ota status "}).status == 202
    shared.board.expect("ota status: {", PATIENCE_S, since)
    since = shared.now()
    assert client.post("/api/console", {"line": "web password"}).status == 202  # that is for whoever holds the cable
    assert client.post("/api/console", {"line": "values"}).status == 202
    shared.board.expect("version = ", PATIENCE_S, since)
    assert "the password of this board" not in shared.lines_since(since)
    for line in ("", "  ", "x" * 121, 7, None):
        refused(client.post("/api/console", {"line": line}), 400, "bad_value")


def test_a_modules_own_routes_answer_and_those_below_api_take_a_login(shared: WebWorld, client: Client) -> None:
    stranger = shared.client(login=False)
    assert set(stranger.get("/lamp").json) == {"on"}
    refused(stranger.get("/api/lamp"), 401, "login_required")
    assert set(client.get("/api/lamp").json) == {"on"}
    refused(client.post("/api/lamp"), 405, "bad_method")


def test_the_log_is_numbered_and_can_be_read_on(shared: WebWorld, client: Client) -> None:
    lines = client.get("/api/log").json["lines"]
    numbers = [line["n"] for line in lines]
    assert numbers == list(range(numbers[0], numbers[0] + len(lines))) and len(lines) > 3
    assert all(line["level"] in "DIWE" and f"] {line['level']} " in line["line"] for line in lines)
    assert [line["n"] for line in client.get(f"/api/log?after={numbers[-3]}").json["lines"]][:2] == numbers[-2:]
    assert client.get("/api/log?after=999999").json == {"lines": []}
    for query in ("after=x", "after=", "before=3", "after=9999999999"):
        refused(client.get("/api/log?" + query), 400, "bad_request")


def test_the_logs_level_can_be_set_and_the_log_purged(shared: WebWorld, client: Client) -> None:
    assert client.post("/api/log/level", {"level": "warning"}).status == 204
    since = shared.type("lamp memory")  # logged as information
    time.sleep(1)
    assert "lamp: free" not in shared.lines_since(since)
    assert client.post("/api/log/level", {"level": "info"}).status == 204
    for level in ("loud", None, 3):
        refused(client.post("/api/log/level", {"level": level}), 400, "bad_level")
    assert client.post("/api/log/purge").status == 204
    assert len(client.get("/api/log").json["lines"]) < 3


# -- the event stream


def test_the_stream_brings_everything_first_then_what_changes_and_the_logs_lines(shared: WebWorld, client: Client) -> None:
    seen: dict[str, Any] = {}
    with _free_stream(client) as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        everything = set(client.get("/api/values").json)
        changed = False
        for event, data in stream:
            if event == "values":
                if changed and "lamp/on" in data:
                    break
                seen.update(data)
            if everything <= set(seen) and not changed:  # whether a line of the log follows or not: it may have been purged
                client.post("/api/action", {"panel": "lamp", "action": "toggle"})
                changed = True
        shared.type("lamp memory")
        assert any(event == "log" and "lamp: free" in data["line"] and data["level"] == "I" for event, data in stream)


def test_streams_beyond_the_limit_are_refused_cleanly_and_a_closed_one_makes_room(client: Client) -> None:
    streams = [_free_stream(client) for _ in range(4)]
    answer = client.get("/api/events")
    refused(answer, 503, "too_many")
    assert int(answer.headers["retry-after"]) > 0
    assert client.get("/api/values").status == 200  # a poll gets through
    for stream in streams:
        stream.close()
    _free_stream(client).close()


def _free_stream(client: Client) -> EventStream:
    """A stream, as soon as there is one: the board looks twice a second whether the client of one has gone."""
    deadline = time.monotonic() + PATIENCE_S
    stream = client.events()
    while stream.status != 200:
        stream.close()
        assert time.monotonic() < deadline
        time.sleep(0.2)
        stream = client.events()
    return stream


# -- settings


def test_wifi_shows_its_state_and_finds_networks(client: Client) -> None:
    """One of them has a name that is no UTF-8."""
    assert client.get("/api/wifi").json["ssid"] == "sim-network"
    networks = client.post("/api/wifi/scan").json["networks"]
    assert [(network["ssid"], network["open"]) for network in networks] == [("sim-network", False), ("neighbour", False)]
    for ssid in ("", "x" * 33, 3):
        refused(client.post("/api/wifi/join", {"ssid": ssid}), 400, "bad_value")
    for password in ("short", "x" * 64, 5):
        refused(client.post("/api/wifi/join", {"ssid": "x", "password": password}), 400, "bad_value")


def test_a_key_of_64_digits_is_taken_for_a_network(shared: WebWorld, client: Client) -> None:
    since = shared.now()
    assert client.post("/api/wifi/join", {"ssid": "sim-network", "password": "0123456789abcdefABCDEF" + "0" * 42}).status == 202
    assert client.post("/api/wifi/forget").status == 202
    shared.board.expect("wifi: connected to sim-network", PATIENCE_S, since)


def test_no_secret_is_in_any_answer_or_on_the_console(shared: WebWorld, client: Client) -> None:
    texts = [client.get(path).body.decode() for path in GETS if path != "/api/events"]
    for secret in (PASSWORD, "simulated"):
        assert not [text for text in [*texts, shared.board.console()] if secret in text]


# -- the update's buttons


def test_the_channel_is_checked_and_set(client: Client) -> None:
    for channel in ("../x", "", 3, None):
        refused(client.post("/api/ota/channel", {"channel": channel}), 400, "bad_value")
    assert client.post("/api/ota/channel", {"channel": "canary"}).status == 204
    assert client.get("/api/status").json["ota"]["channel"] == "canary"
    assert client.post("/api/ota/channel", {"channel": "stable"}).status == 204


def test_what_cannot_be_done_now_is_a_conflict(client: Client) -> None:
    refused(client.post("/api/ota/rollback"), 409, "no_update")
    refused(client.post("/api/ota/confirm"), 409, "not_allowed")
    refused(client.post("/api/ota/cancel"), 409, "not_allowed")
    refused(client.post("/api/ota/install"), 409, "no_update")
    refused(client.post("/api/ota/update", {"force": "yes"}), 400, "bad_value")


def test_a_check_answers_at_once_and_is_followed_on_the_bus(shared: WebWorld, client: Client) -> None:
    since = shared.now()
    answer = client.post("/api/ota/check")
    assert (answer.status, answer.json) == (202, {"started": True})
    shared.board.expect("ota: up to date", PATIENCE_S, since)


def test_json_is_json_and_is_not_kept_by_anybody(client: Client) -> None:
    for path in GETS:
        if path != "/api/events":
            answer = client.get(path)
            assert answer.headers["content-type"].startswith("application/json") and answer.headers["cache-control"] == "no-store"
            json.loads(answer.body)


# -- errors


def test_the_document_names_every_status_and_reason_of_the_code() -> None:
    """Those of the server, and the one that is said where there is no memory for it."""
    raised = r'\((\d{3}), "(\w+)"'
    sources = [path.read_text() for path in sorted((ROOT / "modules" / "web").glob("*.py"))]
    wanted = {found for source in sources for found in re.findall(raised, source)} | {("503", "updating")}
    table = re.findall(r"^\| (\d{3}) \| (.*) \|$", (ROOT / "docs" / "api.md").read_text(), re.M)
    named = {(status, word) for status, text in table for word in re.findall(r"`(\w+)`", text)}
    assert len(wanted) > 25 and wanted == named


def test_a_mistake_of_a_module_is_a_500_with_its_traceback_in_the_log_only(shared: WebWorld, client: Client) -> None:
    since = shared.now()
    answer = client.get("/api/lamp/broken")
    refused(answer, 500, "internal")
    assert b"ZeroDivisionError" not in answer.body
    shared.board.expect("ZeroDivisionError", PATIENCE_S, since)


def test_the_answer_is_there_before_what_was_asked_for_restarts_the_board(shared: WebWorld, client: Client) -> None:
    since = shared.now()
    assert client.get("/api/lamp/restart").json == {"started": True}
    shared.board.expect("web: listening", PATIENCE_S, since)


def test_two_passwords_are_not_stretched_at_once(web_world: WebWorld) -> None:
    """Logins wait for their turn; the one whose turn does not come gets a 503.

    No more at once than the board serves and its backlog holds: others the kernel may reset, and the board never sees them.
    """
    web_world.start()
    client = web_world.client()
    assert client.post("/api/password", {"old": PASSWORD, "new": "another-secret"}).status == 200
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda _n: web_world.client(login=False).login("another-secret"), range(24)))
    assert {answer.status for answer in answers} <= {200, 503}
    busy = [answer for answer in answers if answer.status == 503]
    assert all(answer.json["error"] == "busy" and int(answer.headers["retry-after"]) > 0 for answer in busy)
    assert any(answer.status == 200 for answer in answers) and busy
