"""The limits of the spectral generator, a frame at a time."""

import math

import numpy as np
from numpy.typing import NDArray

from timbre.models.limits import (
    KNEE,
    LARGEST,
    PAUSE_LEVEL_DB,
    PAUSE_LIFT_DB,
    SPEECH_LEVEL_DB,
    TOP,
    Lift,
    lift_of,
)
from timbre.models.spectral import SpectralGenerator
from timbre.models.spectral_by_hop import BINS
from timbre.restore.live.levels import LiveLevel, LiveSpectrum, Spread, add_up, bin_power
from timbre.restore.live.products import Array


class LiveLimits:
    """``SpectralGenerator.limit`` of one stream.

    Most bins lie below the knees and cost no more than the look at them.
    """

    def __init__(self, near: Spread, generator: SpectralGenerator) -> None:
        self._limits_change, self._limits_pauses = generator.limits_change, generator.limits_pauses
        self._max_lift_db = generator.max_lift_db
        self._removed_level = LiveLevel(near)
        self._sums = np.zeros(BINS + 1)

    def __call__(
        self,
        change: LiveSpectrum,
        spectrum: LiveSpectrum,
        noisy: LiveSpectrum | None,
        near: Array,
        speech_power: float,
    ) -> None:
        """Bring the change of a spectrum ``(481,)`` within the limits, in place.

        Args:
            change: of the spectrum.
            spectrum: the denoised one.
            noisy: the denoiser's input.
            near: the denoised signal's level around each bin.
            speech_power: its mean power over ``PAUSE_FRAMES`` against that of the last two seconds.
        """
        if self._limits_change and noisy is not None:
            add_up(bin_power(noisy - spectrum), self._sums)
            most = self._removed_level(self._sums)
            if bin_power(noisy).any():
                bins, bent = _bend(change, most, KNEE)
                change[bins] = bent
        if self._max_lift_db is not None:
            lift = lift_of(self._max_lift_db)
            if self._limits_pauses:
                lift = _falling_lift(self._max_lift_db, speech_power)
            most = np.float32(lift.factor) * np.maximum(near, np.sqrt(bin_power(spectrum)))
            bins, bent = _bend(spectrum + change, most, float(lift.knee))
            change[bins] = bent - spectrum[bins]


def _falling_lift(max_lift_db: float, speech_power: float) -> Lift:
    """Return ``timbre.models.limits.falling_lift`` of one frame."""
    level_db = 10 * math.log10(max(speech_power, 1e-10))
    speech = (level_db - PAUSE_LEVEL_DB) / (SPEECH_LEVEL_DB - PAUSE_LEVEL_DB)
    return lift_of(PAUSE_LIFT_DB + (max_lift_db - PAUSE_LIFT_DB) * min(max(speech, 0.0), 1.0))


def _bend(
    spectrum: LiveSpectrum, most: Array, knee: float
) -> tuple[NDArray[np.intp], LiveSpectrum]:
    """Return the bins above the knee, and what they are bent to, as in ``timbre.models.limits``."""
    parts = spectrum.view(np.float32).reshape(-1, 2) / most[:, None]
    np.clip(parts, -LARGEST, LARGEST, out=parts)
    scaled: LiveSpectrum = parts.view(np.complex64)[:, 0]
    squared = bin_power(scaled)
    bins = np.flatnonzero(squared > np.float32(knee**2))
    ratio = np.sqrt(squared[bins])
    room = np.float32(TOP - knee)
    over = (ratio - np.float32(knee)) / room
    factor = np.float32(knee) + room * over / np.sqrt(1 + over * over)
    return bins, scaled[bins] * (most[bins] * factor / ratio)
