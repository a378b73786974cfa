"""An event loop of a test's own: where a browser is open in the same process, one runs in the main thread already."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def run(story: Coroutine[Any, Any, Any]) -> Any:
    """asyncio.run in a thread of its own; what it raises is raised here."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, story).result()
