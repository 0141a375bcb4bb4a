"""``report.html``: one page that holds all it shows; a browser that opens it loads nothing else.

Text of others (names of files, speakers, checkpoints) is escaped, and only the page's own script
runs: its hash stands in the page's content security policy.
"""

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any, NamedTuple

from timbre.evaluate.figures import FIGURES
from timbre.evaluate.intervals import CONFIDENCE, FEWEST_SPEAKERS
from timbre.evaluate.measure import MAIN, Row
from timbre.evaluate.report import plots
from timbre.evaluate.report.example import Example, case_html
from timbre.evaluate.stress import tables as stress_tables
from timbre.evaluate.stress.figures import STRESS_FIGURES
from timbre.evaluate.stress.harm import StressRow
from timbre.evaluate.summary import Finding, rank
from timbre.evaluate.systems import BASELINE, CLEAN
from timbre.evaluate.tables import Findings, columns, to_table

# Pairs in the table: with more, those that gained and lost most.
MOST_ROWS = 2000
# What the table of pairs shows of each system.
PAIR_FIGURES = ("mel_distance", "pesq", "lsd_0_8k", "lsd_8_24k", "over_suppressed", "dnsmos_sig")

# What a cell of a table may hold.
Cell = float | str | None


class Content(NamedTuple):
    """All that a page shows.

    ``verdicts`` are sentences, ``conditions`` are findings by title, ``groups`` by what parts the pairs and its value;
    ``ranked_by`` is the system whose gain in mel distance tells worst from best.
    """

    verdicts: Sequence[str]
    facts: Sequence[str]
    conditions: Findings
    groups: Mapping[str, Findings]
    rows: Sequence[Row]
    examples: Sequence[Example]
    ranked_by: str
    stress: Sequence[StressRow] = ()


def to_html(content: Content) -> str:
    """Return the page."""
    script, style, page = (
        files("timbre.evaluate.report").joinpath(f"page.{kind}").read_text(encoding="utf-8")
        for kind in ("js", "css", "html")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    main = next(iter(content.conditions.values()), [])
    parts = {
        "script": script,
        "script_hash": f"sha256-{digest}",
        "style": style,
        "facts": "\n".join(f"<li>{escape(fact)}</li>" for fact in content.facts),
        "conditions": "\n".join(_condition(*pair) for pair in content.conditions.items()),
        "confidence": f"{CONFIDENCE:.0%}",
        "fewest": str(FEWEST_SPEAKERS),
        "plots": plots.all_plots(main, content.groups.get("snr", {}), content.rows),
        "groups": _data_block(_group_tree(content.groups)),
        "stress": _stress(content.stress),
        "pairs": _pairs_table(content.rows, content.ranked_by),
        "cases": "\n".join(map(case_html, content.examples)),
        "meanings": "\n".join(_meaning(finding) for finding in main),
    }
    # Not str.format: style and script are full of braces. One pass, so that no part is looked into.
    pieces = page.split("@@")
    return "".join(parts[piece] if n % 2 else piece for n, piece in enumerate(pieces))


def _condition(title: str, findings: Sequence[Finding]) -> str:
    head, *rows = to_table(findings)
    _, picks = columns(findings)
    lines = []
    for cells, finding in zip(rows, findings, strict=True):
        values = [*cells[:3], float(cells[3]), *(pick(finding)[1] for pick in picks)]
        lines.append(_row(cells, values, FIGURES[finding.name].meaning))
    return f"<h3>{escape(title)}</h3>\n{_table(head, lines)}"


def _stress(rows: Sequence[StressRow]) -> str:
    """Return a table of all probes for each system that is judged."""
    if not rows:
        return "<p>Not measured: run with --stress.</p>"
    parts = []
    for line, system in zip(stress_tables.headlines(rows), stress_tables.judged(rows), strict=True):
        shown = [name for name in STRESS_FIGURES if any(name in r.values[system] for r in rows)]
        head = ["part", "row", "harm", *(f"{n} {s}" for n in shown for s in (BASELINE, system))]
        lines = []
        for row in rows:
            harm = stress_tables.harm_text(row, system)
            values: list[Cell] = [row.part, row.name, harm]
            values += [row.values[s].get(n, math.nan) for n in shown for s in (BASELINE, system)]
            lines.append(_row([_text(value) for value in values], values))
        parts.append(f"<h3>{escape(line)}</h3>{_table(head, lines)}")
    return "\n".join(parts)


def _row(cells: Sequence[str], values: Sequence[float | str | None], title: str = "") -> str:
    """Return a table's row; what it is sorted by stands in ``data-value``."""
    told = []
    for cell, value in zip(cells, values, strict=True):
        missing = value is None or (isinstance(value, float) and not math.isfinite(value))
        key = "" if missing else escape(str(value))
        # Verdicts are coloured by class; other words have no rule.
        told.append(f'<td class="{escape(cell)}" data-value="{key}">{escape(cell)}</td>')
    return f'<tr title="{escape(title)}">{"".join(told)}</tr>'


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    cells = "".join(f'<th scope="col"><button>{escape(cell)}</button></th>' for cell in head)
    body = "\n".join(rows)
    return (
        f'<div class="wide"><table class="sortable"><thead><tr>{cells}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def _pairs_table(rows: Sequence[Row], ranked_by: str) -> str:
    ranked = rank(rows, ranked_by)
    if len(ranked) > MOST_ROWS:
        ranked = ranked[: MOST_ROWS // 2] + ranked[-MOST_ROWS // 2 :]
    systems = [name for name in (rows[0].values[MAIN] if rows else {}) if name != CLEAN]
    names = [
        n for n in PAIR_FIGURES if any(n in row.values[MAIN].get(BASELINE, {}) for row in rows)
    ]
    gain = "minus mel distance" if ranked_by == BASELINE else f"mel distance gained by {ranked_by}"
    head = ["pair", "speaker", "SNR, dB", "noise", "bandwidth, kHz", gain]
    head += [f"{name} {system}" for name in names for system in systems]
    lines = []
    for gained, row in ranked:
        labels = row.labels
        bandwidth = None if labels.bandwidth_hz is None else labels.bandwidth_hz / 1000
        values: list[Cell] = [row.key, labels.speaker, labels.snr_db, labels.noise]
        values += [bandwidth, gained]
        main = row.values[MAIN]
        values += [main.get(s, {}).get(name, math.nan) for name in names for s in systems]
        lines.append(_row([_text(value) for value in values], values))
    told = f"<p>{len(ranked)} of {len(rows)} pairs, the worst first; click on a head to sort.</p>"
    return told + _table(head, lines)


def _text(value: Cell) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return value if isinstance(value, str) else f"{round(value, 3) + 0.0:.3f}"


def _group_tree(groups: Mapping[str, Findings]) -> dict[str, Any]:
    """Return what the script draws a chosen figure's breakdown from."""
    tree: dict[str, Any] = {}
    for group, values in groups.items():
        for value, findings in values.items():
            head, picks = columns(findings)
            for finding in findings:
                cells = {name: pick(finding) for name, pick in zip(head, picks, strict=True)}
                pairs = max(e.pairs for e in finding.systems.values())
                speakers = max(e.speakers for e in finding.systems.values())
                line = {"value": value, "pairs": pairs, "speakers": speakers, "cells": cells}
                tree.setdefault(group, {}).setdefault(finding.name, []).append(line)
    return tree


def _data_block(tree: Any) -> str:
    """Return JSON that cannot end the element it stands in."""
    return json.dumps(tree).replace("<", "\\u003c")


def _meaning(finding: Finding) -> str:
    figure = FIGURES[finding.name]
    return (
        f"<dt>{escape(finding.name)}, {escape(figure.unit)}</dt>"
        f"<dd>{escape(figure.meaning)}; {figure.better} is better</dd>"
    )
