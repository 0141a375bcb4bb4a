"""The page's tables: cells with what they are sorted by."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

from timbre.evaluate.figures import FIGURES
from timbre.evaluate.intervals import Verdict
from timbre.evaluate.measure import MAIN, Row
from timbre.evaluate.stress import tables as stress_tables
from timbre.evaluate.stress.figures import STRESS_FIGURES
from timbre.evaluate.stress.harm import StressRow
from timbre.evaluate.summary import Finding, figure_of_rank, label_of_rank, rank
from timbre.evaluate.systems import BASELINE, CLEAN
from timbre.evaluate.tables import columns, to_table

# Pairs in the table: with more, those that gained and lost most.
MOST_ROWS = 2000
# What the table of pairs shows of each system.
PAIR_FIGURES = ("mel_distance", "pesq", "lsd_0_8k", "lsd_8_24k", "over_suppressed", "dnsmos_sig")

# What a cell may hold.
SortValue = float | str | None


class Cell(NamedTuple):
    """What a cell shows, what it is sorted by, and the verdict that colours it, if it is one."""

    text: str
    key: str
    verdict: str = ""


class PageRow(NamedTuple):
    """A row of a table, and what one reads when one points at it."""

    cells: list[Cell]
    title: str = ""


class Table(NamedTuple):
    """Heads, lines, and what the heads mean."""

    head: list[str]
    lines: list[PageRow]
    meanings: Mapping[str, str]


def condition_table(findings: Sequence[Finding]) -> Table:
    """Return one line a figure."""
    head, *rows = to_table(findings)
    _, picks = columns(findings)
    lines = []
    for texts, finding in zip(rows, findings, strict=True):
        values = [*texts[:3], float(texts[3]), *(pick(finding)[1] for pick in picks)]
        cells = [
            Cell(text, _key(value), text if text in get_args(Verdict) else "")
            for text, value in zip(texts, values, strict=True)
        ]
        lines.append(PageRow(cells, FIGURES[finding.name].meaning))
    return Table(head, lines, {})


def stress_table(rows: Sequence[StressRow], system: str) -> Table:
    """Return one line a probe: DeepFilterNet3's figures beside one system's."""
    names = [name for name in STRESS_FIGURES if any(name in r.values[system] for r in rows)]
    sides = [(name, side) for name in names for side in (BASELINE, system)]
    head = ["row", "part", "harm", *(f"{name} {side}" for name, side in sides)]
    meanings = {f"{name} {side}": STRESS_FIGURES[name].meaning for name, side in sides}
    lines = []
    for row in rows:
        harm = stress_tables.harm_text(row, system)
        values: list[SortValue] = [row.values[side].get(name, math.nan) for name, side in sides]
        cells = [*_cells([row.name, row.part]), Cell(harm, harm, "worse" if harm else "")]
        lines.append(PageRow(cells + _cells(values), harm))
    return Table(head, lines, meanings)


def pairs_table(rows: Sequence[Row], ranked_by: str) -> Table:
    """Return one line a pair, the worst first."""
    systems = [name for name in (rows[0].values[MAIN] if rows else {}) if name != CLEAN]
    names = [
        n for n in PAIR_FIGURES if any(n in row.values[MAIN].get(BASELINE, {}) for row in rows)
    ]
    gain = label_of_rank(figure_of_rank(rows), ranked_by)
    sides = [(name, system) for name in names for system in systems]
    head = ["pair", "speaker", "SNR, dB", "noise", "bandwidth, kHz", gain]
    head += [f"{name} {system}" for name, system in sides]
    meanings = {f"{name} {system}": FIGURES[name].meaning for name, system in sides}
    lines = []
    for gain_of_pair, row in _rank(rows, ranked_by):
        labels = row.labels
        bandwidth = None if labels.bandwidth_hz is None else labels.bandwidth_hz / 1000
        values: list[SortValue] = [row.key, labels.speaker, labels.snr_db, labels.noise]
        values += [bandwidth, gain_of_pair]
        main = row.values[MAIN]
        values += [main.get(system, {}).get(name, math.nan) for name, system in sides]
        lines.append(PageRow(_cells(values)))
    return Table(head, lines, meanings)


def pairs_note(rows: Sequence[Row], ranked_by: str) -> str:
    """Return which pairs the table holds."""
    count = len(_rank(rows, ranked_by))
    return f"{count} of {len(rows)} pairs, the worst first; click on a head to sort."


def _rank(rows: Sequence[Row], ranked_by: str) -> list[tuple[float, Row]]:
    gains = rank(rows, ranked_by)
    if len(gains) > MOST_ROWS:
        gains = gains[: MOST_ROWS // 2] + gains[-MOST_ROWS // 2 :]
    return gains


def _cells(values: Sequence[SortValue]) -> list[Cell]:
    return [Cell(_text(value), _key(value)) for value in values]


def _text(value: SortValue) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return value if isinstance(value, str) else f"{round(value, 3) + 0.0:.3f}"


def _key(value: SortValue) -> str:
    """Return what a cell is sorted by; what is missing comes last."""
    is_missing = value is None or (isinstance(value, float) and not math.isfinite(value))
    return "" if is_missing else str(value)
