"""The benchmark's figures as a picture: two panels of lines over the number of streams."""

from collections.abc import Mapping
from itertools import pairwise
from math import log10

Lines = Mapping[str, Mapping[int, float]]
"""For each target, a value for each number of streams."""

_WIDTH, _HEIGHT, _MARGIN = 380, 240, 50
_COLOURS = ("#0b6e99", "#b4661e")


def draw(costs: Lines, delays: Lines) -> str:
    """SVG, readable on light and dark pages."""
    panels = _panel("CPU of a chunk, µs", costs, 0) + _panel(
        "99 % of chunks arrive within, ms", delays, _WIDTH + _MARGIN
    )
    width, height = 2 * (_WIDTH + _MARGIN), _HEIGHT + 2 * _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n{panels}</svg>\n'
    )


def _panel(title: str, lines: Lines, left: int) -> str:
    streams = sorted({number for line in lines.values() for number in line})
    top = max(value for line in lines.values() for value in line.values()) * 1.1

    def x(number: int) -> float:
        span = log10(streams[-1] / streams[0])
        return left + _MARGIN + log10(number / streams[0]) / span * (_WIDTH - _MARGIN)

    def y(value: float) -> float:
        return _MARGIN + _HEIGHT * (1 - value / top)

    parts = [f'<text x="{left + _MARGIN}" y="24" font-size="14">{title}</text>']
    for step in range(5):
        value = top * step / 4
        parts.append(
            f'<line x1="{left + _MARGIN}" x2="{left + _WIDTH}" y1="{y(value):.1f}" '
            f'y2="{y(value):.1f}" stroke="#ddd"/>'
            f'<text x="{left + _MARGIN - 6}" y="{y(value) + 4:.1f}" text-anchor="end">'
            f"{value:.3g}</text>"
        )
    for number in streams:
        parts.append(
            f'<text x="{x(number):.1f}" y="{_MARGIN + _HEIGHT + 18}" text-anchor="middle">'
            f"{number}</text>"
        )
    parts.append(
        f'<text x="{left + _WIDTH}" y="{_MARGIN + _HEIGHT + 36}" text-anchor="end">streams</text>'
    )
    for place, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        points = [(x(number), y(line[number])) for number in sorted(line)]
        for (x1, y1), (x2, y2) in pairwise(points):
            parts.append(
                f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
                f'stroke="{colour}" stroke-width="2"/>'
            )
        parts += [
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in points
        ]
        parts.append(
            f'<text x="{left + _WIDTH}" y="{24 + 16 * place}" text-anchor="end" fill="{colour}">'
            f"{name}</text>"
        )
    return "\n".join(parts) + "\n"
