"""Rows of the stress table, and which of them are harm."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from timbre.evaluate.measure import STRESS, Row
from timbre.evaluate.stress.figures import STRESS_FIGURES
from timbre.evaluate.stress.probes import Probe
from timbre.evaluate.systems import BASELINE, NOISY

# System -> figure -> value.
VoiceValues = Mapping[str, Mapping[str, float]]


class StressRow(NamedTuple):
    """What was measured of one kind of probe, as a mean over its voices.

    Attributes:
        harms: system -> what is worse than DeepFilterNet3's by more than its bound, in words.
    """

    name: str
    part: str
    values: VoiceValues
    harms: Mapping[str, Mapping[str, float]]


def to_rows(probes: Sequence[Probe], rows: Sequence[Row]) -> list[StressRow]:
    """Return the table's rows, in the order of the probes."""
    by_row: dict[str, tuple[str, list[VoiceValues]]] = {}
    for probe, row in zip(probes, rows, strict=True):
        if row.error is None:
            by_row.setdefault(probe.row, (probe.part, []))[1].append(row.values[STRESS])
    return [_row(name, part, values) for name, (part, values) in by_row.items()]


def excess(name: str, value: float, baseline: float) -> float:
    """Return by how much a figure is worse than DeepFilterNet3's beyond its bound; ≤ 0 is no harm.

    A figure that only DeepFilterNet3's output has is infinitely worse.
    """
    figure = STRESS_FIGURES[name]
    if math.isnan(value):
        return -math.inf if math.isnan(baseline) else math.inf
    if math.isnan(baseline):
        return -math.inf
    if figure.better == "higher":
        worse = baseline - value
    elif figure.better == "lower":
        worse = value - max(baseline, figure.floor - figure.bound)
    else:
        worse = abs(value) - abs(baseline)
    return worse - figure.bound


def _row(name: str, part: str, voices: Sequence[VoiceValues]) -> StressRow:
    systems = list(voices[0])
    values = {
        system: {
            figure: _mean([voice[system][figure] for voice in voices])
            for figure in voices[0][system]
        }
        for system in systems
    }
    harms = {
        system: {
            figure: beyond
            for figure, value in values[system].items()
            if (beyond := excess(figure, value, values[BASELINE][figure])) > 0
        }
        for system in systems
        if system not in (NOISY, BASELINE)
    }
    return StressRow(name, part, values, harms)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
