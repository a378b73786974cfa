"""Pictures of the web page and of the dashboard for docs/images, taken in Chromium.

    .venv/bin/python tools/screenshots.py            # the page
    .venv/bin/python tools/screenshots.py demo guide

Each section at 390 and 1280 pixels, in light and dark: `dashboard-390-light.png` and so on, and `progress-...`: the firmware
page in the middle of a download. And `fleet-...`, `board-...`: the dashboard and a board's page there, over boards that only
speak as boards do. Roboto is used for the page's system font where it is installed, as phones have it.
`demo`: how `make demo` ends in a terminal. `guide`: the first page of the site that `make docs` has made.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from playwright.sync_api import expect, sync_playwright  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.terminal_theme import MONOKAI  # noqa: E402
from rich.text import Text  # noqa: E402

from iotctl import bundle, keys, publish  # noqa: E402
from iotctl.profile import Profile  # noqa: E402
from modules.ota.release import policy  # noqa: E402
from tests.support.broker import Broker, Observer  # noqa: E402
from tests.support.browser import ARGS, SECTIONS, Browsers, Visitor  # noqa: E402
from tests.support.world import Slowly, owner  # noqa: E402
from tests.web.conftest import MODULES, WebWorld  # noqa: E402
from tests.web.test_dashboard import Dashboard  # noqa: E402
from tools import get_chromium, png  # noqa: E402

TARGET = ROOT / "docs" / "images"
SIZES = ((390, 844), (1280, 800))
SCHEMES = ("light", "dark")
MOST_BYTES = 1_500_000
NOTES = "Waters at dusk instead of at noon.\nThe pump tells how much it has moved."
FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><include>/etc/fonts/fonts.conf</include>%s</fontconfig>"""
RULE = """
<match target="pattern"><test qual="any" name="family"><string>%s</string></test>
<edit name="family" mode="prepend" binding="strong"><string>Roboto</string></edit></match>"""
GREENHOUSE = """
from iot_platform.module import Module as Base

class Module(Base):
    name = "greenhouse"
    panels = (
        {"title": "Greenhouse", "values": (("air", "Temperature", "°C"), ("damp", "Humidity", "%"), ("soil", "Soil", "%"),
         ("aim", "Keep it at", "°C", "number", 5, 30), ("when", "Water", "", "select", "at noon", "at dusk")),
         "actions": (("water", "Water now", "Open the valve for a minute?"), ("vent", "Open the vents"))},
        {"id": "pump", "title": "Pump",
         "values": (("pump", "Runs", "", "switch"), ("flow", "Flow", "L/min"), ("last", "Last run", "")),
         "actions": (("toggle", "Toggle"),), "settings": (("pump.most_min", "Longest run", "min", "number", 1, 60),)},
    )

    def start(self):
        self.platform.log("greenhouse: 3 sensors, valve closed")

    def telemetry(self):
        return {"air": 21.4, "damp": 61, "soil": 38, "pump": True, "flow": 3.2, "last": "06:30, 4 minutes", "aim": 20,
                "when": "at dusk"}
""".encode()


@contextmanager
def board(folder: Path) -> Iterator[WebWorld]:
    """A greenhouse that runs 1.4.0, with 1.5.0 on its server."""
    modules = (*MODULES, "greenhouse")
    changes = {"modules/greenhouse/__init__.py": GREENHOUSE}
    with WebWorld(folder) as world:
        world.ota = {"auto_install": False, "keep_previous": True}
        world.start(world.release("1.4.0", changes, modules=modules))
        table = random.Random(1).randbytes(64 * 1024)  # something to be fetched: of what is there already, nothing is
        world.offer(world.release("1.5.0", {**changes, "modules/greenhouse/soil.bin": table}, modules=modules, notes=NOTES))
        yield world


# -- the dashboard

NAMES = (
    "North bed",
    "South bed",
    "Tomatoes",
    "Herbs",
    "Cold frame",
    "Orchard",
    "Nursery",
    "Pond",
    "Roof",
    "Cellar",
    "Gate",
    "Yard",
)
LINES = (
    "[    0.412] I running: wifi, ota, web, mqtt, greenhouse free memory 71 216",
    "[    1.930] I wifi: connected to garden as 192.168.1.37",
    "[    2.104] I mqtt: connected to broker.local",
    "[    3.377] I greenhouse: 3 sensors, valve closed",
    "[ 3721.008] I ota: channel stable has 1.5.0 (sequence 1005000), running 1.4.0",
    "[ 3721.951] I ota: 9 of 61 files differ, 31 KB to fetch",
    "[ 3725.420] W greenhouse: the soil sensor of bed 2 does not answer",
    "[ 3731.664] I ota: 42 %",
)


class Fleet:
    """A site of greenhouses that 1.5.0 has come to half of, their broker, and the dashboard over both."""

    def __init__(self, folder: Path, broker: Broker, seen: Observer) -> None:
        self.site, self.folder, self.seen = folder / "site", folder, seen
        keys.write_private(owner(), folder / "owner.pem", None)
        for version in ("1.4.0", "1.5.0"):
            value = {"shortName": "greenhouse", "activeModules": ["ota"], "ota": {"public_keys": [keys.jwk(owner())]}}
            profile = Profile(Path("profile.json"), json.dumps(value).encode(), value)
            files = {"profile.json": profile.raw, "version": version.encode(), "main.py": b"import iot_platform"}
            made = bundle.sign(bundle.make(profile, files, bundle.Options(version, bundle.default_sequence(version))), owner())
            (folder / f"{version}.tar.gz").write_bytes(bundle.pack(made))
        publish.publish(folder / "1.4.0.tar.gz", self.site, publish.Options(), owner())
        boards = [(f"greenhouse/{n * 7919 % 65536:04x}", name) for n, name in enumerate(NAMES * 4, 1)]
        entry = '[[board]]\nid = "{}"\nname = "{} {}"\ngroup = "{}"\n'
        groups = ("garden", "field", "roof")
        register = [entry.format(board, name, n // 12 + 1, groups[n % 3]) for n, (board, name) in enumerate(boards)]
        (folder / "fleet.toml").write_text("".join(register) + entry.format("pump/1", "Pump", 1, "field"))
        self.names = [board for board, _name in boards]
        self.dashboard = Dashboard(self, broker, folder / "owner.pem", folder / "fleet.toml")  # type: ignore[arg-type]

    def say(self, name: str, **values: object) -> None:
        for key, value in values.items():
            self.seen.publish(f"{name}/status/{key.replace('__', '/')}", str(value), retain=True)

    def run(self, visitor: Visitor) -> None:
        """Up to the second step, in which some are at work, one has failed, and one is away."""
        page, rnd = visitor.page, random.Random(4)
        for name in self.names:
            self.say(name, online="true", version="1.4.0", ota__status="up_to_date", ota__channel="stable", uptime_s=3731)
            self.say(
                name, rssi=-rnd.randrange(45, 84), freeram=rnd.randrange(60_000, 90_000), freedisk=411_000, ip="192.168.1.37"
            )
        expect(page.locator('[data-show="online"] strong')).to_have_text(str(len(self.names)))
        page.click("#open-publish")
        page.set_input_files("#file", self.folder / "1.5.0.tar.gz")
        page.fill("#plan-steps", "10,50,100")
        page.fill("#soak", "1s")
        page.fill("#failures", "10")
        page.click("#publish-yes")
        done: set[str] = set()
        for percent in (10, 50):
            led: dict[str, Any] = {"rollout": {}}
            while led["rollout"].get("percent") != percent:
                page.wait_for_timeout(100)
                led = json.loads((self.site / "greenhouse" / "stable.json").read_bytes().split(b"\n")[0])
            reached = [name for name in self.names if policy.rollout_allows(led, name.partition("/")[2])]
            new = [name for name in reached if name not in done]
            late = new[-6:] if percent == 50 else []
            for name in new:
                if name not in late:
                    self.say(name, version="1.5.0", ota__status="confirmed")
                    done.add(name)
        for name, progress in zip(late, (8, 42, 77, 91), strict=False):
            self.say(name, ota__status="downloading", ota__available="1.5.0", ota__progress=progress)
        self.say(
            late[4], ota__status="rolled_back", ota__error="module_failed", ota__message="module greenhouse failed at its start"
        )
        others = [name for name in self.names if name not in reached]
        self.say(others[0], online="false")
        self.say(others[1], restart__waiting_for="greenhouse: the valve is open")
        page.select_option("#order", "state")
        visitor.see("#rollout-text", "1 failed")
        self.shown = late[1]


def take_fleet(browsers: Browsers, folder: Path) -> None:
    with Broker(folder / "broker") as broker, Observer(broker) as seen:
        fleet = Fleet(folder, broker, seen)
        try:
            visitors = {}
            for width, height in ((390, 844), (1280, 1080)):
                for scheme in SCHEMES:
                    visitor = visitors[f"{width}-{scheme}"] = browsers.visit(fleet.dashboard, width, height, color_scheme=scheme)
                    visitor.log_in()
            fleet.run(next(iter(visitors.values())))
            for kind, visitor in visitors.items():
                visitor.page.select_option("#order", "state")
                expect(visitor.page.locator("#rows tr").first).to_contain_text("module_failed")
                take(visitor, f"fleet-{kind}")
                visitor.page.goto(f"{visitor.url}#/board/{fleet.shown.replace('/', '%2F')}")
                visitor.page.click("#listen")
            for n, line in enumerate(LINES):
                seen.publish(f"{fleet.shown}/log", f"{n} {line}")
            for kind, visitor in visitors.items():
                visitor.see("#log", LINES[-1])
                take(visitor, f"board-{kind}")
        finally:
            fleet.dashboard.close()


def take(visitor: Visitor, name: str, wait_ms: int = 300) -> None:
    visitor.page.wait_for_timeout(wait_ms)  # what is animated has come to rest
    (TARGET / f"{name}.png").write_bytes(visitor.page.screenshot())


def take_all(world: WebWorld, browsers: Browsers) -> None:
    """Each section in one window of each kind, then a download as all of them see it."""
    visitors = {}
    for width, height in SIZES:
        for scheme in SCHEMES:
            visitor = browsers.visit(world, width, height, color_scheme=scheme)
            visitor.log_in()
            visitor.go("firmware")
            visitors[f"{width}-{scheme}"] = visitor
    first = next(iter(visitors.values()))
    first.page.wait_for_timeout(15_000)  # for the plots
    first.page.click("#check")
    for kind, visitor in visitors.items():
        visitor.see("#new-version", "Version 1.5.0 is available")
        for section in ("dashboard", "console", "settings", "firmware"):
            visitor.go(section)
            if section == "settings":
                visitor.page.click("#scan")
                visitor.see("#networks", "sim-network")
                visitor.page.locator("#settings-h").focus()
            take(visitor, f"{section}-{kind}")
    world.server.trick = Slowly(20.0)
    first.page.click("#update")
    for kind, visitor in visitors.items():
        expect(visitor.page.locator("#detail")).to_contain_text("left")
        take(visitor, f"progress-{kind}", 0)


def demo_end() -> str:
    """What a terminal of 110 columns shows at the end of `make demo`, as HTML."""
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (40, 110))
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "110"}
    command = [sys.executable, "-m", "iotctl", "demo"]
    said = b""
    with subprocess.Popen(command, cwd=ROOT, env=env, stdin=slave, stdout=slave, stderr=slave) as process:
        while b"Ctrl-C switches it off" not in said:
            said += os.read(master, 4096)
        process.send_signal(signal.SIGINT)
    text = said.decode().replace("\r", "")
    console = Console(record=True, width=110, file=io.StringIO())
    console.print(Text.from_ansi("$ make demo\n...\n" + text[text.index("Updated") :].partition("\n")[2]))
    return console.export_html(inline_styles=True, theme=MONOKAI)


def take_more(pieces: list[str], program: str) -> None:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=ARGS)
        for piece in pieces:
            width, height = (1000, 200) if piece == "demo" else SIZES[1]
            page = chromium.new_page(viewport={"width": width, "height": height})
            if piece == "demo":
                page.set_content(demo_end())
            else:
                page.goto((ROOT / ".build" / "site" / "index.html").as_uri())
            page.wait_for_timeout(500)
            (TARGET / f"{piece}.png").write_bytes(png.shrink(page.screenshot(full_page=piece == "demo")))
        chromium.close()


def main() -> int:
    program = get_chromium.find()
    if not program:
        print("there is no Chromium: run tools/get_chromium.py", file=sys.stderr)
        return 1
    TARGET.mkdir(parents=True, exist_ok=True)
    if sys.argv[1:]:
        take_more(sys.argv[1:], program)
        return 0
    with tempfile.TemporaryDirectory() as name:
        fonts = Path(name) / "fonts.conf"
        fonts.write_text(FONTS % "".join(RULE % family for family in ("system-ui", "sans", "sans-serif")))
        os.environ["FONTCONFIG_FILE"] = str(fonts)
        with sync_playwright() as playwright, board(Path(name) / "board") as world:
            browsers = Browsers(playwright.chromium.launch(executable_path=program, args=ARGS))
            take_all(world, browsers)
            take_fleet(browsers, Path(name))
            browsers.close()
            browsers.chromium.close()
    kinds = [f"{width}-{scheme}.png" for width, _height in SIZES for scheme in SCHEMES]
    names = [TARGET / f"{section}-{kind}" for section in (*SECTIONS, "progress", "fleet", "board") for kind in kinds]
    for path in names:
        path.write_bytes(png.shrink(path.read_bytes()))
    total = sum(path.stat().st_size for path in names)
    print(f"{len(names)} pictures, {total} bytes, in {TARGET.relative_to(ROOT)}/")
    return 0 if total <= MOST_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
