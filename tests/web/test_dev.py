"""iotctl dev: the page from disk, the API of a real (simulated) board, a reload in the browser after a change."""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from playwright.sync_api import expect

from iotctl import dev, tree
from tests.support.browser import Browsers
from tests.web.conftest import WebWorld


def test_serves_the_page_passes_on_the_api_and_reloads(browser: Browsers, shared: WebWorld, tmp_path: Path) -> None:
    page_folder = tmp_path / "www"
    shutil.copytree(dev.PAGE, page_folder)
    with dev.DevServer(f"127.0.0.1:{shared.port}", page=page_folder) as server:
        visitor = browser.visit(shared, url=server.url)
        visitor.log_in()
        page = visitor.page
        expect(page.locator('[data-key="version"]')).to_have_text("1.0.0")
        visitor.go("firmware")
        visitor.upload("nothing.tar.gz", bytes(200_000))
        visitor.see("#result", "Not updated.")

        page.evaluate("() => (window.same = true)")
        style = page_folder / "style.css"
        style.write_text(style.read_text() + "\nh2 { color: rgb(1, 2, 3) !important; }\n")
        expect(page.locator("#firmware-h")).to_have_css("color", "rgb(1, 2, 3)")
        assert page.evaluate("() => window.same")  # a style is only exchanged

        index = page_folder / "index.html"
        index.write_text(index.read_text().replace('tabindex="-1">Firmware</h2>', 'tabindex="-1">Hardware</h2>'))
        expect(page.locator("#firmware-h")).to_have_text("Hardware")
        visitor.wait_linked()
        assert not page.evaluate("() => window.same")
        page.goto("about:blank")


def test_says_when_no_board_answers(browser: Browsers, shared: WebWorld) -> None:
    with dev.DevServer(f"127.0.0.1:{dev.free_port()}") as server:
        visitor = browser.visit(shared, url=server.url)
        visitor.allowed = {(502, "/api/session")}
        visitor.see("#banner", "The board does not answer")
        visitor.page.goto("about:blank")


def test_the_command_starts_and_nothing_listens_beyond_this_computer() -> None:
    command = [sys.executable, "-u", "-m", "iotctl", "dev", "profile.json", "--port", "0"]
    with subprocess.Popen(command, cwd=dev.ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout
            said = iter(process.stdout.readline, "")
            page = next(found for line in said if (found := re.search(r"the page: (\S+) \(password: (\S+)\)", line)))
            board = next(found for line in said if (found := re.search(r"web: listening on port (\d+)", line)))
            with urlopen(page[1], timeout=20) as answer:
                assert b"/dev.js" in answer.read()
            for port in (urlsplit(page[1]).port, int(board[1])):
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                with pytest.raises(ConnectionRefusedError):  # what listens on all interfaces takes this one, too
                    socket.create_connection(("127.0.0.2", port), timeout=5)
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0


def test_the_simulated_board_gets_the_web_module_a_password_and_the_projects_modules(tmp_path: Path) -> None:
    given = tmp_path / "profile.json"
    (tmp_path / "modules" / "mill").mkdir(parents=True)
    (tmp_path / "modules" / "mill" / "__init__.py").write_text("")
    value = json.loads((dev.ROOT / "profile.json").read_text())
    value["activeModules"] = ["serial_log", "wifi", "ota", "mill"]
    given.write_text(json.dumps(value))
    made = dev.prepare(given)
    assert made.modules == ["serial_log", "wifi", "ota", "mill", "web"] and json.loads(made.raw) == made.value
    assert tree.sources(made)["modules/mill.py"] == tmp_path / "modules" / "mill" / "__init__.py"
    password = made.value["web"]["password"]
    assert len(password) >= 12 and dev.prepare(given).value["web"]["password"] != password
    given.write_text(json.dumps({**value, "web": {"password": "my own secret"}}))
    assert dev.prepare(given).value["web"]["password"] == "my own secret"
