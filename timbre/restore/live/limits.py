"""The limits of the spectral generator, a frame at a time."""

import numpy as np
from numpy.typing import NDArray

from timbre.models.limits import KNEE, LARGEST, TOP, lift_of
from timbre.models.spectral_by_hop import BINS
from timbre.restore.live.levels import LiveLevel, Spectrum, Spread, add_up, bin_power
from timbre.restore.live.products import Array


class LiveLimits:
    """``SpectralGenerator.limited`` of one stream.

    Most bins lie below the knees and cost no more than the look at them.
    """

    def __init__(self, near: Spread, max_lift_db: float | None, limits_change: bool) -> None:
        self._limits_change = limits_change
        self._lift = None if max_lift_db is None else lift_of(max_lift_db)
        self._removed = LiveLevel(near)
        self._sums = np.zeros(BINS + 1)

    def __call__(
        self, change: Spectrum, spectrum: Spectrum, near: Array, noisy: Spectrum | None
    ) -> None:
        """Bring the change of a spectrum ``(481,)`` within the limits, in place."""
        if self._limits_change and noisy is not None:
            add_up(bin_power(noisy - spectrum), self._sums)
            most = self._removed(self._sums)
            if bin_power(noisy).any():
                bins, bent = _bend(change, most, KNEE)
                change[bins] = bent
        if self._lift is not None:
            most = np.float32(self._lift.factor) * np.maximum(near, np.sqrt(bin_power(spectrum)))
            bins, bent = _bend(spectrum + change, most, self._lift.knee)
            change[bins] = bent - spectrum[bins]


def _bend(spectrum: Spectrum, most: Array, knee: float) -> tuple[NDArray[np.intp], Spectrum]:
    """Return the bins above the knee, and what they are bent to, as in ``timbre.models.limits``."""
    parts = spectrum.view(np.float32).reshape(-1, 2) / most[:, None]
    np.clip(parts, -LARGEST, LARGEST, out=parts)
    scaled: Spectrum = parts.view(np.complex64)[:, 0]
    squared = bin_power(scaled)
    bins = np.flatnonzero(squared > np.float32(knee**2))
    ratio = np.sqrt(squared[bins])
    room = np.float32(TOP - knee)
    over = (ratio - np.float32(knee)) / room
    factor = np.float32(knee) + room * over / np.sqrt(1 + over * over)
    return bins, scaled[bins] * (most[bins] * factor / ratio)
