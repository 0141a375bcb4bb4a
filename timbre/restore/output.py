"""What a restored signal is made of, and what can be restored at all."""

from typing import NamedTuple

import numpy as np

from timbre.audio import SAMPLE_RATE, Wave, check_rates
from timbre.errors import AudioError

# How much goes from stage to stage.
BLOCK_SECONDS = 5.0


class Wanted(NamedTuple):
    """What the output is made of.

    strength: the share of the correction; 0 gives the denoiser's output exactly.
    dry: the share of the input, in phase; 1 gives the input exactly.
    rate: of the output in Hz; None for that of the input.
    """

    strength: float = 1.0
    dry: float = 0.0
    rate: int | None = None


def check_waveform(array: Wave) -> None:
    """Raise AudioError for what is no waveform."""
    finite = np.issubdtype(array.dtype, np.floating) and np.isfinite(array).all()
    if array.ndim not in (1, 2, 3) or array.size == 0 or not finite:
        raise AudioError(
            f"waveform of shape {array.shape} and type {array.dtype}: expected finite floats "
            "(samples,), (channels, samples) or (batch, channels, samples)"
        )


def check_wanted(wanted: Wanted, sample_rate: int) -> None:
    """Raise AudioError for shares beyond 0 to 1, and for rates that cannot be brought together."""
    for name, share in (("strength", wanted.strength), ("dry", wanted.dry)):
        if not 0 <= share <= 1:
            raise AudioError(f"{name} {share}: expected 0 to 1")
    rate = sample_rate if wanted.rate is None else wanted.rate
    for hertz in (sample_rate, rate):
        if not isinstance(hertz, int | np.integer) or hertz < 1:
            raise AudioError(f"sample rate {hertz} Hz: expected a whole number of at least 1")
        check_rates(hertz, SAMPLE_RATE)
    check_rates(sample_rate, rate)


def block_size(sample_rate: int) -> int:
    """Return how many samples go from stage to stage at a rate."""
    return max(round(BLOCK_SECONDS * sample_rate), 1)
