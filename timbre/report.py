"""What the figures of many pairs say together: confidence, verdicts, a table, one HTML page.

Intervals are bootstrapped over pairs; a verdict needs the interval of the paired difference to lie
clear of zero. The page holds everything it shows: a browser that opens it loads nothing else.
"""

import base64
import csv
import io
import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from timbre import audio
from timbre.audio import SAMPLE_RATE, Wave
from timbre.telemetry import spectrogram

CONFIDENCE = 0.95
RESAMPLES = 2000
SEED = 0
# Fewer pairs, even if all agree, are no evidence at 5 %: a sign test of five has p = 2 / 2**5.
FEWEST_PAIRS = 6
# Nor is a difference that the table shows as zero, however sure it is: rounding does that.
NEGLIGIBLE = 5e-4

# The page shows six pairs of four waveforms each: at this length it takes about 30 MB.
SHOWN_SECONDS = 6
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_RGB = 2  # colour type: red, green and blue of every pixel

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>timbre evaluate</title>
<style>
body {{ font: 15px/1.5 sans-serif; margin: 2em auto; max-width: 82em; padding: 0 1em; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .3em .8em; border-bottom: 1px solid #ccc; text-align: left; }}
.better {{ color: #06621f; font-weight: bold; }}
.worse {{ color: #a40000; font-weight: bold; }}
.pair {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(16em, 1fr)); gap: 1em; }}
figure {{ margin: 0; }}
img {{ width: 100%; height: 14em; }}
audio {{ width: 100%; }}
</style>
</head>
<body>
<h1>timbre evaluate</h1>
{facts}
<div class="wide">
{table}
</div>
<p>Means over pairs with {confidence:.0%} intervals, bootstrapped as if pairs were independent; the
difference is restored minus degraded, pair by pair.</p>
{examples}
</body>
</html>
"""

Direction = Literal["higher", "lower"]
Verdict = Literal["better", "worse", "undecided"]


class Measured(NamedTuple):
    """The figures of one pair: system -> figure -> value, NaN where there is none."""

    key: str
    seconds: float
    figures: dict[str, dict[str, float]]


class Estimate(NamedTuple):
    """A mean over pairs and its confidence interval; None where no pair has the figure."""

    mean: float | None
    low: float | None
    high: float | None
    pairs: int
    left_out: int

    def __str__(self) -> str:
        """Return ``mean [low, high]``."""
        # Adding 0.0 turns -0.0 into 0.0.
        mean, low, high = (None if x is None else round(x, 3) + 0.0 for x in self[:3])
        return "none" if mean is None else f"{mean:.3f} [{low:.3f}, {high:.3f}]"


class Finding(NamedTuple):
    """What all pairs say of one figure; there is no difference where only one system ran."""

    name: str
    unit: str
    better: Direction
    systems: dict[str, Estimate]
    difference: Estimate | None
    verdict: Verdict | None


class Example(NamedTuple):
    """A pair to look at and listen to: its waveforms ``(samples,)`` by name."""

    title: str
    waves: Mapping[str, Wave]


def estimate(values: NDArray[np.float64]) -> Estimate:
    """Return the mean of ``(pairs,)`` values and its bootstrap interval; NaNs are left out."""
    found = values[np.isfinite(values)]
    left_out = len(values) - len(found)
    if not len(found):
        return Estimate(None, None, None, 0, left_out)
    rng = np.random.default_rng(SEED)
    means = [found[rng.integers(len(found), size=len(found))].mean() for _ in range(RESAMPLES)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Estimate(float(found.mean()), float(low), float(high), len(found), left_out)


def judge(difference: Estimate, better: Direction) -> Verdict:
    """Return whether a paired difference is for the better, as far as its interval tells."""
    if difference.low is None or difference.high is None or difference.pairs < FEWEST_PAIRS:
        return "undecided"
    if difference.low <= NEGLIGIBLE and difference.high >= -NEGLIGIBLE:
        return "undecided"
    return "better" if (difference.low > 0) == (better == "higher") else "worse"


def to_table(findings: Sequence[Finding]) -> list[list[str]]:
    """Return the cells that terminal and page show, the head first."""
    table = [["figure", "unit", "better if", "pairs", *findings[0].systems]]
    compared = findings[0].difference is not None
    if compared:
        table[0] += ["difference", "verdict"]
    for finding in findings:
        pairs = min(system.pairs for system in finding.systems.values())
        row = [finding.name, finding.unit, finding.better, str(pairs)]
        row += map(str, finding.systems.values())
        if compared:
            row += [str(finding.difference), str(finding.verdict)]
        table.append(row)
    return table


def to_text(table: Sequence[Sequence[str]]) -> str:
    """Return a table's cells in aligned columns."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def to_csv(rows: Sequence[Measured]) -> str:
    """Return one line a pair and system; a figure that a pair does not have is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(next(iter(rows[0].figures.values())))
    writer.writerow(["pair", "system", "seconds", *names])
    for row in rows:
        for system, figures in row.figures.items():
            cells = ["" if math.isnan(figures[name]) else figures[name] for name in names]
            writer.writerow([row.key, system, row.seconds, *cells])
    return text.getvalue()


def to_json(findings: Sequence[Finding], facts: Mapping[str, Any]) -> bytes:
    """Return the facts, every system's means and the differences with their verdicts."""
    systems = {
        system: {finding.name: finding.systems[system]._asdict() for finding in findings}
        for system in findings[0].systems
    }
    difference = {
        finding.name: {**finding.difference._asdict(), "verdict": finding.verdict}
        for finding in findings
        if finding.difference is not None
    }
    tree = {**facts, "systems": systems, "restored_minus_degraded": difference}
    return json.dumps(tree, indent=2, allow_nan=False).encode()


def to_html(
    facts: Sequence[str], table: Sequence[Sequence[str]], examples: Sequence[Example]
) -> str:
    """Return the page; all text that is passed in is escaped."""
    head, *rows = table
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    # Verdicts are coloured by class; other words have no rule.
    lines += ["".join(f'<td class="{escape(c)}">{escape(c)}</td>' for c in row) for row in rows]
    return PAGE.format(
        confidence=CONFIDENCE,
        facts="\n".join(f"<p>{escape(fact)}</p>" for fact in facts),
        table="<table>\n" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "\n</table>",
        examples="\n".join(map(_html_example, examples)),
    )


def png(picture: NDArray[np.uint8]) -> bytes:
    """Return ``(height, width, 3)`` red, green and blue as a PNG file."""
    height, width, _ = picture.shape
    header = struct.pack(">IIBBBBB", width, height, 8, PNG_RGB, 0, 0, 0)
    # Every row begins with its filter: 0, none.
    rows = np.pad(picture.reshape(height, -1), ((0, 0), (1, 0)))
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")]
    return PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def _html_example(example: Example) -> str:
    figures = "\n".join(_html_wave(name, wave) for name, wave in example.waves.items())
    return f'<h2>{escape(example.title)}</h2>\n<div class="pair">\n{figures}\n</div>'


def _html_wave(name: str, wave: Wave) -> str:
    shown = wave[: SHOWN_SECONDS * SAMPLE_RATE]
    # Every second bin: a window's main lobe is four bins wide.
    picture = _data_uri("image/png", png(spectrogram(shown)[::2]))
    sound = _data_uri("audio/wav", audio.encode(shown, SAMPLE_RATE))
    label = escape(name)
    return (
        f"<figure><figcaption>{label}</figcaption>"
        f'<img alt="spectrogram, {label}, 0 to 24 kHz" src="{picture}">'
        f'<audio controls src="{sound}"></audio></figure>'
    )


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
