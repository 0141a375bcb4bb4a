"""Up to which frequency does a recording hold speech?

A codec's low-pass or an old sample rate leaves nothing above it; a network that is asked to match that
learns to cut. So every clip's bandwidth is measured, and where in doubt the answer is the lower one.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from timbre.audio import SAMPLE_RATE, Wave

BandLevels = NDArray[np.float32]

N_FFT = 2048
LEVEL_HOP = 1024
BINS_PER_BAND = 8
BAND_HZ = BINS_PER_BAND * SAMPLE_RATE / N_FFT
LOWEST_HZ = 2000.0
# The frames in which the bands just below are strongest show whether the next band is passed on.
STRONG_SHARE = 0.03
BANDS_BELOW = 8
OFTEN_MARGIN_DB = 10.0
QUIET_SHARE = 0.1
# Speech stands out of the pauses by this much, and is this far under the speaker's loudest band at most.
ABOVE_PAUSES_DB = 10.0
UNDER_LOUDEST_DB = 65.0
# So many bands in a row without speech end it: a gap between two formants does not.
ABSENT_BANDS = 5
SILENCE_DB = -70.0
# What 16-bit rounding leaves in a band.
ROUNDING_DB = -121.0


def bandwidth_hz(wave: Wave) -> float:
    """Return the frequency above which the clip ``(samples,)`` at 48 kHz holds no speech, in Hz.

    24000 is full band; 0 is a clip without content: no band louder than -70 dBFS, or under 43 ms. Below
    2 kHz nothing is searched. A stationary noise floor is no content: speech cut at 8 kHz under hiss
    gives about 8000. Codecs and resamplers cut sharply and are found to within 250 Hz, or too low
    under loud hiss. A gentle slope is no cut: its answer is where speech sinks into the floor, or
    65 dB under the loudest band.
    """
    return bandwidth_of_levels(band_levels(wave))


def band_levels(wave: Wave) -> BandLevels:
    """Return the level in dBFS of each frame and band of ``(samples,)``, ``(frames, bands)``."""
    if len(wave) < N_FFT:
        return np.empty((0, N_FFT // 2 // BINS_PER_BAND), np.float32)
    frames = torch.from_numpy(wave).unfold(0, N_FFT, LEVEL_HOP) * torch.hann_window(N_FFT)
    spectrum = torch.fft.rfft(frames)[:, 1:]
    power = (spectrum.real**2 + spectrum.imag**2).unflatten(1, (-1, BINS_PER_BAND)).sum(dim=2)
    # A Hann window's mean square is 3/8.
    levels: BandLevels = (10.0 * torch.log10(power * (2.0 / (N_FFT**2 * 0.375)) + 1e-20)).numpy()
    return levels


def bandwidth_of_levels(levels: BandLevels) -> float:
    """Return :func:`bandwidth_hz` of a clip from its :func:`band_levels`, in any number of pieces."""
    if not len(levels):
        return 0.0
    strong = _strong_levels(levels)
    if strong.max() < SILENCE_DB:
        return 0.0
    pauses = np.maximum(np.quantile(levels, QUIET_SHARE, axis=0), ROUNDING_DB)
    present = (strong > pauses + ABOVE_PAUSES_DB) & (strong > strong.max() - UNDER_LOUDEST_DB)
    gap = _first_gap(present)
    # The band before the gap may be cut in its midst.
    return (gap if gap == len(present) else gap - 1) * BAND_HZ


def _strong_levels(levels: BandLevels) -> BandLevels:
    """Return each band's level ``(bands,)`` in the frames in which the bands below it are strongest.

    A codec may pass the highs in one frame and drop them in the next, and many clips have their
    highs in a few frames only; both are seen where there was something to pass.
    """
    count = max(4, round(STRONG_SHARE * len(levels)))
    power = np.cumsum(
        np.pad(
            10.0 ** (levels.astype(np.float64) / 10.0), ((0, 0), (BANDS_BELOW + 1, 0)), mode="edge"
        ),
        axis=1,
    )
    below = power[:, BANDS_BELOW:-1] - power[:, : -BANDS_BELOW - 1]
    frames = np.argsort(below, axis=0)[-count:]
    through_db = np.median(np.take_along_axis(levels, frames, axis=0), axis=0)
    # A codec may also drop a band in just those frames and pass it in others.
    often_db = np.quantile(levels, 1 - STRONG_SHARE, axis=0) - OFTEN_MARGIN_DB
    return np.asarray(np.maximum(through_db, often_db), np.float32)


def _first_gap(present: NDArray[np.bool_]) -> int:
    """Return the first band, past the lowest, that begins a run of bands without speech."""
    start = int(LOWEST_HZ / BAND_HZ)
    padded = np.concatenate([present[start:], np.ones(ABSENT_BANDS - 1, dtype=bool)])
    runs = np.lib.stride_tricks.sliding_window_view(padded, ABSENT_BANDS)
    gaps = np.flatnonzero(~runs.any(axis=1))
    return start + int(gaps[0]) if len(gaps) else len(present)
