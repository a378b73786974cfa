"""What tests of hostile servers share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.bad_server import BadServer
from tests.hostile.site import Site


@pytest.fixture
def server() -> Iterator[BadServer]:
    with BadServer() as opened:
        yield opened


@pytest.fixture
def site(tmp_path: Path, server: BadServer) -> Iterator[Site]:
    made = Site(tmp_path, server, 0)
    yield made
    made.board.stop()
