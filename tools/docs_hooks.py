"""For mkdocs (`make docs`): links out of docs/ lead to files of the checkout, of which a site has none: their names stay."""

from __future__ import annotations

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]*\)")


def on_page_markdown(markdown: str, **_rest: Any) -> str:
    return _OUTSIDE.sub(r"`\1`", markdown)
