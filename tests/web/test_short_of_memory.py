"""Too little memory for the server, by its sum or in one place: one short answer for whoever asks, and all once there is some."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

from playwright.sync_api import expect

from iotctl import ROOT
from sim.ports import PORTS
from tests.support.browser import Browsers
from tests.support.world import PATIENCE_S
from tests.web.conftest import LAMP, MODULES, Client, WebWorld

_HOG = b'''
import gc
import os

from iot_platform.module import Module as Base

class Module(Base):
    """Fills the heap with pieces of a size, and then gives back every other one.

    Or, with more than a thousand, fills it but for so many bytes; with 0 but for 16000, and keeps it filled.
    """

    name = "hog"
    kept = ()
    full = ticks = asked = 0
    online = False

    def start(self):
        if "hog" in os.listdir("/"):
            self.fill(0)

    def on_command(self, command):
        if command.path != "hog":
            return
        if command.payload == "restart":
            open("/hog", "w").close()
            self.platform.request_reset("hog")
        elif command.payload == "free":
            self.free()
        else:
            self.asked = int(command.payload)
            self.ticks = 5  # until the console has given back what it took for the command

    def on_telemetry(self, values):
        """The network goes: a sign that needs no memory. That it is not there yet, after a start, is none."""
        online, self.online = self.online, values.get("wifi/connected", self.online)
        if online and not self.online:
            self.free()

    def free(self):
        self.kept = ()
        self.full = 0
        self.platform.log("hogs none")

    def tick(self):
        if self.ticks:
            self.ticks -= 1
            if not self.ticks:
                self.fill(self.asked)
        try:
            while self.full and self.platform.board.mem_free() > self.full:
                self.kept.append(bytearray(200))
        except MemoryError:  # what is free is in pieces
            pass

    def fill(self, size):
        gc.collect()
        self.full = size if size > 1000 else 0 if size else 16000
        self.kept = []
        self.tick()
        self.full = 0 if size else self.full
        try:
            while 0 < size <= 1000:
                self.kept.append(bytearray(size))
        except MemoryError:
            for n in range(0, len(self.kept), 2):
                self.kept[n] = None
        gc.collect()
        self.platform.log("hogs", len(self.kept), "free", self.platform.board.mem_free())
'''


_SHOWN = ("/api/session", "/api/status", "/api/panels", "/api/values", "/api/log?after=-1", "/api/wifi")


def hog_world(world: WebWorld) -> WebWorld:
    world.start(world.release("1.0.0", {**LAMP, "modules/hog/__init__.py": _HOG}, modules=(*MODULES, "lamp", "hog")))
    return world


def hog(world: WebWorld, size: int) -> int:
    """Fill the board's heap; what is free then."""
    return int(world.board.expect(r"hogs \d+ free (\d+)", PATIENCE_S, world.type(f"hog {size}"))[1])


def test_a_heap_in_pieces_is_no_reason_to_say_nothing(web_world: WebWorld) -> None:
    web_world.board.port, web_world.board.heap = PORTS["unix"], "192k"  # which the sizes of the pieces are made for
    world = hog_world(web_world)
    assert hog(world, 220) > 30_000, "more than the server takes"
    assert _asked(world) == {(503, "no_memory")}
    since = world.now()
    world.board.wifi = "off"  # the console has no memory to be told
    world.board.expect("hogs none", PATIENCE_S, since)
    world.board.wifi = "ok"
    _wait_served(world.client(login=False))  # now the board knows the server's names: a table for more of them is one large piece
    _wait_forgotten(world)
    assert hog(world, 600) > 40_000
    _wait_served(world.client(login=False))
    assert _asked(world) == {(200, None)}


def test_no_answer_of_the_page_needs_a_long_piece_of_memory(web_world: WebWorld) -> None:
    """Beside an update there were some KB free, the longest piece of them 300 bytes: how the board is was 900 bytes of text."""
    world = hog_world(web_world)
    client = world.client()
    for path in _SHOWN:
        assert client.get(path).status == 200
    assert hog(world, 420) > 12_000
    assert {path: client.get(path).status for path in _SHOWN} == dict.fromkeys(_SHOWN, 200)
    assert client.get("/api/status").json["ota"]["state"] == "up_to_date"
    assert [panel["id"] for panel in client.get("/api/panels").json][:1] == ["lamp"]
    assert "no_memory" not in world.board.console()


def _asked(world: WebWorld) -> set[tuple[int, str | None]]:
    client = world.client(login=False)
    answers = [client.get("/api/session") for _ in range(20)]
    assert {client.get("/").status for _ in range(5)} == {answers[0].status}
    return {(answer.status, answer.json.get("error")) for answer in answers}


def _wait_served(client: Client) -> None:
    """The board looks again within some seconds whether there is memory."""
    deadline = time.monotonic() + PATIENCE_S
    while client.get("/api/session").status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _wait_forgotten(world: WebWorld) -> None:
    """Until the server's code has gone: some time after the last browser."""
    before, deadline = world.memory(), time.monotonic() + PATIENCE_S
    while world.memory() < before + 8_000:
        assert time.monotonic() < deadline
        time.sleep(0.5)


_FULL = b"""
import sys
import modules.web.server
import modules.ota.module
from iot_platform.module import forget
rest, holes, n = (), [None] * 16, 0
try:
    while True:
        piece, n = bytearray(60), n + 1
        if n % 50 or n >= 800:
            rest = (piece, rest)
        else:
            holes[n // 50] = piece
except MemoryError:
    holes = piece = None
try:
    forget("modules.web", ())
except MemoryError:
    pass
rest = None
print("LEFT", [name for name in sys.modules if name.startswith("modules.web.")])
"""


def test_code_that_is_not_needed_goes_even_where_there_is_no_memory_at_all(tmp_path: Path) -> None:
    """A list of all modules was wanted for that: the server's code stayed for ever, and every browser was sent away."""
    with WebWorld(tmp_path) as world:
        world.flash(world.release("1.0.0"), {"main.py": _FULL})
        output = world.board.boot_once().output
    assert "LEFT []" in output, output


def test_an_update_that_was_accepted_is_done_however_little_memory_there_is(web_world: WebWorld) -> None:
    """Not even the note for the update boot could be written: it was lost, and so was the update."""
    world = hog_world(web_world)
    new = world.release("1.1.0", {**LAMP, "modules/hog/__init__.py": _HOG}, modules=(*MODULES, "lamp", "hog"))
    world.offer(new)
    world.client()
    since = world.now()
    hog(world, 12_000)  # with 7 KB and a request that is not over yet, one note in ten has no place: that is told, as no_memory
    world.type("ota update")
    world.board.expect("restarting: an update boot", PATIENCE_S, since)
    world.wait_confirmed(new, since)


def test_the_server_leaves_an_update_what_that_asks_for() -> None:
    """One number is the web module's, the other one the updater's: neither imports the other."""
    job = (ROOT / "modules" / "ota" / "job.py").read_text()
    updates = (ROOT / "modules" / "ota" / "updates.py").read_text()
    module = (ROOT / "modules" / "web" / "__init__.py").read_text()
    peak = re.search(r"^PEAK = (\d+) \* 1024 ", job, re.M)
    more = re.search(r"^_OBTAIN = PEAK \+ (\d+) \* 1024 ", updates, re.M)
    left = re.search(r"^_JOB = const\((\d+)_000\) ", module, re.M)
    assert peak and more and left and 0 <= int(left[1]) * 1000 - (int(peak[1]) + int(more[1])) * 1024 < 4_000
    phases = (ROOT / "modules" / "ota" / "phases.py").read_text()
    plenty = re.search(r"^_PLENTY = const\((\d+) \* 1024\) ", phases, re.M)
    assert plenty and int(plenty[1]) >= int(peak[1]) + int(more[1]), "else no code is forgotten where an update asks for more"


def test_the_short_answer_says_when_to_come_again(web_world: WebWorld) -> None:
    world = hog_world(web_world)
    hog(world, 0)
    client = world.client(login=False)
    for answer in (client.get("/api/status"), client.post("/api/login", {"password": "x" * 600}), client.upload(b"x" * 900)):
        assert (answer.status, answer.json["error"]) == (503, "no_memory") and answer.json["message"]
        assert int(answer.headers["retry-after"]) > 0 and answer.headers["cache-control"] == "no-store"
    page = client.get("/")
    assert page.status == 503 and page.headers["content-type"] == "text/html" and b'http-equiv="refresh"' in page.body
    assert "Traceback" not in world.board.console()


def test_who_says_nothing_keeps_nobody_waiting_and_the_loop_goes_on(web_world: WebWorld) -> None:
    """Silent ones, halves, and more at once than the board takes: all of them while there is no memory."""
    world = hog_world(web_world)
    hog(world, 0)
    client = world.client(login=False)
    with contextlib.ExitStack() as stack:
        for n in range(30):
            stack.enter_context(client.raw(b"GET /api/sess" if n % 3 == 0 else b""))
        assert client.get("/api/session").status == 503
        with contextlib.suppress(ConnectionResetError):  # the board does not read all of it
            assert client.request("POST", "/api/x", b"x" * 100_000).status == 503
    before = world.memory()
    assert {client.get("/").status for _ in range(40)} == {503}
    assert world.memory() > before - 1_000
    world.board.expect("hogs none", PATIENCE_S, world.type("hog free"))
    _wait_served(client)


def test_the_page_comes_by_itself_once_there_is_memory(browser: Browsers, web_world: WebWorld) -> None:
    world = hog_world(web_world)
    hog(world, 0)
    visitor = browser.visit(world)
    visitor.allowed = {(503, "/")}
    expect(visitor.page.locator("p")).to_contain_text("short of memory")
    world.type("hog free")
    visitor.log_in()


def test_an_open_page_waits_for_a_board_that_is_gone_and_then_short_of_memory(browser: Browsers, web_world: WebWorld) -> None:
    """As in an update: no answer at all for a while, then 503, then everything, without a click or another login."""
    world = hog_world(web_world)
    visitor = browser.visit(world)
    visitor.log_in()
    visitor.allowed = {(503, "/api/session"), (503, "/api/status"), (503, "/api/panels"), (503, "/api/events")}
    banner, since = visitor.page.locator("#banner"), world.now()
    world.type("hog restart")
    world.board.expect("hogs", PATIENCE_S, since)
    expect(banner).to_contain_text("short of memory")
    world.type("hog free")
    visitor.wait_linked()
    expect(banner).to_be_hidden()
    world.board.stop()
    expect(banner).to_contain_text("does not answer")
    visitor.page.wait_for_timeout(20_000)  # longer than any pause between two attempts
    world.board.start()
    expect(banner).to_contain_text("short of memory")  # the file is still there
    world.type("hog free")
    expect(visitor.page.locator("#login")).to_be_visible()  # a power cut has ended the session
    visitor.log_in()
