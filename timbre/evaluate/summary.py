"""What the rows of all pairs say together: every system's means, and what it changes against DF3."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from timbre.evaluate import intervals
from timbre.evaluate.cases import Labels
from timbre.evaluate.figures import FIGURES
from timbre.evaluate.intervals import Estimate, Verdict
from timbre.evaluate.measure import Row
from timbre.evaluate.systems import BASELINE, CLEAN

# Edges of the classes of signal-to-noise ratio, in dB.
SNR_EDGES = (0, 5, 10, 15, 20, 30)
FULL_BAND_HZ = 20_000.0
# Pairs of unknown speakers are taken for speakers of their own.
UNKNOWN = "pair "


class Finding(NamedTuple):
    """What all pairs say of one figure: system -> mean, system -> its paired difference from DF3."""

    name: str
    systems: dict[str, Estimate]
    differences: dict[str, Estimate]
    verdicts: dict[str, Verdict]


def summarise(rows: Sequence[Row], condition: str) -> list[Finding]:
    """Return what the rows say of every figure under a condition; no figures, no findings.

    Differences are pair by pair, of pairs that have the figure on both sides.
    """
    rows = [row for row in rows if condition in row.values]
    speakers = [speaker_of(row) for row in rows]
    systems = list(dict.fromkeys(name for row in rows for name in row.values[condition]))
    findings = []
    for name in FIGURES:
        columns = {
            system: column
            for system in systems
            if (column := _column(rows, condition, system, name)) is not None
        }
        if not columns:
            continue
        means = {s: intervals.estimate(column, speakers) for s, column in columns.items()}
        compared = [s for s in columns if s not in (BASELINE, CLEAN) and BASELINE in columns]
        differences = {
            s: intervals.estimate(columns[s] - columns[BASELINE], speakers) for s in compared
        }
        better = FIGURES[name].better
        verdicts = {s: intervals.judge(change, better) for s, change in differences.items()}
        findings.append(Finding(name, means, differences, verdicts))
    return findings


def speaker_of(row: Row) -> str:
    """Return who speaks in a pair; unknown speakers are taken for different ones."""
    return row.labels.speaker or f"{UNKNOWN}{row.key}"


def groups(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """Return the rows by what they are told apart by: name -> value -> rows.

    Only what parts them into several, and rows of which it is known.
    """
    found: dict[str, dict[str, list[Row]]] = {}
    for name, label in GROUPS.items():
        told = [(label(row.labels), row) for row in rows]
        values = sorted({value for value, _ in told if value is not None})
        if len(values) > 1:
            found[name] = {
                text: [row for value, row in told if value == (place, text)]
                for place, text in values
            }
    return found


def rank(rows: Iterable[Row], system: str) -> list[tuple[float, Row]]:
    """Return (mel distance gained, row) of every pair that has one, the worst first.

    Of DF3 itself it is its own mel distance, negated.
    """
    gains = []
    for row in rows:
        main = row.values["main"]
        before = main.get(BASELINE, {}).get("mel_distance", math.nan)
        after = main.get(system, {}).get("mel_distance", math.nan)
        gain = -before if system == BASELINE else before - after
        if math.isfinite(gain):
            gains.append((gain, row))
    return sorted(gains, key=lambda pair: (pair[0], pair[1].key))


Value = tuple[float, str] | None  # where it stands among the others, and its name


def _snr(labels: Labels) -> Value:
    if labels.snr_db is None:
        return None
    place = int(np.searchsorted(SNR_EDGES, labels.snr_db, side="right"))
    if place == 0:
        return 0, f"under {SNR_EDGES[0]} dB"
    if place == len(SNR_EDGES):
        return place, f"over {SNR_EDGES[-1]} dB"
    return place, f"{SNR_EDGES[place - 1]} to {SNR_EDGES[place]} dB"


def _bandwidth(labels: Labels) -> Value:
    if labels.bandwidth_hz is None:
        return None
    full = labels.bandwidth_hz >= FULL_BAND_HZ
    return (0, "of 20 kHz and more") if full else (1, "under 20 kHz")


def _named(text: str | None) -> Value:
    return None if text is None else (0, text)


GROUPS: Mapping[str, Callable[[Labels], Value]] = {
    "bandwidth": _bandwidth,
    "snr": _snr,
    "noise": lambda labels: _named(labels.noise),
    "speaker": lambda labels: _named(labels.speaker),
    "room": lambda labels: _named(labels.room),
}


def _column(
    rows: Sequence[Row], condition: str, system: str, name: str
) -> NDArray[np.float64] | None:
    """Return a figure of every row ``(pairs,)``, or None where it was not measured."""
    cells = [row.values[condition].get(system, {}) for row in rows]
    if not any(name in cell for cell in cells):
        return None
    return np.array([cell.get(name, math.nan) for cell in cells], dtype=np.float64)
