"""Levels around each bin of a live spectrum, a frame at a time."""

import numpy as np
from numpy.typing import NDArray

from timbre.models.levels import LocalLevel
from timbre.models.spectral_by_hop import BINS, frames_of
from timbre.restore.live.products import Array

LiveSpectrum = NDArray[np.complex64]


class Spread:
    """``LocalLevel``'s mean over bins, from sums up to each bin; and over how many frames one goes."""

    def __init__(self, around: LocalLevel) -> None:
        half = around.over_bins.kernel_size[1] // 2  # type: ignore[index]
        bins = np.arange(BINS)
        self.first, self.last = np.maximum(bins - half, 0), np.minimum(bins + half + 1, BINS)
        self.counts = (self.last - self.first) * frames_of(around)
        self.frames = frames_of(around)


class LiveLevel:
    """``LocalLevel`` of one stream, which remembers its last frames."""

    def __init__(self, spread: Spread) -> None:
        self._spread, self._frames = spread, np.zeros((spread.frames, BINS), np.float32)

    def __call__(self, sums: NDArray[np.float64]) -> Array:
        """Return the level around each bin of the newest frame, whose powers ``sums`` adds up."""
        spread, frames = self._spread, self._frames
        frames[:-1] = frames[1:]
        frames[-1] = (sums[spread.last] - sums[spread.first]) / spread.counts
        mean = np.add.reduce(frames, axis=0)
        np.maximum(mean, np.float32(1e-20), out=mean)
        level: Array = np.sqrt(mean, out=mean)
        return level


def bin_power(spectrum: LiveSpectrum) -> Array:
    """Return the squared magnitudes."""
    power: Array = spectrum.real * spectrum.real
    power += spectrum.imag * spectrum.imag
    return power


def add_up(power: Array, sums: NDArray[np.float64]) -> None:
    """Put the sums of the powers before each bin into ``sums`` ``(bins + 1,)``, the first of them 0.

    In double precision: each local level is a difference of two.
    """
    np.cumsum(power, dtype=np.float64, out=sums[1:])
