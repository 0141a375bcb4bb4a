"""``report.html``: one page that holds all it shows; a browser that opens it loads nothing else.

Text of others (names of files, speakers, checkpoints) is escaped, and only the page's own script
runs: its hash stands in the page's content security policy.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from markupsafe import Markup

from timbre import pages
from timbre.evaluate.figures import FIGURES
from timbre.evaluate.intervals import CONFIDENCE, FEWEST_SPEAKERS
from timbre.evaluate.measure import Row
from timbre.evaluate.report import plots
from timbre.evaluate.report.example import Example, to_view
from timbre.evaluate.report.page_tables import (
    condition_table,
    pairs_note,
    pairs_table,
    stress_table,
)
from timbre.evaluate.stress import tables as stress_tables
from timbre.evaluate.stress.figures import STRESS_FIGURES
from timbre.evaluate.stress.harm import StressRow
from timbre.evaluate.summary import Finding
from timbre.evaluate.tables import Findings, columns

PACKAGE = "timbre.evaluate.report"
SECTIONS = {
    "cases": "Listen and look",
    "plots": "Plots",
    "figures": "Figures",
    "breakdown": "Breakdown",
    "stress": "Stress",
    "pairs": "All pairs",
    "facts": "What was measured",
}


class Content(NamedTuple):
    """All that a page shows.

    Attributes:
        verdicts: sentences.
        facts: of data, systems and troubles, a line each.
        conditions: findings by title.
        groups: findings by what parts the pairs, and its value.
        rows: one a pair.
        examples: pairs to listen to.
        ranked_by: the system whose gain in mel distance tells worst from best.
        stress: rows of the stress table.
    """

    verdicts: Sequence[str]
    facts: Sequence[str]
    conditions: Findings
    groups: Mapping[str, Findings]
    rows: Sequence[Row]
    examples: Sequence[Example]
    ranked_by: str
    stress: Sequence[StressRow] = ()


class Sentence(NamedTuple):
    """A verdict in words, and whether it is ``better``, ``worse`` or neither."""

    text: str
    kind: str


def to_html(content: Content) -> str:
    """Return the page."""
    script, style = (
        files(PACKAGE).joinpath(f"page.{kind}").read_text(encoding="utf-8")
        for kind in ("js", "css")
    )
    main = next(iter(content.conditions.values()), [])
    plots_html = plots.all_plots(main, content.groups.get("snr", {}), content.rows)
    values = {
        # Our own files: not escaped.
        "script": Markup(script),
        "style": Markup(style),
        "script_hash": pages.script_hash(script),
        "sections": list(_sections(content)),
        "verdicts": [Sentence(text, _kind(text)) for text in content.verdicts],
        "facts": content.facts,
        "examples": map(to_view, content.examples) if content.examples else (),
        "conditions": [(title, condition_table(f)) for title, f in content.conditions.items()],
        "confidence": f"{CONFIDENCE:.0%}",
        "fewest": FEWEST_SPEAKERS,
        # Drawn with every name escaped.
        "plots": Markup(plots_html),
        "group_data": _data_block(_group_tree(content.groups)),
        "stress": list(_stress(content.stress)),
        "bounds": [(name, f"{f.bound:g} {f.unit}") for name, f in STRESS_FIGURES.items()],
        "pairs": pairs_table(content.rows, content.ranked_by) if content.rows else None,
        "pairs_note": pairs_note(content.rows, content.ranked_by),
        "meanings": [_meaning(finding) for finding in main],
    }
    return pages.render(PACKAGE, "page.html.j2", values)


def _sections(content: Content) -> Iterator[tuple[str, str]]:
    """Yield what the page has, in its order."""
    present = {
        "cases": content.examples,
        "plots": content.conditions,
        "figures": content.conditions,
        "breakdown": content.conditions,
        "stress": content.stress,
        "pairs": content.rows,
    }
    yield from ((name, title) for name, title in SECTIONS.items() if present.get(name, True))


def _kind(verdict: str) -> str:
    if "HARM" in verdict:
        return "worse"
    return "better" if "HELPS" in verdict or "no harm" in verdict else "undecided"


def _stress(rows: Sequence[StressRow]) -> Iterator[tuple[str, Any]]:
    """Yield a headline and a table of all probes for each system that is judged."""
    if rows:
        systems_of_lines = zip(
            stress_tables.headlines(rows), stress_tables.compared_systems(rows), strict=True
        )
        yield from ((line, stress_table(rows, system)) for line, system in systems_of_lines)


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


def _data_block(tree: Any) -> Markup:
    """Return JSON that cannot end the element it stands in."""
    return Markup(json.dumps(tree).replace("<", "\\u003c"))


def _meaning(finding: Finding) -> tuple[str, str]:
    figure = FIGURES[finding.name]
    return f"{finding.name}, {figure.unit}", f"{figure.meaning}; {figure.better} is better"
