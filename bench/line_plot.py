"""Renders a line plot as SVG: a title, two axes with a few numbers, and a labelled line for each series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760, 320, 60, 80, 40, 45
_COLORS = ("#b0413e", "#28587b", "#548687", "#8c6a00")
_TICKS = 5
Point = tuple[float, float]


def render(title: str, x_label: str, y_label: str, lines: Mapping[str, Sequence[Point]]) -> str:
    """The SVG document of (x, y) points by name; both axes begin at 0."""
    most_x = max(x for points in lines.values() for x, _ in points) or 1
    most_y = max(y for points in lines.values() for _, y in points) * 1.1 or 1
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(point: Point) -> Point:
        return _LEFT + point[0] / most_x * wide, _TOP + high - point[1] / most_y * high

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_LEFT, 22, title, 'font-size="14" font-weight="bold"'),
    ]
    for number in range(_TICKS + 1):
        x, y = most_x * number / _TICKS, most_y * number / _TICKS
        left, bottom = at((x, y))
        parts += [
            f'<line x1="{_LEFT}" y1="{bottom:.1f}" x2="{_LEFT + wide}" y2="{bottom:.1f}" stroke="#ddd"/>',
            _text(_LEFT - 6, bottom + 4, f"{y:.0f}", 'text-anchor="end"'),
            _text(left, _HEIGHT - _BOTTOM + 16, f"{x:.0f}", 'text-anchor="middle"'),
        ]
    parts += [
        _text(_LEFT + wide / 2, _HEIGHT - 8, x_label, 'text-anchor="middle"'),
        _text(14, _TOP + high / 2, y_label, f'text-anchor="middle" transform="rotate(-90 14 {_TOP + high / 2})"'),
    ]
    for (name, points), color in zip(lines.items(), _COLORS, strict=False):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, points))
        right, level = at(points[-1])
        parts += [
            f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>',
            _text(right + 6, level + 4, name, f'fill="{color}"'),
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, attributes: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{escape(text)}</text>'
