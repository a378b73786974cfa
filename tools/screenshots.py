"""Pictures of the web page for docs/images, taken in Chromium on a simulated board.

    .venv/bin/python tools/screenshots.py            # the page
    .venv/bin/python tools/screenshots.py demo guide

Each section at 390 and 1280 pixels, in light and dark: `dashboard-390-light.png` and so on, and `progress-...`: the firmware
page in the middle of a download. Roboto is used for the page's system font where it is installed, as phones have it.
`demo`: how `make demo` ends in a terminal. `guide`: the first page of the site that `make docs` has made.
"""

from __future__ import annotations

import io
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

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "platform")]

from playwright.sync_api import expect, sync_playwright  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.terminal_theme import MONOKAI  # noqa: E402
from rich.text import Text  # noqa: E402

from tests.support.browser import ARGS, SECTIONS, Browsers, Visitor  # noqa: E402
from tests.support.world import Slowly  # noqa: E402
from tests.web.conftest import MODULES, WebWorld  # noqa: E402
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
        {"title": "Greenhouse", "values": (("air", "Temperature", "°C"), ("damp", "Humidity", "%"), ("soil", "Soil", "%")),
         "actions": (("water", "Water now", "Open the valve for a minute?"), ("vent", "Open the vents"))},
        {"id": "pump", "title": "Pump", "values": (("pump", "State", ""), ("flow", "Flow", "l/min"), ("last", "Last run", "")),
         "actions": (("toggle", "Toggle"),)},
    )

    def start(self):
        self.platform.log("greenhouse: 3 sensors, valve closed")

    def telemetry(self):
        return {"air": 21.4, "damp": 61, "soil": 38, "pump": True, "flow": 3.2, "last": "06:30, 4 minutes"}
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
            browsers.close()
            browsers.chromium.close()
    kinds = [f"{width}-{scheme}.png" for width, _height in SIZES for scheme in SCHEMES]
    names = [TARGET / f"{section}-{kind}" for section in (*SECTIONS, "progress") for kind in kinds]
    for path in names:
        path.write_bytes(png.shrink(path.read_bytes()))
    total = sum(path.stat().st_size for path in names)
    print(f"{len(names)} pictures, {total} bytes, in {TARGET.relative_to(ROOT)}/")
    return 0 if total <= MOST_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
