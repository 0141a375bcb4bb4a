"""What the rows of all pairs say together: every system's means, and what it changes against DF3."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from timbre.evaluate import intervals
from timbre.evaluate.figures import FIGURES
from timbre.evaluate.intervals import Direction, Estimate, Verdict
from timbre.evaluate.measure import MAIN, Row
from timbre.evaluate.systems import BASELINE, CLEAN, MIX, NOISY, TENTH

# Edges of the classes of signal-to-noise ratio, in dB.
SNR_EDGES = (0, 5, 10, 15, 20, 30)
PESQ_EDGES = (1.5, 2.0, 2.5, 3.0, 3.5)
# Where a band begins, its name; below all there are telephones of 8 kHz, above them those of 16.
BANDS = ((20_000.0, "of 20 kHz and more"), (8_001.0, "under 20 kHz"), (4_001.0, "up to 8 kHz"))
# What pairs are ranked by, where it is measured.
RANK_FIGURE = "mel_distance"
# A pair of an unknown speaker counts as a speaker of its own.
UNKNOWN = "pair "


class Finding(NamedTuple):
    """What all pairs say of one figure: system -> mean, system -> its paired difference from DF3."""

    name: str
    systems: dict[str, Estimate]
    differences: dict[str, Estimate]
    verdicts: dict[str, Verdict]


def summarise(rows: Sequence[Row], condition: str) -> list[Finding]:
    """Return what the rows say of every figure under a condition; no figures, no findings.

    Differences are pair by pair, of pairs that have the figure on both sides. A checkpoint is better
    only if it also beats DF3 with a tenth of the noise mixed in, where that was measured.
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
        candidates = [s for s in columns if s not in (BASELINE, CLEAN) and BASELINE in columns]
        differences = {
            s: intervals.estimate(columns[s] - columns[BASELINE], speakers) for s in candidates
        }
        better = FIGURES[name].better
        verdicts = {s: intervals.verdict(change, better) for s, change in differences.items()}
        if condition == MAIN and TENTH in columns:
            for system in _won_from_noise(columns, verdicts, speakers, better):
                verdicts[system] = "fooled"
        findings.append(Finding(name, means, differences, verdicts))
    return findings


def speaker_of(row: Row) -> str:
    """Return who speaks in a pair; unknown speakers are taken for different ones."""
    return row.labels.speaker or f"{UNKNOWN}{row.key}"


def groups(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """Return the rows by what groups them: name -> value -> rows.

    Only what parts them into several, and rows of which it is known.
    """
    groups_by_value: dict[str, dict[str, list[Row]]] = {}
    for name, value_of in GROUPS.items():
        values = [(value_of(row), row) for row in rows]
        values_in_order = sorted({value for value, _ in values if value is not None})
        if len(values_in_order) > 1:
            groups_by_value[name] = {
                text: [row for value, row in values if value == (place, text)]
                for place, text in values_in_order
            }
    return groups_by_value


def figure_of_rank(rows: Iterable[Row]) -> str:
    """Return what pairs are ranked by: the mel distance, or the first figure where it is not measured."""
    names = dict.fromkeys(name for row in rows for name in row.values[MAIN].get(BASELINE, {}))
    return RANK_FIGURE if RANK_FIGURE in names else next(iter(names), RANK_FIGURE)


def label_of_rank(figure: str, system: str) -> str:
    """Return what the numbers of :func:`rank` are, in words."""
    name = figure.replace("_", " ")
    if system == BASELINE:
        return name if FIGURES[figure].better == "higher" else f"minus {name}"
    return f"{name} gained by {system}"


def rank(rows: Sequence[Row], system: str) -> list[tuple[float, Row]]:
    """Return (gain, row) of every pair that has one, the worst first.

    The gain is the system's against DF3 in :func:`figure_of_rank`; of DF3 itself it is its own
    figure, negated where lower is better.
    """
    gains, figure = [], figure_of_rank(rows)
    sign = 1.0 if FIGURES[figure].better == "higher" else -1.0
    for row in rows:
        main = row.values[MAIN]
        before = main.get(BASELINE, {}).get(figure, math.nan)
        after = main.get(system, {}).get(figure, math.nan)
        gain = sign * (before if system == BASELINE else after - before)
        if math.isfinite(gain):
            gains.append((gain, row))
    return sorted(gains, key=lambda pair: (pair[0], pair[1].key))


ClassLabel = tuple[float, str] | None  # where it stands among the others, and its name


def _class_of(value: float | None, edges: Sequence[float], unit: str) -> ClassLabel:
    """Return between which edges a value lies; None where it is not known."""
    if value is None or not math.isfinite(value):
        return None
    place = int(np.searchsorted(edges, value, side="right"))
    if place == 0:
        return 0, f"under {edges[0]:g} {unit}"
    if place == len(edges):
        return place, f"over {edges[-1]:g} {unit}"
    return place, f"{edges[place - 1]:g} to {edges[place]:g} {unit}"


def _bandwidth(row: Row) -> ClassLabel:
    if row.labels.bandwidth_hz is None:
        return None
    for place, (edge_hz, name) in enumerate(BANDS):
        if row.labels.bandwidth_hz >= edge_hz:
            return place, name
    return len(BANDS), "up to 4 kHz"


def _figure(row: Row, system: str, name: str) -> float:
    return row.values.get(MAIN, {}).get(system, {}).get(name, math.nan)


def _name_value(text: str | None) -> ClassLabel:
    return None if text is None else (0, text)


GROUPS: Mapping[str, Callable[[Row], ClassLabel]] = {
    "bandwidth": _bandwidth,
    "snr": lambda row: _class_of(row.labels.snr_db, SNR_EDGES, "dB"),
    # As the denoiser gets it, rooms and all.
    "noisy si_sdr": lambda row: _class_of(_figure(row, NOISY, "si_sdr"), SNR_EDGES, "dB"),
    # How good DF3 is already: where it is good there is most to lose.
    "df3 pesq": lambda row: _class_of(_figure(row, BASELINE, "pesq"), PESQ_EDGES, "MOS"),
    "codec": lambda row: _name_value(row.labels.codec),
    "denoiser": lambda row: _name_value(row.labels.denoiser),
    "noise": lambda row: _name_value(row.labels.noise),
    "speaker": lambda row: _name_value(row.labels.speaker),
    "room": lambda row: _name_value(row.labels.room),
}


def _won_from_noise(
    columns: Mapping[str, NDArray[np.float64]],
    verdicts: Mapping[str, Verdict],
    speakers: Sequence[str],
    better: Direction,
) -> list[str]:
    """Return the systems whose gain mixing noise back in would have given too."""
    tenth = columns[TENTH]
    return [
        system
        for system, verdict in verdicts.items()
        if verdict == "better"
        and system != NOISY
        and not MIX.fullmatch(system)
        and intervals.verdict(intervals.estimate(columns[system] - tenth, speakers), better)
        != "better"
    ]


def _column(
    rows: Sequence[Row], condition: str, system: str, name: str
) -> NDArray[np.float64] | None:
    """Return a figure of every row ``(pairs,)``, or None where it was not measured."""
    cells = [row.values[condition].get(system, {}) for row in rows]
    if not any(name in cell for cell in cells):
        return None
    return np.array([cell.get(name, math.nan) for cell in cells], dtype=np.float64)
