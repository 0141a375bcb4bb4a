"""Levels in dB: of a whole waveform, of one that comes in blocks, and the working level."""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from timbre.audio.resample import resample_blocks
from timbre.audio.waveform import SAMPLE_RATE, Wave

SILENCE_DB = -200.0
# Frames this far under the loudest do not count towards the level of speech.
SPEECH_RANGE_DB = 40.0
LEVEL_FRAME = 960
# Both networks were trained at this level of speech, and see every signal at it.
WORKING_LEVEL_DB = -25.0
# A silent or nearly silent channel is not raised by more than this.
MAX_GAIN_DB = 60.0


def level_db(wave: Wave) -> float:
    """Return the root-mean-square level in dB relative to full scale; digital silence is -200."""
    power = float(np.mean(np.square(wave, dtype=np.float64))) if wave.size else 0.0
    return max(10 * math.log10(power), SILENCE_DB) if power > 0 else SILENCE_DB


def active_level_db(wave: Wave) -> float:
    """Return the level of the 20-ms frames of ``(samples,)`` within 40 dB of the loudest, in dBFS.

    This is the level of speech, whatever its pauses.
    """
    meter = ActiveLevel()
    meter.add(wave[None])
    return meter.level_db()[0]


def gain(decibel: float) -> float:
    """Return the factor that changes a level by ``decibel``."""
    return float(10 ** (decibel / 20))


def working_gains(blocks: Iterable[Wave], sample_rate: int) -> tuple[int, Tensor]:
    """Return a signal's length and the gains ``(rows, 1)`` that bring each row to the working level."""
    samples = 0

    def counted() -> Iterator[Wave]:
        nonlocal samples
        for block in blocks:
            samples += block.shape[1]
            yield block

    meter = ActiveLevel()
    for block in resample_blocks(counted(), sample_rate, SAMPLE_RATE):
        meter.add(block)
    raised = [min(WORKING_LEVEL_DB - level, MAX_GAIN_DB) for level in meter.level_db()]
    return samples, torch.tensor([[gain(decibel)] for decibel in raised])


class ActiveLevel:
    """The :func:`active_level_db` of every row of a signal that comes in blocks, however it is cut.

    A frame of a row takes 8 bytes: 1.4 MB an hour.
    """

    def __init__(self) -> None:
        self._powers: list[NDArray[np.float64]] = []
        self._rest: Wave | None = None

    def add(self, block: Wave) -> None:
        """Add the next ``(rows, samples)``."""
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
    active = power[power > power.max() * 10 ** (-SPEECH_RANGE_DB / 10)]
    if not len(active):
        return SILENCE_DB
    return max(10 * math.log10(active.mean()), SILENCE_DB)
