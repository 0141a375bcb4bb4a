"""Spectrograms above each other in one picture, with seconds and kHz on the axes."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from timbre.audio.spectrogram import LEVELS, RANGE_DB, picture
from timbre.audio.waveform import SAMPLE_RATE

Picture = NDArray[np.uint8]

WIDTH, HEIGHT = 1000, 180
LEFT, TOP, GAP, BOTTOM, RIGHT = 50, 24, 30, 36, 16
PAPER, INK = (255, 255, 255), (20, 20, 20)
KILOHERTZ = (0, 4, 8, 12, 16, 20, 24)
STEPS_SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120)
MOST_TICKS = 12
# A change is blue where sound became quieter, red where louder; this much is the full colour.
CHANGE_DB = 24.0
LOUDER, QUIETER = (200, 20, 20), (20, 60, 200)


class Panel(NamedTuple):
    """A picture ``(height, width, 3)``, 0 Hz at the bottom, and what is written above it."""

    title: str
    picture: Picture


def level_panel(title: str, levels: Picture) -> Panel:
    """Return a spectrogram's panel, of levels as :func:`timbre.audio.spectrogram.levels` gives."""
    return Panel(title, picture(levels))


def change_panel(title: str, before: Picture, after: Picture) -> Panel:
    """Return where one spectrogram is louder (red) and quieter (blue) than another, of their levels."""
    change_db = (after.astype(np.float64) - before) * RANGE_DB / (LEVELS - 1)
    share = np.clip(np.abs(change_db) / CHANGE_DB, 0, 1)[..., None]
    colour = np.where(change_db[..., None] > 0, LOUDER, QUIETER)
    return Panel(title, ((1 - share) * PAPER + share * colour).round().astype(np.uint8))


def to_png(panels: Sequence[Panel], seconds: float) -> bytes:
    """Return panels of one stretch of sound above each other, as a PNG file."""
    height = TOP + len(panels) * (HEIGHT + GAP) - GAP + BOTTOM
    image = Image.new("RGB", (LEFT + WIDTH + RIGHT, height), PAPER)
    draw = ImageDraw.Draw(image)
    for number, panel in enumerate(panels):
        top = TOP + number * (HEIGHT + GAP)
        scaled = Image.fromarray(panel.picture).resize((WIDTH, HEIGHT), Image.Resampling.BOX)
        image.paste(scaled, (LEFT, top))
        _text(draw, LEFT, top - 16, panel.title)
        for kilohertz in KILOHERTZ:
            y = top + HEIGHT * (1 - kilohertz * 2000 / SAMPLE_RATE)
            draw.line([(LEFT - 4, y), (LEFT - 1, y)], INK)
            _text(draw, LEFT - 40, y - 6, f"{kilohertz:2d}" + (" kHz" if kilohertz == 24 else ""))
        for tick in _ticks(seconds):
            x = LEFT + WIDTH * tick / seconds
            draw.line([(x, top + HEIGHT), (x, top + HEIGHT + 3)], INK)
    bottom = height - BOTTOM + 6
    for tick in _ticks(seconds):
        _text(draw, LEFT + WIDTH * tick / seconds - 6, bottom, f"{tick:g} s")
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _ticks(seconds: float) -> list[float]:
    """Return round times from 0 to the end."""
    step = next((s for s in STEPS_SECONDS if seconds / s <= MOST_TICKS), STEPS_SECONDS[-1])
    return [number * step for number in range(int(seconds / step) + 1)]


def _text(draw: ImageDraw.ImageDraw, x: float, y: float, text: str) -> None:
    draw.text((x, y), text, INK, font=ImageFont.load_default())
