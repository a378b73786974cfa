"""Figures that a test has counted: printed when all tests are over, from whatever process they come."""

from __future__ import annotations

from tests.conftest import FIGURES


def note(title: str, text: str) -> None:
    """Keep a line or two under a title; the same title again replaces it."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    (FIGURES / (title.replace(" ", "-") + ".txt")).write_text(f"{title}: {text}\n")
    print(f"\n{title}: {text}")
