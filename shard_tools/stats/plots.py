"""Pictures of what a manifest holds, one PNG a question; needs matplotlib."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, MaxNLocator

from shard_tools.stats.quantities import (
    QUANTITIES,
    TOP_SPEAKERS,
    Metas,
    bin_edges,
    collect,
    speaker_hours,
)
from timbre import storage
from timbre.shards import Manifest

# Okabe and Ito's colours: told apart by the colour-blind, and in grey.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
REST_COLOUR = "#999999"
DPI = 110
PANEL_INCHES = (6.4, 4.0)
# Beside a bar of all other speakers the thirty largest would be invisible.
LONGEST_BAR = 1.25
MAX_POINTS = 5000
FEW_BINS = 5
NAME_LETTERS = 24

# File name -> the figures side by side in it, each with its title.
HISTOGRAMS = {
    "durations": [("duration", "Duration of pairs")],
    "snr": [("snr_asked", "SNR asked for"), ("snr_reached", "SNR reached")],
    "offsets": [("offset", "Offset of degraded to clean"), ("confidence", "Its confidence")],
    "bandwidth": [("bandwidth", "Bandwidth of the clean side")],
    "levels": [
        ("clean_level", "Level of the clean side"),
        ("kept_level", "What the denoiser kept of it"),
    ],
    "rooms": [("rt60", "Reverberation time")],
}
LABELS = {
    "duration": "seconds",
    "snr_asked": "dB",
    "snr_reached": "dB",
    "offset": "samples at 48 kHz",
    "confidence": "0 is chance, 1 is certain",
    "bandwidth": "kHz",
    "clean_level": "dBFS, where speech is active",
    "kept_level": "dB, degraded over clean where speech is active",
    "rt60": "seconds, pairs in a room only",
}


def draw(folder: str, manifest: Manifest, metas: Metas) -> list[str]:
    """Write the pictures into a folder; return their URLs. What no pair has is left out."""
    parts = {split: part for split, part in metas.items() if part}
    pictures = {name: _histograms(name, parts) for name in HISTOGRAMS}
    pictures["snr_reached_by_asked"] = _snr_scatter(parts)
    pictures["speakers"] = _speakers(parts)
    pictures["refused_pairs"] = _refusals(manifest)
    return [
        _save(storage.join(folder, f"{name}.png"), canvas)
        for name, canvas in pictures.items()
        if canvas is not None
    ]


def _histograms(name: str, metas: Metas) -> Canvas | None:
    of = {figure.name: figure for figure in QUANTITIES}
    panels = []
    for figure_name, title in HISTOGRAMS[name]:
        values = {split: collect(of[figure_name], part) for split, part in metas.items()}
        if any(values.values()):
            panels.append((values, title, LABELS[figure_name]))
    if not panels:
        return None
    canvas, axes = _canvas(len(panels))
    for panel, (values, title, label) in zip(axes, panels, strict=True):
        _histogram(panel, values)
        _label(panel, title, label, "share of the split's pairs")
    return canvas


def _histogram(panel: Axes, values: Mapping[str, Sequence[float]]) -> None:
    """Draw each split as a share of itself, over common bins: validation is small."""
    all_values = [value for part in values.values() for value in part]
    edges = np.asarray(bin_edges(all_values))
    for split, colour in _with_colours(values):
        part = values[split]
        if not part:
            continue
        shares = np.histogram(np.asarray(part), edges)[0] / len(part)
        panel.stairs(shares, edges, fill=True, color=colour, alpha=0.25)
        panel.stairs(
            shares, edges, color=colour, linewidth=1.6, label=f"{split} ({_pairs(len(part))})"
        )
    panel.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
    panel.set_ylim(bottom=0)
    if len(edges) <= FEW_BINS:  # a wall from side to side says nothing
        room = FEW_BINS * (edges[1] - edges[0])
        panel.set_xlim(edges[0] - room, edges[-1] + room)
    panel.legend(frameon=False)


def _snr_scatter(metas: Metas) -> Canvas | None:
    """Draw what the mixture reached against what was asked, and what the quality gate measured."""
    if not metas:
        return None
    canvas, (panel, stored_panel) = _canvas(2)
    for split, colour in _with_colours(metas):
        part = metas[split]
        rows = part[:: -(-len(part) // MAX_POINTS)]
        snrs_db = [meta.snr_db for meta in rows]
        snrs_reached_db = [meta.snr_reached_db for meta in rows]
        _points(panel, snrs_db, snrs_reached_db, colour, split)
        checked_metas = [meta for meta in rows if "snr_db" in meta.quality]
        _points(
            stored_panel,
            [meta.snr_db for meta in checked_metas],
            [meta.quality["snr_db"] for meta in checked_metas],
            colour,
            split,
        )
    _label(panel, "SNR of the mixture", "asked for (dB)", "reached (dB)")
    _label(
        stored_panel,
        "SNR against the stored clean side",
        "asked for (dB)",
        "measured, rooms count (dB)",
    )
    for one in (panel, stored_panel):
        one.axline((0, 0), slope=1, color=REST_COLOUR, linewidth=0.8, zorder=0)
        one.legend(frameon=False, loc="upper left", markerscale=2)
    return canvas


def _points(panel: Axes, x: Sequence[float], y: Sequence[float], colour: str, split: str) -> None:
    panel.scatter(
        x, y, s=8, alpha=0.5, color=colour, linewidths=0, label=f"{split} ({_pairs(len(x))})"
    )


def _speakers(metas: Metas) -> Canvas | None:
    hours = {split: speaker_hours(part) for split, part in metas.items()}
    colours = dict(_with_colours(hours))
    bars = [
        (name, value, colours[split]) for split, c in hours.items() for name, value in c.items()
    ]
    if not bars:
        return None
    bars.sort(key=lambda bar: -bar[1])
    top, rest = bars[:TOP_SPEAKERS], bars[TOP_SPEAKERS:]
    if rest:
        top.append((f"{len(rest)} others", sum(bar[1] for bar in rest), REST_COLOUR))
    canvas, (panel,) = _canvas(1, height=1.4 + 0.24 * len(top))
    places = np.arange(len(top))
    panel.barh(places, [bar[1] for bar in top], color=[bar[2] for bar in top], height=0.75)
    limit = LONGEST_BAR * bars[0][1]
    for place, (_, value, _) in zip(places, top, strict=True):
        if value > limit:  # only the others can
            panel.text(
                limit, place, f"{value:.3g} h → ", va="center", ha="right", fontsize=8, color="w"
            )
        else:
            panel.text(value, place, f" {value:.3g} h", va="center", fontsize=8)
    panel.set_yticks(places, [_short(bar[0]) for bar in top], fontsize=8)
    panel.invert_yaxis()
    panel.set_xlim(0, limit)
    panel.margins(y=0.01)
    for split, colour in colours.items():
        panel.barh([0], [0], color=colour, label=f"{split} ({len(hours[split])} speakers)")
    canvas.legend(frameon=False, loc="outside lower center", ncols=len(colours))
    _label(panel, "Speakers with the most hours", "hours of pairs looked at", "")
    return canvas


def _refusals(manifest: Manifest) -> Canvas | None:
    if not manifest.rejected:
        return None
    reasons = sorted(manifest.rejected.items(), key=lambda item: -item[1])
    good_pairs = sum(shard.pairs for entries in manifest.splits.values() for shard in entries)
    pairs_in_plan = good_pairs + sum(manifest.rejected.values())
    canvas, (panel,) = _canvas(1, height=1.6 + 0.35 * len(reasons))
    places = np.arange(len(reasons))
    panel.barh(places, [pairs for _, pairs in reasons], color=COLOURS[0], height=0.7)
    for place, (_, pairs) in zip(places, reasons, strict=True):
        panel.text(pairs, place, f" {pairs} ({100 * pairs / pairs_in_plan:.2g} %)", va="center")
    panel.set_yticks(places, [reason for reason, _ in reasons])
    panel.invert_yaxis()
    panel.set_xlim(0, LONGEST_BAR * reasons[0][1])
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    _label(panel, f"Refused pairs, by reason, of {pairs_in_plan} planned", "pairs", "")
    return canvas


def _canvas(panels: int, height: float = PANEL_INCHES[1]) -> tuple[Canvas, Sequence[Axes]]:
    canvas = Canvas(figsize=(PANEL_INCHES[0] * panels, height), layout="constrained")
    FigureCanvasAgg(canvas)
    return canvas, canvas.subplots(1, panels, squeeze=False)[0]


def _label(panel: Axes, title: str, x: str, y: str) -> None:
    panel.set_title(title)
    panel.set_xlabel(x)
    panel.set_ylabel(y)
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="x" if not y else "both", color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)


def _with_colours(splits: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield every split with its colour, the same in all pictures."""
    return zip(splits, cycle(COLOURS), strict=False)


def _pairs(count: int) -> str:
    return f"{count} pair{'' if count == 1 else 's'}"


def _short(name: str) -> str:
    return name if len(name) <= NAME_LETTERS else "…" + name[1 - NAME_LETTERS :]


def _save(url: str, canvas: Canvas) -> str:
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png", dpi=DPI)
    storage.publish(url, buffer.getvalue())
    return url
