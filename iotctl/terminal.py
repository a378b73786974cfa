"""The one place that writes to a terminal. What boards, bundles and requests say gets there as text, never as commands or markup.

What has no picture of its own (control characters, what turns the direction of writing around, halves of surrogate pairs) is
shown as its escape: ``\\x1b``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable

import typer
from rich.table import Table
from rich.text import Text

LISTENS = "web: listening on port"  # what a board says when its page can be had


def plain(text: object) -> str:
    """`text` as one line that only shows something."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def say(line: object, err: bool = False) -> None:
    """Print one line."""
    _echo(plain(line), err)


def say_json(value: object) -> None:
    """Print JSON, for programs."""
    _echo(json.dumps(value).replace("\x7f", "\\u007f"))  # all else that is no picture json escapes itself


def _echo(text: str, err: bool = False) -> None:
    try:
        typer.echo(text, err=err)
    except BrokenPipeError:  # of `| head`, which has read enough: an end without a word, as rich's
        os.dup2(os.open(os.devnull, os.O_WRONLY), (sys.stderr if err else sys.stdout).fileno())
        raise SystemExit(1) from None


def table(title: str | None, columns: Iterable[str], rows: Iterable[tuple[Iterable[object], str]]) -> Table:
    """A table of rows, each its cells and a style."""
    made = Table(*columns, box=None, header_style="bold", pad_edge=False, title=None if title is None else Text(plain(title)))
    for cells, style in rows:
        made.add_row(*(Text(plain(cell)) for cell in cells), style=style)
    return made
