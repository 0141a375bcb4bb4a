"""Pictures of sound: spectrograms whose colours can be compared."""

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from timbre.audio.spectra import Stft, bin_power
from timbre.audio.waveform import HOP, Wave

# From black over purple and orange to white.
COLOURS = ((0, 0, 0), (60, 15, 110), (180, 50, 90), (250, 150, 40), (255, 255, 220))
LEVELS = 128
RANGE_DB = 90.0
N_FFT = 1024
ROWS = N_FFT // 4
TINY = 1e-12


def peak_power(wave: Wave) -> float:
    """Return the power of the highest bin of ``(samples,)``."""
    return float(_power(wave).max())


def levels(wave: Wave, full: float) -> NDArray[np.uint8]:
    """Return the levels ``(256, frames)`` of ``(samples,)``, 0 to 127 over 90 dB; 0 Hz at the bottom.

    Args:
        wave: ``(samples,)``.
        full: the power of the highest level, as :func:`peak_power` gives it.
    """
    # The louder of two bins: a window's main lobe is four bins wide.
    power = _power(wave)[1:].reshape(ROWS, 2, -1).max(axis=1)
    decibel = 10 * np.log10(np.maximum(power, TINY) / max(full, TINY))
    level = np.clip(1 + decibel / RANGE_DB, 0, 1) * (LEVELS - 1)
    rounded: NDArray[np.uint8] = level.round().astype(np.uint8)[::-1]
    return rounded


def picture(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ``(height, width)`` levels in colours, ``(height, width, 3)``."""
    coloured: NDArray[np.uint8] = palette()[levels]
    return coloured


def png(levels: NDArray[np.uint8]) -> bytes:
    """Return ``(height, width)`` levels as a PNG file: a byte a pixel, its number in the palette."""
    image = Image.fromarray(np.ascontiguousarray(levels), mode="P")
    image.putpalette(palette().tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def palette() -> NDArray[np.uint8]:
    """Return the colour of each level, ``(128, 3)``."""
    place = np.linspace(0, len(COLOURS) - 1, LEVELS)
    anchors = np.array(COLOURS, np.float64)
    columns = [np.interp(place, np.arange(len(COLOURS)), anchors[:, c]) for c in range(3)]
    return np.stack(columns, axis=1).astype(np.uint8)


def _power(wave: Wave) -> NDArray[np.float32]:
    """Return the power spectrum ``(513, frames)`` of ``(samples,)``."""
    power: NDArray[np.float32] = bin_power(Stft(N_FFT, HOP)(torch.from_numpy(wave)[None]))[
        0
    ].numpy()
    return power
