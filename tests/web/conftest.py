"""A simulated board with the web module, and a browser's side of HTTP that is as strict or as rude as a test wants it."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from iotctl import ROOT, keys
from iotctl.profile import Profile
from tests.support import world as worlds
from tests.support.browser import browser, chromium
from tests.support.ports import free_port
from tests.support.world import World

__all__ = ("browser", "chromium")  # fixtures

PASSWORD = "open-sesame"
MODULES = ("serial_log", "wifi", "ota", "web")
PATIENCE_S = 50
LAMP = {
    "modules/lamp/__init__.py": b"""from iot_platform.module import Module as Base
import gc
import time

class Module(Base):
    name = "lamp"
    panels = {
        "title": "Lamp <b>",
        "values": (("lamp/on", "Light", ""), ("lamp/level", "Level", "%", "number", 0, 100)),
        "actions": (("toggle", "Toggle"), ("off", "Off", "Really?")),
        "settings": (("lamp.limit", "Limit", "W", "number", 1, 60),),
    }

    def start(self):
        self.platform.bus.publish("lamp/on", False)

    def routes(self, web):
        web.route("/lamp", self.page)
        web.route("/api/lamp", self.page)
        web.route("/api/lamp/broken", self.broken)
        web.route("/api/lamp/restart", self.restart)

    async def page(self, web, request):
        return {"on": self.platform.bus.get("lamp/on")}

    async def broken(self, web, request):
        return {"on": 1 / 0}

    def restart(self, web, request):
        self.platform.request_reset("the lamp wants it")
        time.sleep_ms(30)  # longer than a round of the loop, whose turn it is now
        return 202

    def on_command(self, command):
        if command.path == "lamp/toggle":
            self.platform.bus.publish("lamp/on", not self.platform.bus.get("lamp/on"))
            self.platform.log("lamp: toggled by", command.source, "with", command.payload)
        elif command.path == "lamp/level":
            self.platform.bus.publish("lamp/level", command.payload)
        elif command.path == "lamp.limit":
            self.platform.log("lamp: limit", command.payload, self.platform.setting("lamp.limit", 40))
        elif command.path == "lamp":
            gc.collect()
            self.platform.log("lamp: free", gc.mem_free(), "gap", self.platform.max_gap_ms)
"""
}  # a module with a panel and routes; typing "lamp memory" shows the free heap


@dataclass
class Answer:
    """One response. `json` is its body, if that is JSON."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """A browser without a page: one cookie, one token, the headers that a browser sends by itself."""

    port: int
    host: str = "127.0.0.1"
    cookie: str | None = None
    csrf: str | None = None
    address: str = "127.0.0.1"  # where it comes from
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def request(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request on a connection of its own. A header of "" is left out."""
        given = {"Host": f"{self.host}:{self.port}", "Connection": "close", **self.headers, **(headers or {})}
        if self.cookie and "Cookie" not in given:
            given["Cookie"] = f"sid={self.cookie}"
        source = (self.address, 0)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S, source_address=source)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            if body is not None:
                given.setdefault("Content-Length", str(len(body)))
            for name, value in given.items():
                if value:
                    connection.putheader(name, value)
            connection.endheaders()
            if body:
                connection.send(body)
            answer = connection.getresponse()
            made = Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()
        self._take_cookie(made)
        return made

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, value: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """As the page does it: JSON, the session's token, and the origin."""
        given = {"Content-Type": "application/json", "Origin": self.url, "X-CSRF": self.csrf or "", **(headers or {})}
        return self.request("POST", path, json.dumps({} if value is None else value).encode(), given)

    def upload(self, data: bytes, force: bool = False, headers: Mapping[str, str] | None = None) -> Answer:
        given = {"Content-Type": "application/octet-stream", "Origin": self.url, "X-CSRF": self.csrf or "", **(headers or {})}
        return self.request("POST", f"/api/ota/upload?force={int(force)}", data, given)

    def login(self, password: str = PASSWORD) -> Answer:
        answer = self.post("/api/login", {"password": password})
        if answer.status == 200:
            self.csrf = answer.json["csrf"]
        return answer

    def events(self, timeout: float = PATIENCE_S) -> EventStream:
        """An open event stream; AssertionError when there is none to be had."""
        return EventStream(self, timeout)

    def raw(self, data: bytes = b"", timeout: float = PATIENCE_S) -> socket.socket:
        """A bare connection, on which `data` has been sent."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=timeout, source_address=(self.address, 0))
        connection.sendall(data)
        return connection

    def _take_cookie(self, answer: Answer) -> None:
        cookie = answer.headers.get("set-cookie", "")
        if cookie.startswith("sid="):
            self.cookie = cookie[4:].partition(";")[0] or None


class EventStream:
    """Server-sent events, one by one: ``(event, data)``."""

    def __init__(self, client: Client, timeout: float) -> None:
        head = f"GET /api/events HTTP/1.1\r\nHost: {client.host}:{client.port}\r\nCookie: sid={client.cookie}\r\n\r\n"
        self._socket = client.raw(head.encode(), timeout)
        self._file = self._socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.headers: dict[str, str] = {}
        for line in iter(self._file.readline, b"\r\n"):
            name, _, value = line.decode().strip().partition(": ")
            self.headers[name.lower()] = value

    def __enter__(self) -> EventStream:
        assert self.status == 200, self._file.read()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        event, since = "message", time.monotonic()
        for raw in self._file:
            assert time.monotonic() - since < PATIENCE_S, "the stream has nothing but signs of life"
            line = raw.decode().rstrip("\n")
            if line.startswith("event: "):
                event = line[7:]
            elif line.startswith("data: "):
                yield event, json.loads(line[6:])
                since = time.monotonic()

    def wait_value(self, key: str, *wanted: Any, timeout: float = PATIENCE_S) -> Any:
        """Read until a value of the bus has become one of `wanted` (or anything at all)."""
        deadline = time.monotonic() + timeout
        for event, data in self:
            if event == "values" and key in data and (not wanted or data[key] in wanted):
                return data[key]
            assert time.monotonic() < deadline, f"{key} did not become {wanted}"
        raise AssertionError(f"the stream ended before {key} became {wanted}")


class WebWorld(World):
    """A world whose board has the web module and a port of its own."""

    def __init__(
        self,
        folder: Path,
        *,
        web: dict[str, Any] | None = None,
        key: keys.PrivateKey | None = None,
        **ota: Any,
    ) -> None:
        self.web = {"password": PASSWORD} if web is None else web
        self.wifi: dict[str, Any] | None = {"ssid": "sim-network", "password": "simulated"}
        super().__init__(folder, key or worlds.owner(), ota, MODULES)
        self.port = free_port()
        self.board.env["SIMULATOR_WEB_PORT"] = str(self.port)

    def profile(self, modules: tuple[str, ...] | None = None, **ota: Any) -> Profile:
        value = {**super().profile(modules, **ota).value, "web": self.web, "wifi": self.wifi}
        value = {name: section for name, section in value.items() if section is not None}
        return Profile(self.folder / "profile.json", json.dumps(value, indent=1).encode(), value)

    def client(self, login: bool = True, address: str = "127.0.0.1") -> Client:
        """A browser; logged in unless `login` is False."""
        client = Client(self.port, address=address)
        if login:
            answer = client.login()
            assert answer.status == 200, answer.body
        return client

    def memory(self) -> int:
        """Free bytes of the board's heap, after a collection."""
        since = self.type("lamp memory")
        return int(self.board.expect(r"lamp: free (\d+)", PATIENCE_S, since)[1])

    def start(self, release: worlds.Release | None = None, changes: worlds.Changes | None = None) -> worlds.Release:
        """Flash 1.0.0 (or `release`), publish it, and boot until the board serves and has nothing to do."""
        made = release or self.release("1.0.0", {**LAMP, **(changes or {})}, modules=(*MODULES, "lamp"))
        self.flash(made)
        self.offer(made)
        self.boot()
        self.board.expect("web: listening on port", PATIENCE_S)
        return made


def routes() -> list[tuple[str, str]]:
    """Every method and path of the API, as the server's own tables have them."""
    source = (ROOT / "modules" / "web" / "server.py").read_text()
    read = re.findall(r'^    "(\w+)": \w+\.\w+,$', source, re.M)
    done = re.findall(r'(?<=[ "])([\w/]+):\w+(?=[ "])', source)
    return [("GET", f"/api/{path}") for path in [*read, "prefs"]] + [("POST", f"/api/{path}") for path in done]


@pytest.fixture
def web_world(tmp_path: Path) -> Iterator[WebWorld]:
    """Not flashed yet: see WebWorld.start."""
    with WebWorld(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebWorld]:
    """One board for a whole file of tests that leave it as it was."""
    with WebWorld(tmp_path_factory.mktemp("board")) as made:
        made.start()
        yield made
