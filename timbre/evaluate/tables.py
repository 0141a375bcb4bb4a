"""Findings as tables: cells, CSV, JSON."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from timbre.evaluate.figures import FIGURES
from timbre.evaluate.intervals import Estimate
from timbre.evaluate.measure import Row
from timbre.evaluate.summary import Finding
from timbre.evaluate.systems import BASELINE, CLEAN, MIX, NOISY

# What a cell says, and what it is sorted by.
PlainCell = tuple[str, float | str | None]
Pick = Callable[[Finding], PlainCell]
# Name of a set of findings -> the findings: "main", "harm", or a group's value.
Findings = Mapping[str, Sequence[Finding]]


def to_table(findings: Sequence[Finding]) -> list[list[str]]:
    """Return the cells that terminal and page show, the head first; see :func:`columns`."""
    head, picks = columns(findings)
    table = [["figure", "unit", "better if", "pairs", *head]]
    for finding in findings:
        figure = FIGURES[finding.name]
        pairs = min(estimate.pairs for estimate in finding.systems.values())
        facts = [figure.unit, figure.better, str(pairs)]
        table.append([finding.name, *facts, *(pick(finding)[0] for pick in picks)])
    return table


def columns(findings: Sequence[Finding]) -> tuple[list[str], list[Pick]]:
    """Return the heads of the systems' columns, and what picks the cell under each.

    DF3 first, then each system with its difference and verdict, checkpoints before mixes; last what
    is there to compare with, the noisy input and clean speech.
    """
    systems = list(dict.fromkeys(s for finding in findings for s in finding.systems))
    candidates = [s for s in systems if s not in (BASELINE, NOISY, CLEAN)]
    candidates.sort(key=lambda name: bool(MIX.fullmatch(name)))
    head: list[str] = []
    picks: list[Pick] = []
    for name in [*(s for s in systems if s == BASELINE), *candidates]:
        head.append(name)
        picks.append(partial(_mean, name))
        if name != BASELINE and any(name in finding.differences for finding in findings):
            head += [f"{name} - {BASELINE}", f"{name} is"]
            picks += [partial(_difference, name), partial(_verdict, name)]
    for name in systems:
        if name in (NOISY, CLEAN):
            head.append(name)
            picks.append(partial(_mean, name))
    return head, picks


def pairs_csv(rows: Sequence[Row]) -> str:
    """Return one line a pair, condition and system; a figure that it does not have is empty."""
    names = [n for n in FIGURES if any(n in values for _, values in _figures_of(rows))]
    lines = [
        [
            "pair", "speaker", "snr_db", "noise", "room", "bandwidth_hz", "denoiser", "codec", "seconds",
            "condition", "system", *names,
        ]
    ]  # fmt: skip
    for row in rows:
        labels = row.labels
        label_values = [
            labels.speaker,
            labels.snr_db,
            labels.noise,
            labels.room,
            labels.bandwidth_hz,
            labels.denoiser,
            labels.codec,
        ]
        start = [row.key, *("" if x is None else str(x) for x in label_values), str(row.seconds)]
        for (condition, system), figures in _figures_of([row]):
            values = (figures.get(name, math.nan) for name in names)
            cells = ["" if math.isnan(value) else str(value) for value in values]
            lines.append([*start, condition, system, *cells])
    return _csv(lines)


def groups_csv(groups: Mapping[str, Findings]) -> str:
    """Return one line a group, figure and system: mean, interval, and difference from DF3."""
    lines = [
        [
            "group", "value", "figure", "system", "mean", "low", "high", "pairs", "speakers",
            "difference", "difference_low", "difference_high", "verdict",
        ]
    ]  # fmt: skip
    for group, values in groups.items():
        for value, findings in values.items():
            for finding in findings:
                for system, mean in finding.systems.items():
                    change = finding.differences.get(system)
                    cells = [*mean[:5], *(change[:3] if change else [None] * 3)]
                    texts = ["" if cell is None else str(cell) for cell in cells]
                    verdict = finding.verdicts.get(system, "")
                    lines.append([group, value, finding.name, system, *texts, verdict])
    return _csv(lines)


def to_json(
    facts: Mapping[str, Any], conditions: Findings, groups: Mapping[str, Findings]
) -> bytes:
    """Return the facts, the conditions and every group: means, differences, verdicts."""
    tree = {
        **facts,
        **{name: _tree(findings) for name, findings in conditions.items()},
        "groups": {
            group: {value: _tree(findings) for value, findings in values.items()}
            for group, values in groups.items()
        },
    }
    return json.dumps(tree, indent=2, allow_nan=False).encode()


def _tree(findings: Sequence[Finding]) -> dict[str, Any]:
    systems: dict[str, Any] = {}
    differences: dict[str, Any] = {}
    for finding in findings:
        for system, mean in finding.systems.items():
            systems.setdefault(system, {})[finding.name] = mean._asdict()
        for system, change in finding.differences.items():
            tree = {**change._asdict(), "verdict": finding.verdicts[system]}
            differences.setdefault(system, {})[finding.name] = tree
    return {"systems": systems, f"minus_{BASELINE}": differences}


def _figures_of(rows: Iterable[Row]) -> Iterable[tuple[tuple[str, str], dict[str, float]]]:
    for row in rows:
        for condition, systems in row.values.items():
            for system, figures in systems.items():
                yield (condition, system), figures


def _mean(system: str, finding: Finding) -> PlainCell:
    return _cell(finding.systems.get(system))


def _difference(system: str, finding: Finding) -> PlainCell:
    return _cell(finding.differences.get(system))


def _verdict(system: str, finding: Finding) -> PlainCell:
    verdict = finding.verdicts.get(system, "")
    return verdict, verdict or None


def _cell(estimate: Estimate | None) -> PlainCell:
    return ("", None) if estimate is None else (str(estimate), estimate.mean)


def _csv(lines: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()
