"""Curves of a run as SVG; a template draws what this places."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from timbre.train.report.events import Curve

WIDTH, HEIGHT = 440, 190
LEFT, RIGHT, TOP, BOTTOM = 62, 10, 12, 26
MOST_POINTS = 400


class Line(NamedTuple):
    """A curve in a plot: its label, its last value, and its points as SVG reads them."""

    label: str
    last: str
    points: str


class Tick(NamedTuple):
    """A value on an axis, and where it stands."""

    text: str
    place: float


class Plot(NamedTuple):
    """One plot: its title, curves and both axes."""

    title: str
    lines: list[Line]
    x_ticks: list[Tick]
    y_ticks: list[Tick]


def plot(title: str, curves: Mapping[str, Curve]) -> Plot | None:
    """Return a plot of curves by label; None if none has a finite point."""
    finite = {
        label: [(step, value) for step, value in curve if math.isfinite(value)]
        for label, curve in curves.items()
    }
    finite = {label: _thinned(curve) for label, curve in finite.items() if curve}
    if not finite:
        return None
    steps = [step for curve in finite.values() for step, _ in curve]
    values = [value for curve in finite.values() for _, value in curve]
    x, y = (min(steps), max(steps)), (min(values), max(values))
    lines = [
        Line(label, f"{curve[-1][1]:.4g}", " ".join(_point(p, x, y) for p in curve))
        for label, curve in finite.items()
    ]
    x_ticks = [Tick(f"{step:,}", _across(step, x)) for step in sorted({*x})]
    middle = (y[0] + y[1]) / 2
    y_ticks = [Tick(f"{value:.4g}", _up(value, y)) for value in sorted({y[0], middle, y[1]})]
    return Plot(title, lines, x_ticks, y_ticks)


def _thinned(curve: Curve) -> Curve:
    """Return means over neighbours, so many that the curve has few enough points."""
    size = -(-len(curve) // MOST_POINTS)
    groups = [curve[start : start + size] for start in range(0, len(curve), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def _point(point: tuple[int, float], x: tuple[float, float], y: tuple[float, float]) -> str:
    return f"{_across(point[0], x):.1f},{_up(point[1], y):.1f}"


def _across(step: float, span: tuple[float, float]) -> float:
    return LEFT + _share(step, span) * (WIDTH - LEFT - RIGHT)


def _up(value: float, span: tuple[float, float]) -> float:
    return HEIGHT - BOTTOM - _share(value, span) * (HEIGHT - TOP - BOTTOM)


def _share(value: float, span: tuple[float, float]) -> float:
    low, high = span
    return (value - low) / (high - low) if high > low else 0.5
