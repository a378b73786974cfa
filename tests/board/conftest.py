"""Fixtures of the tests on the simulated board; each has its own folder, image and port, so they run beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.scripted_server import ScriptedServer
from tests.support.world import World


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server that says exactly what a test wants."""
    with ScriptedServer() as opened:
        yield opened


@pytest.fixture
def like() -> str:
    """Whose habits the board has. A test for others says so: ``@pytest.mark.parametrize("like", ["pico-w", "esp32"])``."""
    return "pico-w"


@pytest.fixture
def world(tmp_path: Path, like: str) -> Iterator[World]:
    """Boards that pin the owner's key."""
    with World(tmp_path, like=like) as made:
        yield made


@pytest.fixture
def open_world(tmp_path: Path, like: str) -> Iterator[World]:
    """Boards without a key."""
    with World(tmp_path, key=None, like=like) as made:
        yield made
