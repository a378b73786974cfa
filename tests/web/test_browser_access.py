"""The page for everybody: axe-core finds nothing serious in any section, in light and in dark, wide and narrow."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.support.browser import SECTIONS, Browsers
from tests.web.conftest import WebWorld

GRAVE = ("serious", "critical")


def findings(page: Page) -> list[tuple[str, str, Any]]:
    """What axe-core finds grave: the rule, what it is about, and where."""
    page.evaluate("() => Promise.all(document.getAnimations().map((one) => one.finished.catch(() => 0)))")
    found = Axe().run(page).response["violations"]
    return [(one["id"], one["help"], [node["html"] for node in one["nodes"]]) for one in found if one["impact"] in GRAVE]


@pytest.mark.parametrize(("scheme", "width", "height"), [("light", 390, 844), ("dark", 1280, 800)])
def test_axe_finds_nothing_serious(browser: Browsers, shared: WebWorld, scheme: Any, width: int, height: int) -> None:
    visitor = browser.visit(shared, width, height, color_scheme=scheme, reduced_motion="reduce")
    page = visitor.page
    visitor.see("#login")
    assert findings(page) == []
    visitor.log_in()
    for section in SECTIONS:
        visitor.go(section)
        if section == "settings":
            page.click("#scan")
            visitor.see("#networks", "sim-network")
            page.click("#restart")
            visitor.see("dialog")
            assert findings(page) == [], "the question"
            page.click("#ask-no")
        assert findings(page) == [], section


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_a_failure(browser: Browsers, web_world: WebWorld, scheme: Any) -> None:
    web_world.start()
    visitor = browser.visit(web_world, 390, 844, color_scheme=scheme)
    visitor.log_in()
    visitor.go("firmware")
    visitor.upload("x.tar.gz", bytes(3000))
    visitor.see("#result", "Not updated.")
    assert findings(visitor.page) == []
