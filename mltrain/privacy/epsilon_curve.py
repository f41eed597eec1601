"""Epsilon over the steps as a picture: SVG that takes its colours from the page it stands in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from mltrain.privacy.rounding import shown_up

__all__ = ["epsilon_curve"]

_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 30, 44


def epsilon_curve(points: Sequence[Sequence[float]], *, steps: int, epsilon: float, target: float | None) -> str:
    """Return an `<svg>` of the curve, a mark where the run stands, and the target as a dashed line.

    Args:
        points: (steps, epsilon), in ascending order; at least two.
        steps, epsilon: where the run stands.
        target: the most that is allowed, or None.
    """
    last = points[-1][0]
    highest = max(*(value for _, value in points), target or 0.0, epsilon) or 1.0
    across, up = _ticks(last), _ticks(highest)
    top = max(up[-1], highest)

    def x(count: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * count / last

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / top

    line = " ".join(f"{x(count):.1f},{y(value):.1f}" for count, value in points)
    parts = [
        f'<svg class="curve" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="curve-title">',
        f'<title id="curve-title">Epsilon over the steps: {shown_up(epsilon)} after {steps} steps</title>',
        *(_grid_line(_LEFT, y(value), _WIDTH - _RIGHT, f"{value:g}") for value in up),
        *(_label(x(count), _HEIGHT - _BOTTOM + 18, f"{count:g}", "middle") for count in across),
        _label((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, "steps", "middle"),
        _label(6, 14, "epsilon", "start"),
    ]
    if target is not None:
        parts.append(
            f'<line class="target" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(target):.1f}" y2="{y(target):.1f}"/>'
        )
        parts.append(_label(_WIDTH - _RIGHT, y(target) - 5, f"target {target:g}", "end"))
    parts.append(f'<polyline class="line" points="{line}"/>')
    parts.append(f'<circle class="here" cx="{x(steps):.1f}" cy="{y(epsilon):.1f}" r="5"/>')
    return "\n".join([*parts, "</svg>"])


def _grid_line(left: float, height: float, right: float, text: str) -> str:
    line = f'<line class="grid" x1="{left}" x2="{right}" y1="{height:.1f}" y2="{height:.1f}"/>'
    return line + _label(left - 8, height + 4, text, "end")


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _ticks(highest: float) -> list[float]:
    """Return about five round numbers from 0 up to a value."""
    step = 10.0 ** math.floor(math.log10(highest / 5))
    step *= next(factor for factor in (1, 2, 5, 10) if highest / (step * factor) <= 5.5)
    return [round(step * number, 12) for number in range(math.floor(highest / step * (1 + 1e-9)) + 1)]
