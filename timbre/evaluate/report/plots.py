"""Plots as inline SVG: what each system changes, by noise level, and pair by pair."""

import math
from collections.abc import Sequence
from html import escape

from timbre.evaluate.figures import FIGURES
from timbre.evaluate.intervals import FEWEST_SPEAKERS, Estimate
from timbre.evaluate.measure import MAIN, Row
from timbre.evaluate.summary import Finding
from timbre.evaluate.systems import BASELINE, CLEAN, NOISY
from timbre.evaluate.tables import Findings

# Figures that are drawn by noise level and pair by pair.
PLOT_FIGURES = ("pesq", "estoi", "lsd_0_8k", "lsd_8_24k", "over_suppressed", "dnsmos_sig")
WIDTH, HEIGHT = 300, 200
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 22, 40
FOREST_WIDTH, FOREST_LEFT, LINE = 640, 190, 22
# More points than this make a scatter plot heavy, and no clearer.
MOST_POINTS = 500


def all_plots(main: Sequence[Finding], by_snr: Findings, rows: Sequence[Row]) -> str:
    """Return every plot that there is something to draw for."""
    systems = list(dict.fromkeys(name for finding in main for name in finding.systems))
    legend = "".join(
        f'<span class="key"><i class="dot s{number}"></i>{escape(name)}</span>'
        for number, name in enumerate(systems)
    )
    parts = [f'<p class="legend">{legend}</p>']
    for name in dict.fromkeys(s for finding in main for s in finding.differences if s != NOISY):
        parts.append(_section(f"{name} against {BASELINE}", [forest(main, name)]))
    names = [finding.name for finding in main if finding.name in PLOT_FIGURES]
    if by_snr:
        parts.append(
            _section("By signal-to-noise ratio", [by_class(by_snr, n, systems) for n in names])
        )
    for system in systems:
        if system not in (BASELINE, NOISY, CLEAN):
            plots = [scatter(rows, n, system, systems.index(system)) for n in names]
            parts.append(_section(f"Pair by pair: {BASELINE} across, {system} up", plots))
    return "\n".join(parts)


def forest(main: Sequence[Finding], system: str) -> str:
    """Return the paired differences of a system with their intervals, better to the right.

    Each in parts of DF3's own mean, so that they share an axis.
    """
    lines = []
    for finding in main:
        change, base = finding.differences.get(system), finding.systems.get(BASELINE)
        if change is None or base is None or change.low is None or not base.mean:
            continue
        sign = 1 if FIGURES[finding.name].better == "higher" else -1
        scale = 100 * sign / abs(base.mean)
        ends = sorted(scale * float(x) for x in (change.low, change.high) if x is not None)
        lines.append((finding, scale * float(change.mean or 0), ends[0], ends[1]))
    if not lines:
        return ""
    reach = min(max(max(abs(low), abs(high)) for _, _, low, high in lines) * 1.05, 150.0) or 1.0
    middle = (FOREST_LEFT + FOREST_WIDTH - 10) / 2
    half = (FOREST_WIDTH - 10 - FOREST_LEFT) / 2

    def x(value: float) -> float:
        return middle + half * max(-1.0, min(1.0, value / reach))

    height = LINE * len(lines) + 44
    marks = [f'<line class="zero" x1="{middle}" x2="{middle}" y1="8" y2="{height - 30}"/>']
    for number, (finding, mean, low, high) in enumerate(lines):
        y = LINE * number + 20
        verdict = finding.verdicts[system]
        label = (
            f"{finding.name}: {finding.differences[system]} {FIGURES[finding.name].unit}, {verdict}"
        )
        marks.append(
            f'<g class="mark {verdict}"><title>{escape(label)}</title>'
            f'<text x="{FOREST_LEFT - 10}" y="{y + 4}" text-anchor="end">{escape(finding.name)}</text>'
            f'<line x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y}" y2="{y}"/>'
            f'<circle cx="{x(mean):.1f}" cy="{y}" r="4"/></g>'
        )
    for value in (-reach, 0, reach):
        marks.append(
            f'<text x="{x(value):.1f}" y="{height - 12}" text-anchor="{_anchor(value)}">'
            f"{value:+.0f} %</text>"
        )
    marks.append(f'<text x="{middle}" y="{height}" text-anchor="middle">better to the right</text>')
    return _svg(FOREST_WIDTH, height + 4, f"what {system} changes", marks)


def by_class(groups: Findings, name: str, systems: Sequence[str]) -> str:
    """Return a figure's mean and interval of every system, class by class."""
    columns = [
        next((f.systems for f in findings if f.name == name), {}) for findings in groups.values()
    ]
    ends = [value for column in columns for e in column.values() for value in _scaled_by(e)]
    if not ends:
        return ""
    frame = _Frame(min(ends), max(ends))
    step = (WIDTH - LEFT - RIGHT) / len(columns)
    marks = frame.axis(name)
    for column, value in enumerate(groups):
        middle = LEFT + step * (column + 0.5)
        # "5 to 10 dB" as two lines.
        for line, text in enumerate(_two_lines(value)):
            marks.append(
                f'<text x="{middle:.1f}" y="{HEIGHT - 26 + 12 * line}" text-anchor="middle">'
                f"{escape(text)}</text>"
            )
    for number, system in enumerate(systems):
        points = []
        for column, (value, by_system) in enumerate(zip(groups, columns, strict=True)):
            estimate = by_system.get(system)
            if estimate is None or estimate.mean is None:
                continue
            # Side by side, so that intervals do not hide each other.
            x = LEFT + step * (column + 0.5 + 0.5 * ((number + 0.5) / len(systems) - 0.5))
            points.append(f"{x:.1f},{frame.y(estimate.mean):.1f}")
            marks.append(_mark(x, frame, estimate, f"{system}, {value}", number))
        marks.append(f'<polyline class="s{number}" points="{" ".join(points)}"/>')
    return _svg(WIDTH, HEIGHT, f"{name} by signal-to-noise ratio", marks)


def scatter(rows: Sequence[Row], name: str, system: str, number: int) -> str:
    """Return a figure pair by pair: DF3's across, a system's up, and the line of no change."""
    points: list[tuple[float, float, str]] = []
    for row in rows:
        main = row.values[MAIN]
        x, y = (main.get(side, {}).get(name, math.nan) for side in (BASELINE, system))
        if math.isfinite(x) and math.isfinite(y):
            points.append((x, y, row.key))
    if not points:
        return ""
    points = points[:: -(-len(points) // MOST_POINTS)]
    both = [value for point in points for value in point[:2]]
    low, high = min(both), max(both)
    frame = _Frame(low, high)
    better = "above" if FIGURES[name].better == "higher" else "below"
    marks = frame.axis(f"{name}: better {better} the line")
    marks.append(
        f'<line class="zero" x1="{frame.x(low):.1f}" y1="{frame.y(low):.1f}" '
        f'x2="{frame.x(high):.1f}" y2="{frame.y(high):.1f}"/>'
    )
    for x, y, key in points:
        marks.append(
            f'<circle class="s{number}" cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="3">'
            f"<title>{escape(key)}: {x:.3f}, {y:.3f}</title></circle>"
        )
    for value, anchor in ((low, "start"), (high, "end")):
        marks.append(
            f'<text x="{frame.x(value):.1f}" y="{HEIGHT - 22}" text-anchor="{anchor}">{value:.3g}</text>'
        )
    return _svg(WIDTH, HEIGHT, f"{name} pair by pair", marks)


class _Frame:
    """Where values lie in a plot: a little room is left around the lowest and highest."""

    def __init__(self, low: float, high: float) -> None:
        room = 0.06 * (high - low) or 0.5
        self.low, self.high = low - room, high + room

    def _share(self, value: float) -> float:
        """Return where a value lies, 0 to 1; beyond the ends, at the end."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * self._share(value)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * self._share(value)

    def axis(self, title: str) -> list[str]:
        marks = [f'<text class="title" x="{LEFT}" y="14">{escape(title)}</text>']
        for part in range(4):
            value = self.low + (self.high - self.low) * (0.06 + 0.88 * part / 3)
            y = self.y(value)
            marks.append(
                f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>'
            )
        return marks


def _mark(x: float, frame: _Frame, estimate: Estimate, label: str, number: int) -> str:
    assert estimate.mean is not None
    low, high = (frame.y(value) for value in (_ends(estimate)[0], _ends(estimate)[-1]))
    return (
        f'<g class="s{number}"><title>{escape(label)}: {estimate}</title>'
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
        f'<circle cx="{x:.1f}" cy="{frame.y(estimate.mean):.1f}" r="3.5"/></g>'
    )


def _ends(estimate: Estimate) -> list[float]:
    """Return an estimate's interval, or its mean where it has none, in order."""
    ends = [x for x in (estimate.low, estimate.mean, estimate.high) if x is not None]
    return sorted(ends)


def _scaled_by(estimate: Estimate) -> list[float]:
    """Return what a plot must have room for; intervals of very few speakers may run out of it."""
    if estimate.speakers >= FEWEST_SPEAKERS:
        return _ends(estimate)
    return [] if estimate.mean is None else [estimate.mean]


def _two_lines(text: str) -> tuple[str, str]:
    first, _, second = text.partition(" to ")
    if second:
        return f"{first} to", second
    first, _, second = text.partition(" ")
    return first, second


def _anchor(value: float) -> str:
    return "middle" if value == 0 else "start" if value < 0 else "end"


def _section(title: str, plots: Sequence[str]) -> str:
    content = "\n".join(plot for plot in plots if plot)
    return f'<h3>{escape(title)}</h3>\n<div class="plots">{content}</div>' if content else ""


def _svg(width: int, height: int, label: str, marks: Sequence[str]) -> str:
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">{"".join(marks)}</svg>'
    )
