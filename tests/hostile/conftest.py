"""What tests of hostile servers share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.scripted_server import ScriptedServer
from tests.support.site import Site


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as opened:
        yield opened


@pytest.fixture
def site(tmp_path: Path, server: ScriptedServer) -> Iterator[Site]:
    made = Site(tmp_path, server, 0)
    yield made
    made.board.stop()
