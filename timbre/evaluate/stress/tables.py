"""Stress rows written down: a few lines for the terminal, all of them as CSV and JSON."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

from timbre.evaluate.stress.figures import STRESS_FIGURES
from timbre.evaluate.stress.harm import StressRow
from timbre.evaluate.systems import BASELINE, MIX


def compared_systems(rows: Sequence[StressRow]) -> list[str]:
    """Return the systems that are compared with DeepFilterNet3, checkpoints first."""
    return sorted(rows[0].harms, key=lambda name: bool(MIX.fullmatch(name)))


def headlines(rows: Sequence[StressRow]) -> Iterator[str]:
    """Yield a sentence for each system: in how many rows it does harm."""
    for system in compared_systems(rows):
        harm_rows = [row for row in rows if row.harms[system]]
        if harm_rows:
            yield f"Stress: HARM, {system} is worse than {BASELINE} in {len(harm_rows)} of {len(rows)} rows"
        else:
            yield f"Stress: no harm, {system} is nowhere worse than {BASELINE} in {len(rows)} rows"


def to_table(rows: Sequence[StressRow], system: str) -> list[list[str]]:
    """Return a line for each part: its rows, those with harm, and the worst of them."""
    table = [["part", "rows", "harm", "worst row", "figure", BASELINE, system]]
    for part in dict.fromkeys(row.part for row in rows):
        some = [row for row in rows if row.part == part]
        harm_rows = [row for row in some if row.harms[system]]
        line = [part, str(len(some)), str(len(harm_rows))]
        if harm_rows:
            worst = max(harm_rows, key=lambda row: max(row.harms[system].values()))
            figure = max(worst.harms[system], key=lambda name: worst.harms[system][name])
            sides = (worst.values[name][figure] for name in (BASELINE, system))
            line += [worst.name, figure, *(_text(value) for value in sides)]
        table.append(line + [""] * (len(table[0]) - len(line)))
    return table


def harm_text(row: StressRow, system: str) -> str:
    """Return what is harm in a row: each figure with its value and DeepFilterNet3's."""
    return "; ".join(
        f"{name} {_text(row.values[system][name])} ({BASELINE} {_text(row.values[BASELINE][name])})"
        for name in row.harms[system]
    )


def to_csv(rows: Sequence[StressRow]) -> str:
    """Return one line a row and system; a figure that it does not have is empty."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["part", "row", "system", *STRESS_FIGURES, "harm"])
    for row in rows:
        for system, values in row.values.items():
            cells = [_cell(values.get(name, math.nan)) for name in STRESS_FIGURES]
            lines.writerow(
                [row.part, row.name, system, *cells, " ".join(row.harms.get(system, ()))]
            )
    return text.getvalue()


def to_tree(rows: Sequence[StressRow]) -> dict[str, Any]:
    """Return what metrics.json holds: bounds, names of the rows with harm, all rows."""
    return {
        "bounds": {
            name: {"worse_by": figure.bound, "unit": figure.unit, "better": figure.better}
            | ({"harmless_below": figure.floor} if math.isfinite(figure.floor) else {})
            for name, figure in STRESS_FIGURES.items()
        },
        "harm": {
            system: {row.name: list(row.harms[system]) for row in rows if row.harms[system]}
            for system in compared_systems(rows)
        },
        "rows": [
            {
                "name": row.name,
                "part": row.part,
                "systems": {
                    system: {name: _number(value) for name, value in values.items()}
                    for system, values in row.values.items()
                },
            }
            for row in rows
        ],
    }


def _text(value: float) -> str:
    return "none" if math.isnan(value) else f"{value:.2f}"


def _cell(value: float) -> str:
    return "" if math.isnan(value) else str(value)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
