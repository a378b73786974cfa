"""Bar charts as SVG, for light and dark pages: text and axes follow the colour scheme, bars have colours of their own."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

_WIDTH = 720
_LEFT = 210  # room for the names
_RIGHT = 96  # and for the values
_BAR = 20
_GAP = 10
_TOP = 58
_COLOURS = {"ours": "#2f9e77", "own": "#4c82c4", "peer": "#9a9a9a"}
_STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #24292f; }
  .title { font-size: 16px; font-weight: 600; }
  .note { font-size: 12px; fill: #57606a; }
  .value { font-variant-numeric: tabular-nums; }
  .axis { stroke: #8c959f; stroke-opacity: 0.35; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .note { fill: #9aa4af; }
  }
"""


@dataclass(frozen=True)
class Bar:
    """One bar. `kind`: ``ours`` for what is recommended, ``own`` for our other figures, ``peer`` for others' updaters."""

    name: str
    value: float
    kind: str = "peer"


def bars(title: str, note: str, values: list[Bar], unit: str) -> str:
    """A horizontal bar chart, linear from 0, with the value written at the end of each bar."""
    top = max(bar.value for bar in values)
    room = _WIDTH - _LEFT - _RIGHT
    height = _TOP + len(values) * (_BAR + _GAP) + 14
    parts = [_head(title, note, height)]
    parts.append(f'<line class="axis" x1="{_LEFT}" y1="{_TOP - 6}" x2="{_LEFT}" y2="{height - 12}"/>')
    for n, bar in enumerate(values):
        y = _TOP + n * (_BAR + _GAP)
        width = max(1.5, bar.value / top * room)
        middle = y + _BAR * 0.72
        parts.append(f'<text x="{_LEFT - 10}" y="{middle:.1f}" text-anchor="end">{escape(bar.name)}</text>')
        parts.append(f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="3" fill="{_COLOURS[bar.kind]}"/>')
        parts.append(f'<text class="value" x="{_LEFT + width + 8:.1f}" y="{middle:.1f}">{bar.value:,.0f} {unit}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _head(title: str, note: str, height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img" '
        f'aria-label="{escape(title)}">\n<style>{_STYLE}</style>\n'
        f'<text class="title" x="12" y="24">{escape(title)}</text>\n<text class="note" x="12" y="44">{escape(note)}</text>'
    )
