"""Sibilants: s, sh and z have most of their energy where denoisers cut first."""

import math

import torch
from torch import Tensor

from timbre.audio.spectra import Stft, bin_power

LOW_HZ, HIGH_HZ = 5000.0, 12_000.0
# A fricative has more energy in that band than below.
BELOW_HZ = 4000.0
# A frame this far under the loudest sibilant is no sibilant, and an estimate counts as no lower.
RANGE_DB, FLOOR_DB = 25.0, 40.0
# Fewer frames of 10 ms say nothing.
FEWEST_FRAMES = 5
N_FFT, STFT_HOP = 1024, 480


def sibilant_error(estimate: Tensor, reference: Tensor, counted_hz: float) -> float:
    """Return by how many dB the level of sibilants is wrong, as a mean over their frames.

    NaN where the reference has too few of them, or its bandwidth ends below 8 kHz.

    Args:
        estimate: ``(samples,)`` at 48 kHz.
        reference: likewise.
        counted_hz: bandwidth of the reference; what lies above does not count.
    """
    high_hz = min(HIGH_HZ, counted_hz)
    if high_hz < 8000.0:
        return math.nan
    stft = Stft(N_FFT, STFT_HOP)
    powers = [bin_power(stft(side[None].double().cpu()))[0] for side in (estimate, reference)]
    hz = stft.frequencies_hz
    band = (hz >= LOW_HZ) & (hz <= high_hz)
    mine, clean = (power[band].sum(dim=0) for power in powers)
    below = powers[1][hz < BELOW_HZ].sum(dim=0)
    sibilant = clean > below
    if not sibilant.any():
        return math.nan
    peak = clean[sibilant].max()
    sibilant &= clean > peak * 10 ** (-RANGE_DB / 10)
    if int(sibilant.sum()) < FEWEST_FRAMES or peak <= 0:
        return math.nan
    floor = peak * 10 ** (-(RANGE_DB + FLOOR_DB) / 10)
    ratio = mine[sibilant].maximum(floor) / clean[sibilant]
    return float((10 * torch.log10(ratio)).abs().mean())
