"""Levels in dB: of a whole waveform, and of one that comes in blocks."""

import math

import numpy as np
from numpy.typing import NDArray

from timbre.audio.waveform import Wave

SILENCE_DB = -200.0
# Frames this far under the loudest do not count towards the level of speech.
ACTIVE_RANGE_DB = 40.0
LEVEL_FRAME = 960


def level_db(wave: Wave) -> float:
    """Return the root-mean-square level in dB relative to full scale; digital silence is -200."""
    power = float(np.mean(np.square(wave, dtype=np.float64))) if wave.size else 0.0
    return max(10 * math.log10(power), SILENCE_DB) if power > 0 else SILENCE_DB


def active_level_db(wave: Wave) -> float:
    """Return the level of the 20-ms frames of ``(samples,)`` within 40 dB of the loudest, in dBFS.

    It is the level of speech, whatever the pauses in it.
    """
    meter = ActiveLevel()
    meter.add(wave[None])
    return meter.level_db()[0]


def gain(decibel: float) -> float:
    """Return the factor that changes a level by ``decibel``."""
    return float(10 ** (decibel / 20))


class ActiveLevel:
    """:func:`active_level_db` of every row of a signal that comes in blocks, however it is cut.

    Keeps 8 bytes for each frame of a row: 1.4 MB an hour.
    """

    def __init__(self) -> None:
        self._powers: list[NDArray[np.float64]] = []
        self._rest: Wave | None = None

    def add(self, block: Wave) -> None:
        """Take the next ``(rows, samples)``."""
        joined = block if self._rest is None else np.concatenate([self._rest, block], axis=1)
        whole = joined.shape[1] // LEVEL_FRAME * LEVEL_FRAME
        squares = np.square(joined[:, :whole], dtype=np.float64)
        self._powers.append(squares.reshape(len(joined), -1, LEVEL_FRAME).mean(axis=2))
        self._rest = joined[:, whole:].copy()

    def level_db(self) -> list[float]:
        """Return the level of every row so far."""
        powers = np.concatenate(self._powers, axis=1)
        if powers.shape[1] == 0:
            assert self._rest is not None
            return [level_db(row) for row in self._rest]
        return [_active_db(row) for row in powers]


def _active_db(power: NDArray[np.float64]) -> float:
    active = power[power > power.max() * 10 ** (-ACTIVE_RANGE_DB / 10)]
    if not len(active):
        return SILENCE_DB
    return max(10 * math.log10(active.mean()), SILENCE_DB)
