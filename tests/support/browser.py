"""A real Chromium looking at a board's page, and everything that goes wrong in it.

    visitor = browser.visit(world)
    visitor.log_in()
    expect(visitor.page.locator("#version")).to_have_text("1.0.0")

A test fails when the page had an error in its script, broke its own Content-Security-Policy, or got an answer of 400 or above
that the test has not named in ``visitor.allowed``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, FilePayload, Page, Response, expect, sync_playwright

from tools import get_chromium

ARGS = "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync".split()
PATIENCE_MS = 60_000  # of expect(), and of every click, for what takes no time on a machine that has nothing else to do
SECTIONS = ("dashboard", "firmware", "console", "settings")
expect.set_options(timeout=PATIENCE_MS)

# Texts that come and go while nobody looks: each element's different contents, in their order
_RECORD = """
window.seen = {phase: [], banner: [], detail: [], meter: [], link: []};
addEventListener("DOMContentLoaded", () => {
  const note = () => {
    for (const id of Object.keys(window.seen)) {
      const node = document.getElementById(id);
      const list = window.seen[id];
      let text = !node || node.closest("[hidden]") ? "" : node.textContent;
      if (id === "meter" && node && !node.closest("[hidden]")) text = node.getAttribute("aria-valuenow") || "";
      if (text && list[list.length - 1] !== text) list.push(text);
    }
  };
  new MutationObserver(note).observe(document.body, {subtree: true, childList: true, attributes: true, characterData: true});
});
"""


class Served(Protocol):
    """Who serves a page on a port of this machine, and what opens it."""

    port: int
    web: dict[str, Any]  # "password"


@dataclass
class Visitor:
    """One browser window with its own cookies."""

    page: Page
    url: str
    password: str
    allowed: set[tuple[int, str]] = field(default_factory=set)  # answers that the test expects: (status, path)
    problems: list[str] = field(default_factory=list)
    answers: list[tuple[int, str]] = field(default_factory=list)

    def log_in(self, password: str | None = None) -> None:
        self.page.fill("#password", password or self.password)
        self.page.press("#password", "Enter")
        self.wait_linked()

    def wait_linked(self) -> None:
        expect(self.page.locator("#link.live")).to_be_visible()

    def go(self, section: str) -> None:
        self.page.locator(f'nav a[href="#/{section}"]').click()
        expect(self.page.locator(f"#{section}")).to_be_visible()

    def see(self, selector: str, text: str | None = None) -> None:
        """Wait until the element is visible, and has `text` in it."""
        found = self.page.locator(selector)
        expect(found).to_be_visible()
        if text is not None:
            expect(found).to_contain_text(text)

    def upload(self, name: str, data: bytes) -> None:
        """Choose a file on the firmware page, and send it."""
        self.page.set_input_files("#file", files=[FilePayload(name=name, mimeType="application/gzip", buffer=data)])
        expect(self.page.locator("#file-name")).to_contain_text(name)
        self.page.locator("#upload-form button").click()

    def seen(self) -> dict[str, list[str]]:
        """What some elements have shown since the page was loaded."""
        found: dict[str, list[str]] = self.page.evaluate("() => window.seen")
        return found

    def check(self) -> None:
        """Nothing went wrong but what the test has allowed."""
        bad = {(status, path) for status, path in self.answers if status >= 400} - self.allowed
        assert not bad, f"the page got {sorted(bad)}"
        assert not self.problems, self.problems

    def listen(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.problems.append(f"error in the script: {error}"))
        self.page.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        # Chromium reports each failed request as well; those are in `answers`, and a board that restarts is no error
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            self.problems.append(f"{message.type} on the console: {message.text}")

    def _response(self, response: Response) -> None:
        self.answers.append((response.status, urlsplit(response.url).path))


@dataclass
class Browsers:
    """Opens windows, and closes and checks them when the test is over."""

    chromium: Browser
    visitors: list[Visitor] = field(default_factory=list)

    def visit(self, world: Served, width: int = 1280, height: int = 800, url: str | None = None, **context: Any) -> Visitor:
        """The page of a world's board, or another one, in a window of its own."""
        made: BrowserContext = self.chromium.new_context(viewport={"width": width, "height": height}, **context)
        made.set_default_timeout(PATIENCE_MS)
        made.add_init_script(_RECORD)
        page = made.new_page()
        visitor = Visitor(page, url or f"http://127.0.0.1:{world.port}/", world.web["password"])
        visitor.listen()
        self.visitors.append(visitor)
        page.goto(visitor.url)
        return visitor

    def close(self, check: bool = True) -> None:
        try:
            for visitor in self.visitors if check else ():
                visitor.check()
        finally:
            for visitor in self.visitors:
                visitor.page.context.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser process for all tests of this worker."""
    path = get_chromium.find()
    assert path, "there is no Chromium: run tools/get_chromium.py"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=ARGS)
        yield started
        started.close()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browsers]:
    """New windows; what went wrong in them fails the test."""
    made = Browsers(chromium)
    try:
        yield made
    finally:
        made.close()
