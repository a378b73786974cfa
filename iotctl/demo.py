"""The whole story on this machine: build, sign, flash, serve, boot, publish a newer release, and watch the board take it."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

from iotctl import CACHE, INSTALLED, ROOT, bundle, keys, publish, serve, tree
from iotctl import profile as profiles
from iotctl.broker import EmbeddedBroker
from iotctl.sim import AIR, claim, forward_console, free_port, open_board
from iotctl.terminal import plain
from sim.board import Board, BoardError

FOLDER = CACHE / "demo"
_PATIENCE_S = 90
_LAMP = '''"""A lamp: the demo's own module, to see that another version runs."""

from iot_platform.module import Module as Base


class Module(Base):
    name = "lamp"
    panels = {{
        "title": "Lamp",
        "values": (("lamp/on", "Light", "", "switch"), ("lamp/style", "Style", "")),
        "actions": (("toggle", "Switch it"),),
    }}
    on = False

    def start(self):
        self.platform.log("lamp: {words}")

    def telemetry(self):
        return {{"lamp/on": self.on, "lamp/style": "{words}"}}

    def on_command(self, command):
        if command.path in ("lamp/toggle", "lamp/on"):
            self.on = command.payload if command.path == "lamp/on" else not self.on
            self.platform.log("lamp:", "on" if self.on else "off")
'''
_WORDS = {"1.0.0": "blinking slowly", "1.1.0": "glowing in all colours"}


@dataclass
class Story:
    """What the demo has made so far."""

    console: Console
    key: keys.PrivateKey
    server: serve.Server
    board: Board
    broker: EmbeddedBroker
    page: str
    password: str = field(default_factory=lambda: secrets.token_urlsafe(6))
    bundles: dict[str, Path] = field(default_factory=dict)
    made: dict[str, bundle.Bundle] = field(default_factory=dict)

    def say(self, text: str) -> None:
        self.console.print(Rule(text, align="left", style="bold cyan"))

    def tell(self, who: str, line: str) -> None:
        self.console.print(Text.assemble((f"{who:>6} | ", "dim"), plain(line)), soft_wrap=True)


def run_demo(once: bool) -> int:
    """Run it. With `once`, or without a terminal, it ends when the board has confirmed 1.1.0; 1 when it has not in time."""
    once = once or not sys.stdin.isatty()
    console = Console()
    claim(FOLDER)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    story = _prepare(console)
    try:
        return _play(story, once)
    except BoardError as error:
        console.print(Text(f"The board did not get there: {plain(str(error).splitlines()[0])}", "bold red"))
        return 1
    except KeyboardInterrupt:
        console.print("power off")
        return 0
    finally:
        story.board.stop()
        story.server.close()
        story.broker.close()


def _prepare(console: Console) -> Story:
    server = serve.Server(FOLDER / "server")
    (FOLDER / "server").mkdir()
    port = free_port()
    board = open_board(FOLDER / "board.img", fs="lfs", heap=None, device_id="demo-0001", web_port=port, like="pico-w")
    key = keys.generate()
    story = Story(console, key, server, board, EmbeddedBroker(), f"http://127.0.0.1:{port}")
    server.log = lambda line: story.tell("server", line.split("] ", 1)[-1])
    board.on_line = lambda line: story.tell("board", line)
    return story


def _play(story: Story, once: bool) -> int:
    story.say("1. Build and sign 1.0.0, publish it, put it on a board's flash")
    _release(story, "1.0.0", "The first release.")
    story.server.start()
    story.broker.start()
    story.board.format()
    first = story.made["1.0.0"]
    story.board.write({**first.flashed, "prefs.json": json.dumps(AIR).encode()})
    story.say("2. Power on: the board boots 1.0.0 and asks the server")
    story.board.start()
    story.board.expect("lamp: blinking slowly", _PATIENCE_S)
    story.board.expect("up to date: running 1.0.0", _PATIENCE_S)
    story.board.expect("mqtt: connected to", _PATIENCE_S)
    story.say("3. Publish 1.1.0; the board is asked to check now instead of in an hour")
    _release(story, "1.1.0", "The lamp glows in all colours.")
    story.board.send("ota check")
    story.board.expect("lamp: glowing in all colours", _PATIENCE_S)
    story.board.expect(r"confirmed: version 1\.1\.0 stays", _PATIENCE_S)
    story.say("4. Updated")
    _sum_up(story)
    if once:
        return _check_tree(story)
    _stay(story)
    return 0


def _release(story: Story, version: str, notes: str) -> None:
    """Build a release of a project with a lamp module of its own, sign it, and publish it."""
    lamp = FOLDER / "modules" / "lamp" / "__init__.py"
    lamp.parent.mkdir(parents=True, exist_ok=True)
    lamp.write_text(_LAMP.format(words=_WORDS[version]))
    given = profiles.read_good(_profile(story))
    began = time.monotonic()
    files = tree.collect(given, version)
    options = bundle.Options(version, bundle.default_sequence(version), notes)
    made = bundle.sign(bundle.make(given, files, options), story.key)
    path = FOLDER / f"{version}.tar.gz"
    path.write_bytes(bundle.pack(made))
    publish.publish(path, FOLDER / "server", publish.Options(), story.key)
    story.made[version], story.bundles[version] = made, path
    made_of = f"{len(files)} files, bundle {path.stat().st_size} bytes"
    story.tell("iotctl", f"{version}: {made_of}, signed, published in {time.monotonic() - began:.1f} s")


def _profile(story: Story) -> Path:
    """The default profile, for this server, with this demo's key pinned."""
    value = json.loads((ROOT / "profile.json").read_text())
    value["activeModules"] += ["web", "lamp"]
    value["web"] = {"password": story.password}
    value["mqtt"] = {"host": story.broker.host, "port": story.broker.port}
    value["ota"].update(url=story.server.url, public_keys=[keys.jwk(story.key)], confirm_timeout_s=60)
    path = FOLDER / "profile.json"
    path.write_text(json.dumps(value, indent=2))
    return path


def _sum_up(story: Story) -> None:
    text = story.board.console()
    heap = [int(n) for n in re.findall(r"running: .* free memory (\d+)", text)]
    lowest = [int(n) for n in re.findall(r"lowest free memory of this update: (\d+)", text)]
    downloaded = [r for r in story.server.requests if r.path.endswith("1.1.0.tar.gz")]
    lines = [
        "1.0.0 was running, 1.1.0 was downloaded, verified, staged, committed, tried and confirmed.",
        f"Free heap (a Pico W's: {story.board.heap}) at the main loop: {heap[-1]} bytes; lowest in the update: {min(lowest)}.",
        f"Downloaded: {sum(r.sent for r in downloaded)} bytes in {len(downloaded)} request(s).",
        f"Restarts: {', '.join(story.board.restarts)}.",
    ]
    story.console.print(Panel("\n".join(lines), title="what happened", border_style="green"))


def _check_tree(story: Story) -> int:
    """The board's files are those of 1.1.0, byte by byte, and no others."""
    story.board.stop()
    found, wanted = story.board.read().without(".ota", "prefs.json", "prefs.json.1").files, story.made["1.1.0"].files
    if found != wanted:
        different = sorted(path for path in found | wanted if found.get(path) != wanted.get(path))
        story.console.print(Text(f"The board's files differ from 1.1.0: {plain(', '.join(different))}", "bold red"))
        return 1
    story.console.print(f"The board's {len(found)} files are exactly those of 1.1.0.")
    return 0


def _stay(story: Story) -> None:
    story.console.print(Panel(f"Open [bold]{story.page}[/]   password: [bold]{story.password}[/]", border_style="cyan"))
    story.console.print(
        "The board goes on running, with its page, MQTT and a lamp to switch. Type at its console and press Enter:\n"
        "  lamp/toggle     switch the lamp; the page shows it at once\n"
        "  ota status      what the updater is doing, and the version that is kept to go back to\n"
        "  ota rollback    back to 1.0.0, which is tried and confirmed like any update\n"
        "  ota force       forward again: what a board went back from it takes only when somebody says so\n"
        "  values          everything that the board publishes\n"
        "  reset           pull the reset pin\n"
        "In another terminal:\n"
        f"  {'iotctl' if INSTALLED else '.venv/bin/python -m iotctl'} watch --broker {story.broker.address}\n"
        f"  curl {story.server.url}/sim-board/stable.json\n"
        "Ctrl-C switches it off."
    )
    forward_console(story.board)
    story.board.wait()
