"""The curves of a bake-off: what TensorBoard has of each run, over the CPU time that it had used."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

# Okabe and Ito's colours: told apart by the colour-blind, and in grey.
COLOURS = ("#0072B2", "#E69F00")
PANELS = {
    "score": "score (DeepFilterNet3: 1), lower is better",
    "mel_distance": "mel distance, dB, lower is better",
    "lsd_0_8k": "LSD 0-8 kHz, dB, lower is better",
    "lsd_8_24k": "LSD 8-24 kHz, dB, lower is better",
    "si_sdr": "SI-SDR, dB, higher is better",
    "pesq": "PESQ-WB, MOS, higher is better",
}
COLUMNS = 3
PANEL_INCHES = (4.0, 3.0)
DPI = 100


class Curve(NamedTuple):
    """A scalar of a run at its steps, and the CPU minutes that the run had used when it was told."""

    steps: list[int]
    minutes: list[float]
    values: list[float]


def read_curves(run_dir: Path, clock: Path) -> dict[str, Curve]:
    """Return every scalar of a run.

    Args:
        run_dir: a run's folder.
        clock: lines of ``[seconds since 1970, CPU seconds]``, between which is interpolated.
    """
    wall, cpu = np.array([json.loads(line) for line in clock.read_text().splitlines()]).T
    events = EventAccumulator(str(run_dir / "tensorboard"), {"scalars": 0})
    events.Reload()
    curves = {}
    for tag in events.Tags()["scalars"]:
        points = events.Scalars(tag)
        minutes = np.interp([event.wall_time for event in points], wall, cpu) / 60
        steps, values = [event.step for event in points], [event.value for event in points]
        curves[tag] = Curve(steps, minutes.tolist(), values)
    return curves


def draw(
    runs: Mapping[str, Mapping[str, Curve]], ramps: Mapping[str, int], title: str, path: Path
) -> None:
    """Write a PNG with one panel for each of ``PANELS`` that the runs have.

    Args:
        runs: the curves of each generator.
        ramps: the step from which each generator hears the discriminator, marked by a dotted line.
        title: what is written over all panels.
        path: of the PNG.
    """
    figures = [name for name in PANELS if all(f"val/{name}" in curves for curves in runs.values())]
    rows = -(-len(figures) // COLUMNS)
    width, height = PANEL_INCHES
    canvas = Figure(figsize=(COLUMNS * width, rows * height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(canvas)
    for number, figure in enumerate(figures):
        axes = canvas.add_subplot(rows, COLUMNS, number + 1)
        _panel(axes, figure, runs, ramps)
        if number == 0:
            axes.legend(fontsize=8)
    canvas.suptitle(title, fontsize=10)
    canvas.savefig(path)


def _panel(
    axes: Axes, figure: str, runs: Mapping[str, Mapping[str, Curve]], ramps: Mapping[str, int]
) -> None:
    """Draw one figure of both runs; both start as the identity, at DeepFilterNet3's own level."""
    for colour, (name, curves) in zip(COLOURS, runs.items(), strict=True):
        curve, degraded = curves[f"val/{figure}"], curves.get(f"val/degraded/{figure}")
        level = degraded.values[-1] if degraded else 1.0
        axes.plot([0, *curve.minutes], [level, *curve.values], "o-", ms=3, color=colour, label=name)
        loss = curves["g/loss"]
        begins = float(np.interp(ramps[name], loss.steps, loss.minutes))
        axes.axvline(begins, color=colour, ls=":", lw=1)
    axes.axhline(level, color="black", ls="--", lw=1, label="DeepFilterNet3")
    axes.set_title(PANELS[figure], fontsize=9)
    axes.set_xlabel("CPU minutes", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
